"""Programs that know nothing of us read the simulated GPUs: on this machine, and on a lab host with several people."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.nvmlsim import build
from lab.testhost import LabHost

BIN = Path(sys.executable).parent
GPUS = ["A100-80", "A100-80", "H100-80", "A100-40"]
LAYOUTS = {0: ["3g.40gb", "2g.20gb", ("1g.10gb", 6)], 2: ["2g.20gb", "2g.20gb"]}
DEVICES = ("0:0", "0:1", "1", "2:1", "3")
# What the lab's hosts have unless a test changes it.
USUAL = "A100-80 A100-80 A100-80 A100-80"


def rows(nvitop: str) -> set[tuple[str, int, str]]:
    """Device, process and user of each process that nvitop shows."""
    found = re.findall(r"^\|\s+(\d(?::\d)?)\s+(\d+) [CG]\s+(\S+)\s", nvitop, re.MULTILINE)
    return {(device, int(pid), user) for device, pid, user in found}


def instances(nvitop: str) -> dict[str, str]:
    """Profile of each MIG device that nvitop shows."""
    return dict(re.findall(r"^\|\s+(\d:\d)\s+(\S+) @ GI/CI", nvitop, re.MULTILINE))


def gpustat_processes(text: str) -> set[tuple[int, int, str]]:
    """GPU, process and user of each process that gpustat shows."""
    gpus = json.loads(text)["gpus"]
    return {(gpu["index"], it["pid"], it["username"]) for gpu in gpus for it in gpu["processes"]}


def run(*command: str) -> str:
    return subprocess.check_output([BIN / command[0], *command[1:]], text=True, stderr=subprocess.STDOUT)


def test_nvitop_gpustat_and_ds01_agree(nvml_server, monkeypatch):
    nvml_server(GPUS, LAYOUTS)
    monkeypatch.setenv("TERM", "dumb")
    with ExitStack() as stack:
        pids = {}
        for device in DEVICES:
            command = [build.FAKECUDA, "--device", device, "--memory", "1500"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            pids[device] = process.pid
        nvitop = run("nvitop", "--once", "--ascii")
        assert {(device, pid) for device, pid, _ in rows(nvitop)} == set(pids.items())
        seen = {(gpu, pid) for gpu, pid, _ in gpustat_processes(run("gpustat", "--json"))}
        assert seen == {(int(device[0]), pid) for device, pid in pids.items()}
        ours = json.loads(run("ds01", "gpu", "processes", "--json"))["devices"]
        assert {(it["id"], one["pid"]) for it in ours for one in it["processes"]} == set(pids.items())
        listed = json.loads(run("ds01", "gpu", "list", "--json"))["gpus"]
        devices = {it["id"]: it["profile"] for gpu in listed for it in gpu["devices"]}
        assert instances(nvitop) == {name: profile for name, profile in devices.items() if ":" in name}
        assert {name for name in devices if ":" not in name} == {"1", "3"}


@pytest.fixture(scope="module")
def gpu_host(lab_host: LabHost) -> Iterator[LabHost]:
    """The host with the readers in /opt/readers, two people, and an engine that resolves device names."""
    import importlib.util  # noqa: PLC0415  # only to find what to copy

    lab_host.sh("mkdir -p /opt/readers")
    for name in ("nvitop", "gpustat", "psutil", "blessed", "jinxed", "wcwidth", "pynvml"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        lab_host.copy(origin.parent if origin.name == "__init__.py" else origin, "/opt/readers/")
    before = lab_host.sh("cat /etc/docker/daemon.json || echo '{}'")
    cdi = json.dumps({**json.loads(before), "features": {"cdi": True}})
    lab_host.write("/etc/docker/daemon.json", cdi)
    lab_host.sh("useradd -m gpu-a; useradd -m gpu-b; systemctl reset-failed docker; systemctl restart docker.service")
    yield lab_host
    lab_host.sh(f"nvmlsim create {USUAL} --nodes; rm -f /etc/cdi/nvidia.yaml; userdel -r gpu-a; userdel -r gpu-b")
    lab_host.write("/etc/docker/daemon.json", before)
    lab_host.sh("systemctl reset-failed docker; systemctl restart docker.service; rm -r /opt/readers")


@pytest.fixture
def mixed(gpu_host: LabHost) -> LabHost:
    """The host with a server of mixed GPUs, and the specification of its devices."""
    layouts = "--layout 0=3g.40gb,2g.20gb,1g.10gb@6 --layout 2=2g.20gb,2g.20gb"
    gpu_host.sh(
        f"nvmlsim create {' '.join(GPUS)} {layouts} --nodes; nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    )
    return gpu_host


def read(host: LabHost, *command: str) -> str:
    return host.sh(f"cd /opt/readers; TERM=dumb python3 -m {' '.join(command)}")


def docker_run(device: str, *options: str) -> list[str]:
    """The beginning of a command for a container that has the host's Python and, of its devices, this one."""
    mounts = ("-v/usr:/usr:ro", "-v/usr/lib:/lib:ro", "-v/usr/lib64:/lib64:ro", "-v/opt/readers:/opt/readers:ro")
    given = [f"--device=nvidia.com/gpu={device}"] if device else []
    around = ("--workdir=/opt/readers", "--env=TERM=dumb", "--env=PATH=/usr/bin:/bin")
    return ["docker", "run", *options, *given, *mounts, *around, "ds01-lab/base"]


