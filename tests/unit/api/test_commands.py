"""The commands of people who are not root: what they print on 80 columns, and when nobody answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ds01 import events
from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.cli.gpu import common
from ds01.cli.main import run
from ds01.engine.api import Engine
from ds01.host.names import THIN
from ds01.ledger import Ledger
from ds01.ledger.leases import bind, start
from ds01.monitor import history
from ds01.policy import Policy
from tests.unit.api.samples import keep, sample
from tests.unit.api.served import LONG, POLICY, Server, handler
from tests.unit.ledger.conftest import path

__all__ = ["path"]
DS01 = Path(sys.executable).with_name("ds01")
Ds01 = Callable[..., str]


@pytest.fixture
def ds01(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> Iterator[Ds01]:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    access = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: file != events.EVENTS_FILE and access(file, mode))
    monkeypatch.setenv("DS01_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("COLUMNS", "80")
    server = Server(str(tmp_path / "s"), handler(path, Asker(5, "games", admin=False, via="docker.sock")))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def call(*arguments: str, code: int = 0) -> str:
        found = run(list(arguments))
        out, err = capfd.readouterr()
        assert found == code, (out, err)
        # Events and findings are whole lines, as those of any log.
        assert arguments[0] in {"events", "health"} or max(map(len, out.splitlines()), default=0) <= 80, out
        return out + err

    yield call
    server.shutdown()
    server.server_close()


@pytest.fixture
def _held(path: Path) -> None:
    """One device is of somebody with a long name, one of `games`, whose container runs on it."""
    tables = Policy.model_validate(POLICY).tables
    with Ledger(path) as ledger:
        desk = Desk(tables, ledger, specs=False, engine=Engine(path / "none"))
        for uid, user, device in ((7, LONG, "1:0"), (5, "games", "1:1")):
            body: dict[str, Any] = {"request": {"devices": [device], "count": 1}}
            given = resources.answer(desk, Asker(uid, user, admin=False, via=""), "POST", ["leases"], body=body)
            with ledger.transaction() as tx:
                bind(tx, given["token"], f"c{uid}", f"train._.{uid}")
                start(tx, given["token"])


@pytest.mark.usefixtures("_held")
def test_status_on_80_columns(ds01: Ds01):
    assert ds01("status").splitlines() == [
        "games, group student",
        "  containers: 0 of 3, 3 left",
        "  GPU devices: 1 of 2, 1 left",
        "DEVICE  PROFILE  STATE  HOLDER                         CONTAINER  LEASE    UNTIL",
        "0       full     ok     -                              -          -        -",
        "1:0     2g.20gb  ok     228755.very-long-name@studen~  -          running  -",
        "1:1     2g.20gb  ok     games                          train      running  -",
        "1:2     2g.20gb  ok     -                              -          -        -",
    ]


@pytest.mark.usefixtures("_held")
def test_what_people_ask_about_themselves(ds01: Ds01):
    assert "holds 1:1 (2g.20gb): train" in ds01("gpu", "user-status")
    assert f"  1:0: {LONG} holds 1:0\n" in ds01("gpu", "why", "--device", "1:0", code=4)
    assert "train\n  asked for device 1:1; holds 1:1 (running)\n" in ds01("why", "train")
    assert "is not you" in ds01("gpu", "user-status", LONG, code=3)
    assert "train runs on it" in ds01("gpu", "release", "train", code=3).replace("train._.5", "train")
    assert "no container with GPUs has that name" in ds01("gpu", "release", "c7", code=5)
    assert "only administrators reserve" in ds01("gpu", "reserve", "0", "--user", "games", "--for", "1h", code=3)
    assert ds01("gpu", "queue") == "nobody waits\n"
    assert ds01("reservation", "list") == "nothing is reserved\n"
    assert "only root" in ds01("gpu", "status", "--policy", "/nothing.yaml", code=2)


@pytest.fixture
def _closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that this login may not open, and what the monitor saw through it."""
    control = tmp_path / "nvidiactl"
    control.touch()
    access = os.access
    monkeypatch.setattr(common, "_CONTROL", control)
    monkeypatch.setattr(os, "access", lambda file, mode: file != control and access(file, mode))
    monkeypatch.setattr(history, "HISTORY", tmp_path / "monitor" / "samples.db")
    keep(history.HISTORY, sample())


