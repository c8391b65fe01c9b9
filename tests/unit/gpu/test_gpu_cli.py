"""`ds01 gpu` as people and programs see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ds01.cli.main import run
from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from lab.nvmlsim import Server
from lab.nvmlsim.testing import MakeServer

ROOT = Path(__file__).parents[3]
Capture = pytest.CaptureFixture[str]
Sleeper = Callable[[], int]


def said(capsys: Capture, *arguments: str, code: int = 0) -> str:
    assert run(["gpu", *arguments]) == code
    return capsys.readouterr().out


def told(capsys: Capture, *arguments: str, code: int = 0) -> Any:
    return json.loads(said(capsys, *arguments, "--json", code=code))


def lines(text: str) -> dict[str, list[str]]:
    """Rows of a table by their first column."""
    return {line.split()[0]: line.split() for line in text.splitlines()}


def test_list_shows_each_device_once(server: Server, capsys: Capture, sleeper: Sleeper) -> None:
    server.attach("0:1", sleeper(), 5 << 30)
    server.attach("1", sleeper(), 20 << 30)
    server.attach("2:1", sleeper(), 5 << 30)
    rows = lines(said(capsys, "list"))
    assert rows.keys() == {"DEVICE", "0:0", "0:1", "0:2", "1", "2:0", "2:1", "2:2", "3"}
    assert rows["0:1"][:8] == ["0:1", "2g.20gb", "5.0", "GiB", "19.5", "GiB", "unsupported", "1"]
    assert rows["1"][6:9] == ["100", "%", "1"]
    # On Hopper that takes two samples 0.1 s apart, which only `show` waits for.
    assert rows["2:1"][6:8] == ["unknown", "1"]
    assert {cells[-1] for name, cells in rows.items() if name != "DEVICE"} == {"ok"}


def test_json_holds_the_same_and_says_what_is_not_measured(server: Server, capsys: Capture, sleeper: Sleeper) -> None:
    pid = sleeper()
    server.attach("0:1", pid, 5 << 30)
    data = told(capsys, "list")
    with Session() as session:
        found = read_inventory(session)
    devices = {device["id"]: device for gpu in data["gpus"] for device in gpu["devices"]}
    assert list(devices) == [device.id for device in found.devices]
    for device in found.devices:
        shown = devices[device.id]
        assert (shown["uuid"], shown["profile"], shown["weight"]) == (device.uuid, device.profile, device.weight)
    part = devices["0:1"]
    assert part["placement"] == {"start": 4, "size": 2}
    assert part["readings"]["utilisation"] == {
        "value": None,
        "state": "unsupported",
        "source": "nvmlGpmMetricsGet: graphics",
    }
    assert [process["pid"] for process in part["processes"]["value"]] == [pid]
    assert (data["complete"], data["unreadable"]) == (True, [])


@pytest.mark.parametrize("name", ["0:1", "1", "uuid", "gpu", "pci", "old"])
def test_show_finds_a_device_by_each_of_its_names(name: str, server: Server, capsys: Capture) -> None:
    with Session() as session:
        found = read_inventory(session)
    part, whole = found.find("0:1"), found.gpus[0]
    old = f"MIG-{part.gpu_uuid}/{part.gi_id}/{part.ci_id}"
    text = {"uuid": part.uuid, "gpu": whole.uuid, "pci": whole.pci_address, "old": old}.get(name, name)
    wanted = {"0:1": ["0:1"], "1": ["1"], "uuid": ["0:1"], "gpu": ["0:0", "0:1", "0:2"], "old": ["0:1"]}
    ids = wanted.get(name, ["0:0", "0:1", "0:2"])
    assert [device["id"] for device in told(capsys, "show", text)["devices"]] == ids
    shown = said(capsys, "show", text)
    assert [line.split()[1].rstrip(":") for line in shown.splitlines() if line.startswith("Device ")] == ids
    assert "W of 400 W" in shown
    assert server.state()["driver_loaded"]


def test_show_waits_until_it_is_known_how_busy_a_device_is(server: Server, capsys: Capture, sleeper: Sleeper) -> None:
    server.attach("2:1", sleeper(), 5 << 30)
    for name, busy in ("2:1", "100 %"), ("2:0", "0 %"):
        (row,) = (line for line in said(capsys, "show", name).splitlines() if line.strip().startswith("Busy"))
        assert row.split(maxsplit=1)[1] == busy


@pytest.mark.parametrize("verb", ["show", "processes"])
@pytest.mark.parametrize("name", ["9", "0:7", "MIG-00000000-0000-0000-0000-000000000000", "gpu0", ""])
@pytest.mark.usefixtures("server")
def test_an_unknown_device_is_exit_code_5_with_those_there_are(verb: str, name: str, capsys: Capture) -> None:
    assert run(["gpu", verb, name]) == 5
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "there are: 0:0, 0:1, 0:2, 1, 2:0" in shown.err


def test_processes_are_shown_with_owner_and_memory(server: Server, capsys: Capture, sleeper: Sleeper) -> None:
    first, second = sleeper(), sleeper()
    server.attach("0:1", first, 5 << 30)
    server.attach("3", second, 6 << 30)
    rows = said(capsys, "processes").splitlines()
    assert rows[0].split() == ["DEVICE", "PID", "MEMORY", "OWNER", "KIND", "COMMAND"]
    assert [row.split()[:4] for row in rows[1:]] == [
        ["0:1", str(first), "5.0", "GiB"],
        ["3", str(second), "6.0", "GiB"],
    ]
    assert rows[1].endswith("sleep")
    (entry,) = told(capsys, "processes", "0:1")["devices"]
    (process,) = entry["processes"]
    assert (process["pid"], process["memory"]["value"]) == (first, 5 << 30)
    assert process["origin"]["real_uid"] == os.getuid()
    assert process["owner"]
    assert [entry["id"] for entry in told(capsys, "processes", "0")["devices"]] == ["0:0", "0:1", "0:2"]
    assert said(capsys, "processes", "0:0") == "No process uses a GPU.\n"


def test_memory_that_nobody_holds_is_said(server: Server, capsys: Capture) -> None:
    server.leak("1", 9 << 30)
    assert run(["gpu", "processes"]) == 0
    assert "note: device 1: 9.0 GiB are in use by no process" in capsys.readouterr().err


def test_health_is_an_exit_code_and_a_fix(server: Server, capsys: Capture) -> None:
    assert said(capsys, "health").splitlines() == [f"GPU {index}: ok" for index in range(4)]
    assert told(capsys, "health")["well"]
    server.fault(1, "ecc-uncorrected", 2)
    server.fault(3, "lost", 1)
    shown = said(capsys, "health", code=1)
    assert "GPU 1: unhealthy\n  2 uncorrectable memory errors" in shown
    assert "GPU 3: unhealthy" in shown
    assert shown.count("    fix: ") == 2
    states = {gpu["gpu_index"]: gpu["state"] for gpu in told(capsys, "health", code=1)["gpus"]}
    assert states == {0: "ok", 1: "unhealthy", 2: "ok", 3: "unhealthy"}


def test_a_lost_gpu_takes_nothing_else_from_the_list(server: Server, capsys: Capture) -> None:
    server.fault(0, "lost", 1)
    assert run(["gpu", "list"]) == 0
    shown = capsys.readouterr()
    assert "GPU 0: GPU is lost" in shown.err
    assert lines(shown.out).keys() == {"DEVICE", "1", "2:0", "2:1", "2:2", "3"}
    data = told(capsys, "list")
    assert not data["complete"]
    assert [gpu["gpu_index"] for gpu in data["unreadable"]] == [0]


@pytest.mark.parametrize("verb", ["list", "processes", "health"])
def test_a_driver_without_gpus_is_no_error(verb: str, nvml_server: MakeServer, capsys: Capture) -> None:
    nvml_server([])
    assert said(capsys, verb).startswith(("There are no GPUs", "No process uses a GPU"))


@pytest.mark.usefixtures("server")
def test_help_of_every_verb_needs_no_nvml() -> None:
    script = (
        "import sys; from ds01.cli.main import run\n"
        "for verb in ('list', 'show', 'processes', 'health'): assert run(['gpu', verb, '--help']) == 0\n"
        "print('pynvml' in sys.modules, 'pydantic' in sys.modules, file=sys.stderr)\n"
        "assert run(['gpu', 'list']) == 0\n"
        "print('pydantic' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["False", "False", "False"]


def test_the_module_returns_what_the_inventory_has(server: Server) -> None:
    server.fault(3, "lost", 1)
    command = [Path(sys.executable).parent / "ansible", "localhost", "--inventory=localhost,"]
    command += ["--module-name", "ds01_gpu_info", "--check"]
    command += ["--extra-vars", f"ansible_connection=local ansible_python_interpreter={sys.executable}"]
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(command, env=os.environ | settings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
    assert (data["available"], data["complete"], data["changed"], data["reason"]) == (True, False, False, "")
    assert [device["id"] for device in data["devices"]] == ["0:0", "0:1", "0:2", "1", "2:0", "2:1", "2:2"]
    assert data["devices"][1]["placement"] == {"start": 4, "size": 2}
    assert [(gpu["index"], gpu["mig_enabled"]) for gpu in data["gpus"]] == [(0, True), (1, False), (2, True)]
    assert data["models"] == ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"]
    assert [(problem["kind"], problem["gpu_index"]) for problem in data["problems"]] == [("lost", 3)]
    assert data["driver_version"]