def test_each_process_is_shown_with_its_device_and_its_person(mixed):
    people = {"0:0": "gpu-a", "0:1": "gpu-b", "1": "root", "2:1": "gpu-a", "3": "gpu-b"}
    units = [f"reader-{device.replace(':', '-')}" for device in people]
    try:
        for unit, (device, person) in zip(units, people.items(), strict=True):
            mixed.sh(f"systemd-run -q --unit={unit} --uid={person} fakecuda --device {device} --memory 1500")
        pids = {}
        for unit, device in zip(units, people, strict=True):
            pids[device] = int(mixed.sh(f"systemctl show -P MainPID {unit}"))
        mixed.sh("until [ $(nvmlsim list | grep -c process) = 5 ]; do sleep 0.1; done")
        nvitop = read(mixed, "nvitop", "--once", "--ascii")
        assert rows(nvitop) == {(device, pids[device], person) for device, person in people.items()}
        assert instances(nvitop) == {
            "0:0": "3g.40gb",
            "0:1": "2g.20gb",
            "0:2": "1g.10gb",
            "2:0": "2g.20gb",
            "2:1": "2g.20gb",
        }
        for model in ("A100-SXM4-80GB", "H100 80GB HBM3", "A100-SXM4-40GB"):
            assert model in nvitop
        seen = gpustat_processes(read(mixed, "gpustat", "--json"))
        assert seen == {(int(device[0]), pids[device], person) for device, person in people.items()}
    finally:
        mixed.sh(f"systemctl stop {' '.join(units)}")
    assert rows(read(mixed, "nvitop", "--once", "--ascii")) == set()


LOOK = """
import json, pynvml
pynvml.nvmlInit()
seen = []
for index in range(pynvml.nvmlDeviceGetCount()):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    devices = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            devices.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number))
        except pynvml.NVMLError_NotFound:
            continue
    seen.append({
        "gpu": pynvml.nvmlDeviceGetUUID(gpu),
        "devices": [pynvml.nvmlDeviceGetUUID(device) for device in devices],
        "pids": [it.pid for device in devices for it in pynvml.nvmlDeviceGetComputeRunningProcesses(device)],
    })
    if devices:
        try:
            pynvml.nvmlDeviceGetMemoryInfo(gpu)
        except pynvml.NVMLError_NoPermission:
            seen[-1]["sum"] = "refused"
        try:
            pynvml.nvmlDeviceCreateGpuInstance(gpu, 19)
        except pynvml.NVMLError_NoPermission:
            seen[-1]["layout"] = "refused"
print(json.dumps(seen))
"""