@pytest.mark.usefixtures("_held", "_closed")
def test_devices_that_are_closed_to_a_login_are_told_by_the_gateway(ds01: Ds01):
    listed = [re.split(" {2,}", line) for line in ds01("gpu", "list").splitlines()]
    # On 80 columns some cells are cut.
    assert [[cell[:8] for cell in row[:6]] for row in listed[1:]] == [
        ["0", "full", "2.0 GiB", "80.0 GiB", "95 %", "1"],
        ["1:0", "2g.20gb", "0.0 GiB", "20.0 GiB", "3 %", "0"],
        ["1:1", "2g.20gb", "3.0 GiB", "20.0 GiB", "unsuppor", "1"],
        ["1:2", "2g.20gb", "unknown", "20.0 GiB", "unknown", "unknown"],
    ]
    shown = ds01("gpu", "show", "1:1").splitlines()
    assert (shown[0], shown[2]) == ("GPU 1: NVIDIA A100-SXM4-80GB", "Device 1:1: 2g.20gb")
    assert [line.split(maxsplit=2)[2] for line in shown if "Memory used" in line] == ["3.0 GiB of 20.0 GiB"]
    assert not [line for line in shown if "None" in line]
    data = json.loads(ds01("gpu", "list", "--json"))
    parts = {device["id"]: device for gpu in data["gpus"] for device in gpu["devices"]}
    assert parts["1:2"]["readings"]["memory_used"]["state"] == "unknown"
    assert parts["1:1"]["readings"]["utilisation"]["state"] == "unsupported"
    # Somebody else's process: that there is one, and no more.
    assert "jupyter" not in json.dumps(data)
    whole = json.loads(ds01("gpu", "show", "GPU-1", "--json"))
    assert [device["id"] for device in whole["devices"]] == ["1:0", "1:1", "1:2"]
    assert "there are: 0, 1:0, 1:1, 1:2" in ds01("gpu", "show", "9", code=5)


@pytest.mark.usefixtures("_closed")
def test_closed_devices_and_no_gateway_is_one_sentence_that_says_where_to_look(
    ds01: Ds01, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DS01_SOCKET", str(tmp_path / "nothing"))
    for verb in (["list"], ["show", "0"], ["processes"]):
        assert "closed to your login: `ds01 dashboard --once` shows each device" in ds01("gpu", *verb, code=3)


def test_a_refusal_is_explained_by_its_id(ds01: Ds01):
    who = {"uid": 5, "user": "games", "via": "gateway"}
    number = events.record(
        "gateway.refuse", actor=who, subject={"kind": "container", "name": "x"}, decision="refused", rule="binds",
        reason="/etc cannot be bound \x1b[2J", fix="bind a directory below your home",
    )  # fmt: skip
    events.record("gateway.refuse", actor={"uid": 6, "user": "mail"}, decision="refused", reason="of another one")
    said = ds01("events", "why", number)
    assert "cannot be bound ?[2J" in said
    assert "\n  fix: bind a directory below your home\n" in said
    assert ds01("why", number) == said
    assert json.loads(ds01("events", "why", number, "--json"))["id"] == number
    assert number in ds01("events")
    assert "of another one" not in ds01("events")
    assert "nothing is known" in ds01("why", "no-such", code=5)


def test_a_gateway_that_does_not_answer_is_one_sentence(ds01: Ds01, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DS01_SOCKET", str(tmp_path / "nothing"))
    for command in (["status"], ["gpu", "queue"], ["events"], ["why", "x"], ["health"]):
        said = ds01(*command, code=2 if command == ["health"] else 1)
        assert said.count("the DS01 gateway does not answer (No such file or directory)") == 1, said


@pytest.mark.parametrize("name", THIN)
def test_a_thin_name_is_the_command(name: str, tmp_path: Path):
    (tmp_path / name).symlink_to(DS01)
    said = subprocess.run([tmp_path / name, "--help"], capture_output=True, text=True, check=True).stdout
    asked = subprocess.run([DS01, *THIN[name], "--help"], capture_output=True, text=True, check=True).stdout
    begin, usage, rest = asked.partition(f"Usage: ds01 {' '.join(THIN[name])} ")
    assert (begin, bool(usage)) == ("", True)
    # Help is wrapped at the width of its first line, which is another one here.
    assert said.split() == f"Usage: {name} {rest}".split()


@pytest.mark.parametrize(
    "module",
    ["ds01.cli.status", "ds01.cli.why", "ds01.cli.client", "ds01.cli.gpu.queue", "ds01.cli.container.make"],
)
def test_who_only_asks_waits_for_nothing_else(module: str):
    heavy = ("pydantic", "sqlite3", "http.client", "pynvml")
    code = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
