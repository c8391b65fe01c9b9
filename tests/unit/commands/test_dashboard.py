"""The dashboard: what is drawn on 80 columns, and how it behaves on a terminal, in tmux."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ds01 import events
from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.cli.dashboard import data, screen
from ds01.cli.dashboard.screen import View
from ds01.cli.main import run
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.ledger.leases import bind, start
from ds01.monitor import history
from ds01.policy import Policy
from tests.unit.api.samples import GIB, keep, sample
from tests.unit.api.served import LONG, POLICY, Server, handler
from tests.unit.commands.tmux import Tmux
from tests.unit.ledger.conftest import path

__all__ = ["path"]
SCREENS = Path(__file__).parent / "screens"
AT = 1_767_258_000_000
"""2026-01-01 09:00 UTC."""
HOUR = 3_600_000
GAMES = Asker(5, "games", admin=False, via="docker.sock")
# Nobody but root looks into a ledger, so whoever is tested here is nobody.
ENTRY = "import os; os.geteuid = lambda: 1000; from ds01.cli.main import run; raise SystemExit(run())"


def device(name: str, user: str | None = None, **more: Any) -> dict[str, Any]:
    holder = user and {
        "user": user, "group": "student", "container": more.pop("container", None), "token": None,
        "lease": more.pop("lease", "running"), "until": more.pop("until", None),
    }  # fmt: skip
    return {
        "id": name, "uuid": f"u{name}", "gpu_uuid": f"g{name[0]}", "model": "A100", "memory_bytes": 20 * GIB,
        "profile": "full" if ":" not in name else "2g.20gb",
        "weight": 1.0, "state": "ok", "reason": None, "used_without_lease_by": None, "holder": holder, "busy": None,
        "busy_source": None, "memory_used": None, "memory_total": None, "processes": None,
    } | more  # fmt: skip


DEVICES = [
    device("0", "bob", until=AT + 2 * HOUR, busy=97.4, memory_used=38 * GIB, memory_total=80 * GIB),
    device("1:0", LONG, until=AT + 30 * HOUR, busy=0.0, memory_used=0, memory_total=20 * GIB),
    device("1:1", "games", container="train", lease="held", until=AT + HOUR // 4, busy_source="nvml: unsupported",
           memory_used=GIB, memory_total=20 * GIB),
    device("1:2"),
    device("2", used_without_lease_by="process 41 of root (jupyter)", busy=12.0, memory_used=GIB),
    device("3", state="unhealthy", reason="Xid 79"),
]  # fmt: skip
FOUND: dict[str, Any] = {
    "at": AT, "host": "lab1", "devices": DEVICES, "logins": {},
    "you": {"user": "games", "group": "student",
            "quotas": {"max_containers_per_user": [1, 3], "max_mig_instances": [1, None]}},
    "queue": [{"number": 7, "position": 1, "user": "carol", "group": "student", "request": "2 x 2g.20gb",
               "since": AT - HOUR, "expected": None, "why": "capacity"}],
    "reservations": [{"number": 1, "user": "games", "group": None, "starts": AT + 24 * HOUR, "ends": AT + 26 * HOUR,
                      "devices": ["0"], "state": "planned", "source": "policy", "reason": None, "created_by": "x"}],
    "people": [{"user": "games", "group": "student", "cpus": 2.54, "cpus_max": 96, "memory": 4 * GIB,
                "memory_max": 96 * GIB, "tasks": 120, "tasks_max": None},
               {"user": LONG, "group": "student", "cpus": None, "cpus_max": 96, "memory": None,
                "memory_max": None, "tasks": None, "tasks_max": 500}],
    "monitor": {"at": AT, "age_s": 3, "problems": []},
}  # fmt: skip
BLIND = FOUND | {"devices": [device("0", "bob"), device("1:2")], "queue": [], "reservations": [], "people": [],
                 "monitor": {"at": None, "age_s": 780, "problems": []}}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found", "view"),
    [
        ("dashboard", FOUND, View()),
        ("dashboard-blind", BLIND, View()),
        ("dashboard-busiest", FOUND, View(sort="busy", reverse=True)),
        ("dashboard-free", FOUND, View(show="free")),
        ("dashboard-yours", FOUND, View(show="yours", text="games")),
    ],
)
def test_screen(name: str, found: dict[str, Any], view: View):
    lines = screen.body(found, view, 80)
    assert max(len(click.unstyle(line)) for line in lines) <= 80
    for kind, text in (("txt", click.unstyle("\n".join(lines))), ("ansi", "\n".join(lines))):
        expected = SCREENS / f"{name}.{kind}"
        if not expected.exists():
            expected.write_text(f"{text}\n")
            pytest.fail(f"{expected} is new: look at it")
        assert f"{text}\n" == expected.read_text()


def test_every_order_holds_every_device_once():
    for sort in screen.SORTS:
        for reverse in (False, True):
            table = "\n".join(screen.body(FOUND, View(sort=sort, reverse=reverse))).partition("\n\n")[2]
            names = [
                line.lstrip("*").split()[0] for line in map(click.unstyle, table.split("\n")[1 : len(DEVICES) + 1])
            ]
            assert sorted(names) == sorted(one["id"] for one in DEVICES)


@pytest.fixture
def place(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway at `s`, asked by `games`, whose container holds 1:1."""
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setattr(history, "HISTORY", tmp_path / "monitor" / "samples.db")
    keep(history.HISTORY, sample())
    with Ledger(path) as ledger:
        desk = Desk(Policy.model_validate(POLICY).tables, ledger, specs=False, engine=Engine(path / "none"))
        body = {"request": {"devices": ["1:1"], "count": 1}}
        given = resources.answer(desk, GAMES, "POST", ["leases"], body=body)
        with ledger.transaction() as tx:
            bind(tx, given["token"], "c5", "train._.5")
            start(tx, given["token"])
    return tmp_path