def test_a_container_sees_exactly_the_instance_that_it_was_given(mixed):
    gpu = json.loads(mixed.sh("nvmlsim list --json"))["gpus"][0]
    instance = next(it for it in gpu["instances"] if it["profile"] == "2g.20gb")
    # A neighbour on another instance of the same GPU, which must not be seen.
    mixed.sh("systemd-run -q --unit=reader-neighbour fakecuda --device 0:0")
    mixed.write("/opt/readers/look.py", LOOK)
    container = docker_run("0:1", "-d", "--name=reader-job")
    try:
        mixed.run(*container, "fakecuda", "--memory", "700")
        mixed.sh("until [ $(nvmlsim list | grep -c process) = 2 ]; do sleep 0.1; done")
        pid = int(mixed.sh("docker inspect --format '{{.State.Pid}}' reader-job"))
        (seen,) = json.loads(mixed.sh("docker exec reader-job python3 look.py"))
        assert (seen["gpu"], seen["devices"]) == (gpu["uuid"], [instance["compute"][0]["uuid"]])
        # The host's number of the process, whose own is 1: as on real systems.
        assert seen["pids"] == [pid]
        assert (seen["sum"], seen["layout"]) == ("refused", "refused")
        assert instances(mixed.sh("docker exec reader-job python3 -m nvitop --once --ascii")) == {"0:0": "2g.20gb"}
        mixed.sh("docker kill --signal=KILL reader-job; docker wait reader-job")
        assert mixed.sh("nvmlsim list").count("process") == 1
    finally:
        mixed.sh("systemctl stop reader-neighbour; docker rm --force reader-job")


def test_a_name_that_does_not_exist_starts_nothing(mixed):
    done = mixed.run(*docker_run("0:3", "--rm"), "echo", "started", check=False)
    assert done.returncode == 125
    assert "started" not in done.stdout
    assert "nvidia.com/gpu=0:3" in done.stderr


def test_without_a_device_there_is_no_gpu(mixed):
    mixed.write("/opt/readers/look.py", LOOK)
    done = mixed.run(*docker_run("", "--rm"), "python3", "look.py", check=False)
    assert done.returncode != 0
    assert "NVMLError_DriverNotLoaded" in done.stderr


def test_who_is_not_root_sees_instances_but_no_sum_and_changes_nothing(mixed):
    mixed.write("/opt/readers/look.py", LOOK)
    seen = json.loads(mixed.sh("cd /opt/readers; runuser -u gpu-a -- python3 look.py"))
    assert [len(gpu["devices"]) for gpu in seen] == [3, 0, 2, 0]
    assert {gpu.get(key) for gpu in seen if gpu["devices"] for key in ("sum", "layout")} == {"refused"}


def test_every_device_of_the_host_is_in_the_specification(mixed):
    names = set(mixed.sh("nvidia-ctk cdi list").split())
    state = json.loads(mixed.sh("nvmlsim list --json"))
    uuids = {gpu["uuid"] for gpu in state["gpus"]}
    uuids |= {it["uuid"] for gpu in state["gpus"] for one in gpu["instances"] for it in one["compute"]}
    short = {"0", "1", "2", "3", "0:0", "0:1", "0:2", "2:0", "2:1", "all"}
    assert names == {f"nvidia.com/gpu={name}" for name in short | uuids}
    assert "version 1." in mixed.sh("nvidia-ctk --version")
    given = [f"--device={name}" for name in sorted(names)]
    mixed.run("docker", "run", "--rm", *given, "ds01-lab/base", "true")


def test_a_reboot_takes_the_instances_and_leaves_the_gpus(mixed):
    before = json.loads(mixed.sh("nvmlsim list --json"))["gpus"]
    mixed.reboot()
    after = json.loads(mixed.sh("nvmlsim list --json"))["gpus"]
    assert [gpu["uuid"] for gpu in after] == [gpu["uuid"] for gpu in before]
    assert [gpu["mig"] for gpu in after] == [True, False, False, False]
    assert [gpu["instances"] for gpu in after] == [[], [], [], []]
    nodes = mixed.sh("ls /dev/nvidia-caps").split()
    assert nodes == ["nvidia-cap1", "nvidia-cap2"]
    assert mixed.sh("ls /dev/nvidia[0-9]*").split() == [f"/dev/nvidia{index}" for index in range(4)]
