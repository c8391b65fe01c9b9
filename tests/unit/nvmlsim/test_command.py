"""The command `nvmlsim`, and the specification that its `nvidia-ctk` writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pynvml
import pytest

from lab.nvmlsim import toolkit
from lab.process import ROOT


def nvmlsim(*arguments: str | int, code: int = 0) -> str:
    command = [sys.executable, "-m", "lab.nvmlsim", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def created(nvml_server):
    """A server of two GPUs, the first divided."""
    return nvml_server(["A100-80", "H100-80"], {0: ["3g.40gb", ("2g.20gb", 4)]})


@pytest.mark.usefixtures("nvml_server")
def test_what_it_makes_is_what_it_lists_and_what_nvml_shows():
    nvmlsim("create", "A100-80", "H100-80", "--layout", "0=3g.40gb,2g.20gb@4")
    state = json.loads(nvmlsim("list", "--json"))
    assert [(gpu["model"], gpu["mig"]) for gpu in state["gpus"]] == [("A100-80", True), ("H100-80", False)]
    listed = [(it["profile"], it["start"]) for it in state["gpus"][0]["instances"]]
    assert listed == [("3g.40gb", 0), ("2g.20gb", 4)]
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    for index, instance in enumerate(state["gpus"][0]["instances"]):
        device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        assert pynvml.nvmlDeviceGetUUID(device) == instance["compute"][0]["uuid"]
        assert instance["compute"][0]["uuid"] in nvmlsim("list")


@pytest.mark.usefixtures("created")
def test_processes_come_and_go(process):
    pid = process().pid
    nvmlsim("attach", "0:1", pid, "--memory", 300, "--load", "0:80,1000:20", "--loop", 2000)
    assert f"process {pid}  compute  300 MiB  80 %" in nvmlsim("list")
    nvmlsim("clock", "--jump", 1000)
    assert "300 MiB  20 %" in nvmlsim("list")
    nvmlsim("detach", pid)
    assert "process" not in nvmlsim("list")
    nvmlsim("leak", "0:1", 100)
    assert "nobody  100 MiB" in nvmlsim("list")
    nvmlsim("detach", 0)
    assert "nobody" not in nvmlsim("list")


@pytest.mark.usefixtures("created")
def test_things_happen_to_gpus():
    nvmlsim("fault", 1, "lost", 1)
    assert "LOST" in nvmlsim("list")
    nvmlsim("fault", 1, "lost", 0)
    nvmlsim("xid", "0:1", 31)
    nvmlsim("driver", "unload")
    assert "the driver is not loaded" in nvmlsim("list")
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()
    nvmlsim("driver", "load")
    pynvml.nvmlInit()
    pynvml.nvmlShutdown()
    nvmlsim("reset", 0)
    assert "3g.40gb" not in nvmlsim("list")


@pytest.mark.usefixtures("nvml_server")
def test_boot_makes_a_server_once_and_reboots_it_after_that(tmp_path):
    state = tmp_path / "nvmlsim-state"
    # With nodes, as a host boots, only where that is allowed: the file alone is what this test looks at.
    nvmlsim("create", "A100-80", "--layout", "0=1g.10gb")
    before = json.loads(nvmlsim("list", "--json"))["gpus"][0]
    nvmlsim("boot", "H100-80")
    after = json.loads(nvmlsim("list", "--json"))["gpus"][0]
    assert (after["uuid"], after["mig"], after["instances"]) == (before["uuid"], True, [])
    assert state.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["attach", "9", "1"], 1, "9: no such device"),
        (["attach", "1", "4194400"], 1, "4194400: no such process"),
        (["attach", "0", str(os.getpid())], 1, "0: is in MIG mode: name one of its instances"),
        (["attach", "1", str(os.getpid()), "--memory", "90000"], 1, "1: out of memory"),
        (["attach", "1", str(os.getpid()), "--load", "101"], 1, "101: a load is 0 to 100 percent"),
        (["attach", "1", str(os.getpid()), "--load", "5:1"], 1, "begin with 0 and rise"),
        (["attach", "1", str(os.getpid()), "--load", "much"], 2, "'much': PERCENT or SECONDS:PERCENT"),
        (["detach", "1"], 1, "process 1 holds nothing"),
        (["fault", "7", "lost", "1"], 1, "7: no such GPU, there are 2"),
        (["fault", "0", "tired", "1"], 2, "invalid choice: 'tired'"),
        (["create", "A100-81"], 2, "invalid choice: 'A100-81'"),
        (["create", "A100-80", "--layout", "0=9g.1gb"], 1, "9g.1gb: not a profile of A100-80"),
        (["create", "A100-80", "--layout", "0=4g.40gb@2"], 1, "GPU 0: 4g.40gb does not fit there"),
        (["create", "A100-80", "--layout", "first=4g.40gb"], 2, "GPU=PROFILE[@START],... is expected"),
        (["clock", "--jump", "-3"], 1, "time only goes forward"),
    ],
)
@pytest.mark.usefixtures("created")
def test_what_is_wrong_is_said(arguments, code, words):
    assert words in nvmlsim(*arguments, code=code)


@pytest.mark.usefixtures("nvml_server")
def test_without_a_server_it_says_how_to_make_one():
    assert "create one first" in nvmlsim("list", code=1)
    assert "create one first" in nvmlsim("reboot", code=1)


def test_a_device_is_its_gpu_and_its_two_capabilities(nvml_server):
    server = nvml_server(["A100-80", "A100-80"], {1: ["3g.40gb", "3g.40gb"]})
    state = server.state()
    spec = toolkit.specification(state)
    nodes = {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]] for device in spec["devices"]
    }
    assert nodes["0"] == nodes[state["gpus"][0]["uuid"]] == ["/dev/nvidia0"]
    assert nodes["1"] == ["/dev/nvidia1"]
    first, second = nodes["1:0"], nodes["1:1"]
    assert first[0] == second[0] == "/dev/nvidia1"
    assert len({*first[1:], *second[1:]}) == 4
    assert set(nodes["all"]) == {path for name, paths in nodes.items() if name != "all" for path in paths}
    assert nodes[server.device_uuid("1:1")] == second


def test_devices_are_named_as_asked(nvml_server):
    state = nvml_server(["A100-80"], {0: ["1g.10gb"]}).state()
    names = [device["name"] for device in toolkit.specification(state, ["index"])["devices"]]
    assert names == ["0", "0:0", "all"]
    names = [device["name"] for device in toolkit.specification(state, ["uuid"])["devices"]]
    assert names == [state["gpus"][0]["uuid"], state["gpus"][0]["instances"][0]["compute"][0]["uuid"], "all"]