@pytest.fixture
def gateway(path: Path, place: Path) -> Iterator[Server]:
    server = Server(str(place / "s"), handler(path, GAMES))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ds01(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "DS01_SOCKET": str(place / "s"), "COLUMNS": "80", **environment}
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments], env=known, capture_output=True, text=True, check=False
    )


@pytest.mark.usefixtures("gateway")
def test_once_is_for_pipes_and_json_for_programs(place: Path):
    piped, once = ds01(place, "dashboard"), ds01(place, "dashboard", "--once")
    assert (piped.returncode, once.returncode) == (0, 0)
    for said in (piped.stdout, once.stdout):
        assert "*1:1    2g.20gb  games   train      -      n/a   3.0/20 GiB" in said
        assert "\x1b" not in said
        assert max(map(len, said.splitlines())) <= 80
    found = json.loads(ds01(place, "dashboard", "--json").stdout)
    assert set(found) == set(FOUND)
    assert [one["busy"] for one in found["devices"]] == [95.0, 3.0, None, None]
    assert set(found["devices"][0]) == set(DEVICES[0])


@pytest.mark.usefixtures("gateway")
def test_who_names_people_and_shows_each_their_own(place: Path):
    said = ds01(place, "who")
    assert said.stdout.splitlines() == [
        "USER   GROUP    HOLDS  UNTIL  PROCESSES  GPU MEMORY  LOGINS",
        "games  student  1:1    -      1          3.0 GiB     2",
    ]
    found = json.loads(ds01(place, "who", "--json").stdout)
    assert found["outside"] == []
    assert found["people"][0]["gpu_memory"] == 3 * GIB


