"""Many processes on one state, some of which are killed in the middle of something."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time

import pynvml
import pytest

from lab.nvmlsim import NvmlsimError, build

# Claims and gives back in a loop, until it is killed or `count` rounds are done.
USE = """
import os, sys
from pathlib import Path
from lab.nvmlsim import NvmlsimError, Server, build
server = Server(Path(os.environ["NVMLSIM_STATE"]), build.LIBRARY)
print(flush=True)
for _ in range(int(sys.argv[1])):
    server.attach("0", os.getpid(), 1 << 20)
    server.detach(os.getpid())
"""
# Makes and removes instances; where another was faster, its place is taken.
SLICE = """
import ctypes, sys
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
print(flush=True)
made = 0
for _ in range(int(sys.argv[1])):
    try:
        instance = pynvml.nvmlDeviceCreateGpuInstance(gpu, 14)
    except pynvml.NVMLError_InsufficientResources:
        continue
    compute = pynvml.nvmlGpuInstanceCreateComputeInstance(instance, 1)
    made += 1
    pynvml.nvmlComputeInstanceDestroy(compute)
    pynvml.nvmlGpuInstanceDestroy(instance)
print(made)
"""


def start(script, count=10**9):
    process = subprocess.Popen([sys.executable, "-c", script, str(count)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def places(server):
    """The instances of GPU 0 as sets of memory slices."""
    return [
        set(range(instance["start"], instance["start"] + instance["size"]))
        for instance in server.state()["gpus"][0]["instances"]
    ]


def assert_sound(server):
    found = places(server)
    assert sum(map(len, found)) == len(set().union(*found))


def test_changes_of_many_processes_are_all_made(nvml_server):
    server = nvml_server(["A100-80"])
    users = [start(USE, 300) for _ in range(6)]
    for user in users:
        assert user.wait(300) == 0
    assert server.state()["gpus"][0]["processes"] == []


def test_a_driver_that_hangs_answers_once_it_wakes(nvml_server):
    server = nvml_server(["A100-80"])
    count = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
    server.hang_driver()
    with subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        # Whoever drives the simulator is not kept.
        assert len(server.state()["gpus"]) == 1
        server.hang_driver(hangs=False)
        assert waiting.communicate(timeout=60)[0] == b"1\n"
    server.unload_driver()
    with pytest.raises(NvmlsimError, match="not loaded"):
        server.hang_driver()


def test_instances_never_overlap_whoever_makes_them(nvml_server):
    server = nvml_server(["A100-80"], {0: []})
    makers = [start(SLICE, 400) for _ in range(4)]
    while any(maker.poll() is None for maker in makers):
        assert_sound(server)
    assert [maker.returncode for maker in makers] == [0] * 4
    assert all(int(maker.communicate()[0]) > 0 for maker in makers)
    assert places(server) == []


def test_who_dies_with_the_lock_does_not_keep_it(nvml_server):
    server = nvml_server(["A100-80"])
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 1)\n"
        "print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, server.path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with subprocess.Popen([sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"]) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            holder.kill()
            assert waiting.wait(60) == 0


@pytest.mark.parametrize("script", [USE, SLICE])
def test_who_is_killed_anywhere_leaves_a_sound_server(nvml_server, script):
    server = nvml_server(["A100-80"], {0: []} if script is SLICE else None)
    chance = random.Random(0)  # noqa: S311  # when to kill is no secret
    for _ in range(8):
        victims = [start(script), start(script)]
        time.sleep(chance.uniform(0, 0.05))
        for victim in victims:
            victim.kill()
            victim.wait(60)
        assert_sound(server)
        assert server.state()["gpus"][0]["processes"] == []
    # What was left half-way can be taken away, and everything works as before.
    server.set_mig(0, enabled=True)
    for _ in range(3):
        server.add_instance(0, "2g.20gb")
    assert len(places(server)) == 3


def test_a_child_of_fork_has_nvml_and_leaves_the_parent_its_session(nvml_server):
    nvml_server(["A100-80"])
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if pynvml.nvmlDeviceGetUUID(gpu) else 1
            pynvml.nvmlShutdown()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    script = (
        "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceSetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0), 1))"
    )
    # The parent's session is still there: it keeps the GPU from changing its mode.
    said = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert int(said) == pynvml.NVML_ERROR_IN_USE


def test_a_server_made_anew_is_the_same_file_for_who_has_it(nvml_server):
    server = nvml_server(["A100-80"])
    inode = server.path.stat().st_ino
    nvml_server(["H100-80", "H100-80"])
    assert server.path.stat().st_ino == inode
    assert [gpu["model"] for gpu in server.state()["gpus"]] == ["H100-80", "H100-80"]


def test_a_file_of_another_build_is_not_believed(nvml_server):
    server = nvml_server(["A100-80"])
    with server.path.open("r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1)
        file.seek(8)
        file.write(b"\0" * 8)
    pynvml_call = "import pynvml; pynvml.nvmlInit()"
    done = subprocess.run([sys.executable, "-c", pynvml_call], capture_output=True, text=True, check=False)
    assert "NVMLError_LibRmVersionMismatch" in done.stderr
    with pytest.raises(NvmlsimError):
        nvml_server([]).add_gpu("A100-81")


def test_fakecuda_ends_at_once_when_asked(nvml_server, fakecuda):
    server = nvml_server(["A100-80"], {0: ["2g.20gb", "1g.10gb"]})
    with fakecuda("--memory", "100", "--load", "40") as running:
        (part,) = server.state()["gpus"][0]["instances"][0]["compute"]
        assert [(entry["pid"], entry["load"]) for entry in part["processes"]] == [(running.pid, 40.0)]
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    assert server.state()["gpus"][0]["holders"] == []


def test_fakecuda_takes_the_device_that_cuda_would(nvml_server, fakecuda, monkeypatch):
    server = nvml_server(["A100-80", "A100-80"], {0: ["2g.20gb", "1g.10gb"]})
    uuid = server.device_uuid("0:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{uuid},1")
    with fakecuda() as running:
        assert running.device == uuid
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with fakecuda() as running:
        assert running.device == server.device_uuid("1")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--load", "150"], 1), (["--load", "x"], 2), (["--memory", "-1"], 2), (["--device", "9:9"], 1), (["more"], 2)],
)
def test_fakecuda_says_what_is_wrong(nvml_server, arguments, code):
    nvml_server(["A100-80"])
    done = subprocess.run([build.FAKECUDA, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("fakecuda: ")