@pytest.mark.usefixtures("place")
def test_who_names_processes_in_no_container_to_administrators(path: Path, capsys: pytest.CaptureFixture[str]):
    policy = path.with_name("policy.yaml")
    policy.write_text(json.dumps(POLICY))
    assert run(["who", "--policy", str(policy), "--ledger", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in said[1:3]] == [["games", "student"], ["root", "-"]]
    assert said[3] == "0: process 42 (jupyter) of root, in no container"


def test_without_a_gateway_it_says_so_and_fails(place: Path):
    said = ds01(place, "dashboard", "--once")
    assert (said.returncode, said.stdout) == (1, "")
    assert "the DS01 gateway does not answer" in said.stderr


@pytest.mark.usefixtures("place")
def test_what_it_collects_is_complete_for_root(path: Path):
    with Ledger(path) as ledger:
        desk = Desk(Policy.model_validate(POLICY).tables, ledger, specs=False, engine=Engine(path / "none"))
        root = Asker(0, "root", admin=True, via="command")
        found = data.collect(lambda method, name, **_: resources.answer(desk, root, method, [name]))
    assert found["devices"][2]["holder"]["container"] == "train._.5"
    assert [one["user"] for one in found["people"]] == ["games", "mail"]


@pytest.fixture
def terminal(place: Path) -> Iterator[Tmux]:
    found = Tmux(place, DS01_SOCKET=str(place / "s"))
    yield found
    found.close()


@pytest.fixture
def open_dashboard(terminal: Tmux) -> Callable[[], None]:
    def begin() -> None:
        terminal.keys(f"clear; {shlex.quote(sys.executable)} -c {shlex.quote(ENTRY)} dashboard; echo ended $?", "Enter")
        terminal.see("q quit")

    return begin


@pytest.mark.usefixtures("gateway")
def test_keys_sort_filter_and_quit(terminal: Tmux, open_dashboard: Callable[[], None]):
    open_dashboard()
    shown = terminal.see("*1:1")
    assert "Slices" in shown
    assert shown.index("\n0 ") < shown.index("\n1:0 ")
    terminal.keys("s")
    terminal.see("s sort: holder")
    terminal.keys("s", "s", "r")
    shown = terminal.see("s sort: busy reversed")
    assert shown.index("\n0 ") < shown.index("\n1:0 ") < shown.index("\n1:2 ")
    terminal.keys("f")
    shown = terminal.see("f show: yours")
    assert "\n1:0 " not in shown
    terminal.keys("Escape")
    terminal.see("f show: all")
    terminal.keys("/", "2g", "Enter")
    terminal.see("/2g")
    assert "\n0 " not in terminal.screen()
    terminal.resize(60, 8)
    shown = terminal.see("q quit")
    assert max(map(len, shown.splitlines())) <= 60
    terminal.resize(100, 30)
    terminal.see("*1:1")
    terminal.keys("q")
    terminal.see("ended 0")
    # The screen from before is back, and so is the echo of what is typed.
    terminal.keys("echo st''ill there", "Enter")
    terminal.see("still there")
    assert "DEVICE" not in terminal.screen()


@pytest.mark.usefixtures("gateway")
def test_keys_scroll_and_change_what_is_looked_for(terminal: Tmux, open_dashboard: Callable[[], None]):
    terminal.resize(80, 6)
    open_dashboard()
    terminal.see("GPU devices held")
    terminal.see("q quit")
    # The first line has the time in it.
    _, second, third = terminal.screen().splitlines()[:3]
    terminal.keys("Down")
    terminal.until(lambda shown: shown.splitlines()[:2] == [second, third])
    terminal.keys("NPage")
    terminal.until(lambda shown: second not in shown and "q quit" in shown)
    terminal.keys("PPage", "Up")
    terminal.until(lambda shown: shown.splitlines()[1:3] == [second, third])
    terminal.resize(80, 24)
    terminal.keys("/", "2gx", "BSpace", "Enter")
    terminal.see("/2g")
    assert "\n0 " not in terminal.screen()
    # What is typed and then not wanted is forgotten, the text from before too.
    terminal.keys("/", "x", "Escape")
    shown = terminal.see("/ find")
    assert "\n0 " in shown
    terminal.keys("q")
    terminal.see("ended 0")


@pytest.mark.usefixtures("gateway")
def test_it_fits_a_terminal_that_changed_when_nobody_listened(terminal: Tmux):
    deaf = f"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGWINCH}}); {ENTRY}"
    terminal.keys(f"clear; {shlex.quote(sys.executable)} -c {shlex.quote(deaf)} dashboard; echo ended $?", "Enter")
    terminal.see("*1:1")
    _, *before = terminal.see("q quit").splitlines()
    terminal.resize(80, 6)
    # The first line has the time in it; the last one is whole, and on none are two.
    terminal.until(lambda shown: shown.splitlines()[1:] == [*before[:4], before[-1]])
    terminal.keys("q")
    terminal.see("ended 0")


def test_a_gateway_that_comes_and_goes_is_said(
    terminal: Tmux, open_dashboard: Callable[[], None], path: Path, place: Path
):
    open_dashboard()
    terminal.see("not up to date: ")
    server = Server(str(place / "s"), handler(path, GAMES))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    terminal.keys("Space")
    terminal.see("*1:1")
    server.shutdown()
    server.server_close()
    terminal.see("not up to date: ")
    assert "*1:1" in terminal.screen()
    terminal.keys("C-c")
    terminal.see("ended 0")


@pytest.mark.usefixtures("gateway")
def test_a_monitor_that_stopped_is_said(terminal: Tmux, open_dashboard: Callable[[], None]):
    keep(history.HISTORY, sample(age_s=700))
    open_dashboard()
    shown = terminal.see("the monitor looked 11 min ago for the last time")
    assert "?/20 GiB" in shown
    terminal.keys("q")
    terminal.see("ended 0")


@pytest.mark.usefixtures("gateway")
def test_a_terminal_that_cannot_be_drawn_on_is_named(terminal: Tmux):
    terminal.keys(f"TERM=no-such {shlex.quote(sys.executable)} -c {shlex.quote(ENTRY)} dashboard", "Enter")
    assert "--once" in terminal.see("nothing can be drawn there")
