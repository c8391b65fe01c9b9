"""Exemptions: who may give them, for what, and that they end by themselves; what people are told is theirs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ds01 import events
from ds01.allocator.people import People
from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.api.errors import ApiError
from ds01.cli.main import run
from ds01.engine.api import Engine
from ds01.ledger import Ledger, lifecycle, objects, permits
from ds01.lifecycle import passes
from ds01.lifecycle.rules import IDLE, RUNTIME, Lawbook
from ds01.monitor.history import History
from ds01.monitor.model import Sample
from tests.unit.ledger.machine import Time

ROOT = Asker(0, "root", admin=True, via="command")
SOMEBODY = Asker(65534, "nobody", admin=False, via="socket")
HOUR = 3_600_000


@pytest.fixture
def desk(tables: dict[str, Any], ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "no-journal")
    return Desk(tables, ledger, specs=False, engine=Engine(tmp_path / "no-engine"))


def ask(desk: Desk, asker: Asker, method: str, path: str, **body: Any) -> Any:
    query = {name: str(value) for name, value in body.items()} if method == "GET" else {}
    return resources.answer(desk, asker, method, path.split("/"), query=query, body={} if query else body)


def exempt(desk: Desk, container: str = "c") -> list[str]:
    with desk.ledger.read() as view:
        book = Lawbook(desk.tables, view)
        return [rule for rule in (IDLE, RUNTIME) if book.exempt(65534, "nobody", rule, container)]


def test_an_exemption_counts_until_its_time(desk: Desk, time: Time) -> None:
    assert exempt(desk) == []
    made = ask(desk, ROOT, "POST", "exemptions", user="nobody", rule=IDLE, seconds=3600, reason="a deadline")
    assert (made["approved_by"], made["reason"]) == ("root", "a deadline")
    assert exempt(desk) == [IDLE]
    assert [one["id"] for one in ask(desk, SOMEBODY, "GET", "exemptions")] == [made["id"]]
    time.spend(HOUR - 1)
    assert exempt(desk) == [IDLE]
    time.spend(1)
    # Nothing ran meanwhile that would have ended it.
    assert exempt(desk) == []
    assert ask(desk, ROOT, "GET", "exemptions") == []
    assert [one["id"] for one in ask(desk, ROOT, "GET", "exemptions", past=1)] == [made["id"]]
    with pytest.raises(ApiError, match="no exemption"):
        ask(desk, ROOT, "DELETE", f"exemptions/{made['id']}")


def test_a_clock_that_ran_ahead_gives_no_more_than_was_given(desk: Desk, time: Time, tmp_path: Path) -> None:
    ahead = 400 * 24 * HOUR
    time.set_wall(ahead)
    ask(desk, ROOT, "POST", "exemptions", user="nobody", rule=IDLE, seconds=3600, reason="a deadline")
    ask(desk, ROOT, "POST", "exemptions", user="nobody", rule=RUNTIME, reason="for ever")
    time.set_wall(-ahead)
    # It counts, for an hour after the clock was put right.
    assert exempt(desk) == [IDLE, RUNTIME]
    where = passes.Place(
        ledger=desk.ledger.path, history=tmp_path / "samples.db", tables=lambda _: desk.tables, clock=time,
        engine=tmp_path / "no-engine", patience_s=0,
    )  # fmt: skip
    history = History(where.history)
    history.add(Sample(time.wall, time().boot, time.since_boot, 1.0))
    history.close()
    passes.idle(where)
    time.spend(HOUR - 1)
    assert exempt(desk) == [IDLE, RUNTIME]
    time.spend(1)
    assert exempt(desk) == [RUNTIME]


def test_what_was_given_and_ended_by_a_clock_that_ran_ahead_is_over(desk: Desk, time: Time) -> None:
    time.set_wall(400 * 24 * HOUR)
    with desk.ledger.transaction() as tx:
        given = permits.add(
            tx,
            "grants",
            uid=1,
            user="a",
            kind=permits.BARE_METAL,
            expires=tx.now + HOUR,
            reason="a",
            approved_by="root",
        )
        permits.end(tx, "grants", given.id)
    time.set_wall(-400 * 24 * HOUR)
    with desk.ledger.transaction() as tx:
        permits.follow_clock(tx, "grants")
        (one,) = permits.listing(tx, "grants", past=True)
        assert (one.created, one.ended) == (tx.now, tx.now)


def test_it_can_be_for_one_container_and_ended_before(desk: Desk) -> None:
    with desk.ledger.transaction() as tx:
        objects.note(tx, "container", "c" * 64, "work._.65534", 65534)
    made = ask(desk, ROOT, "POST", "exemptions", user="nobody", rule=RUNTIME, container="work", reason="r")
    assert exempt(desk, "c" * 64) == [RUNTIME]
    assert exempt(desk, "d" * 64) == []
    assert ask(desk, ROOT, "DELETE", f"exemptions/{made['id']}") == {"ended": made["id"]}
    assert exempt(desk, "c" * 64) == []
    lines = (events.EVENTS_FILE).read_text().splitlines()
    assert ['"grant.add"' in lines[0], '"grant.expire"' in lines[1]] == [True, True]


def test_whoever_is_root_by_sudo_is_named_and_not_root(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUDO_USER", "carol")
    monkeypatch.setenv("SUDO_UID", "5003")
    where = ["--ledger", str(desk.ledger.path), "--policy", str(tmp_path / "policy.yaml")]
    command = ["exemption", "add", "nobody", "--rule", IDLE, "--for", "1h", "--reason", "a deadline"]
    assert run([*command, *where]) == 0
    assert run(["exemption", "list", "--json", *where]) == 0
    (made,) = json.loads(capfd.readouterr().out.partition("\n")[2])
    assert made["approved_by"] == "carol"
    (event,) = map(json.loads, events.EVENTS_FILE.read_text().splitlines())
    assert event["actor"] == {"uid": 5003, "user": "carol", "via": "sudo"}


@pytest.mark.parametrize(
    ("length", "said"), [("0d", "--for: 0d: write more than 0"), ("4000d", "4000d: is longer than 3660d")]
)
def test_a_length_that_cannot_be_is_said_as_people_write_it(
    desk: Desk, tmp_path: Path, capfd: pytest.CaptureFixture[str], length: str, said: str
) -> None:
    where = ["--ledger", str(desk.ledger.path), "--policy", str(tmp_path / "policy.yaml")]
    command = ["exemption", "add", "nobody", "--rule", IDLE, "--for", length, "--reason", "a deadline", *where]
    assert run(command) == 2
    assert said in capfd.readouterr().err


def test_who_has_two_names_is_one_person(path: Path, tmp_path: Path, tables: dict[str, Any]) -> None:
    """Directory services give one uid in two spellings of its domain, and take either."""
    del tables  # It wrote the policy.
    accounts = "root:x:0:0::/root:/bin/sh\njo@a.example:x:7001:7001::/:/bin/sh\njo@b.example:x:7001:7001::/:/bin/sh\n"
    (tmp_path / "passwd").write_text(accounts)
    program = "import sys; from pathlib import Path; from ds01 import events; from ds01.cli.main import run; "
    program += "events.EVENTS_FILE = events.JOURNAL_SOCKET = Path(sys.argv[1]); sys.exit(run(sys.argv[2:]))"
    where = ["--ledger", str(path), "--policy", str(tmp_path / "policy.yaml")]

    def ds01(*words: str) -> str:
        mounted = ["unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/passwd && exec "$@"', tmp_path / "passwd"]
        argv = [*mounted, sys.executable, "-c", program, str(tmp_path / "log"), *words, *where]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    ds01("grant", "bare-metal", "jo@b.example", "1h", "--reason", "r")
    assert "jo@a.example" in ds01("grant", "list")
    ds01("grant", "revoke", "jo@b.example")
    assert ds01("grant", "list") == "nobody has a grant\n"


@pytest.mark.parametrize(
    ("asker", "change", "status"),
    [
        (SOMEBODY, {}, 403),
        (ROOT, {"user": "no-such-person-here"}, 404),
        (ROOT, {"rule": "memory"}, 400),
        (ROOT, {"reason": ""}, 400),
        (ROOT, {"reason": " \t "}, 400),
        (ROOT, {"seconds": -1}, 400),
        (ROOT, {"seconds": 10**12}, 400),
        (ROOT, {"container": "no-such-container"}, 404),
    ],
)
def test_what_is_refused(desk: Desk, asker: Asker, change: dict[str, Any], status: int) -> None:
    body = {"user": "nobody", "rule": IDLE, "seconds": 60, "reason": "r"} | change
    with pytest.raises(ApiError) as refused:
        ask(desk, asker, "POST", "exemptions", **body)
    assert refused.value.status == status
    assert ask(desk, ROOT, "GET", "exemptions", past=1) == []


def test_the_exemptions_of_the_policy_end_on_their_day(tables: dict[str, Any], ledger: Ledger, time: Time) -> None:
    def reason() -> str | None:
        with ledger.read() as view:
            return Lawbook(tables, view).exempt(5002, "bob", IDLE, "c")

    time.set_wall(int(datetime(2026, 11, 30, 23, 59, tzinfo=UTC).timestamp() * 1000) - time.wall)
    assert reason() == "teaching"
    time.spend(60_000)
    assert reason() is None


def test_who_is_exempt_from_the_release_keeps_the_gpu_of_a_stopped_container(tables: dict[str, Any]) -> None:
    tables["exemptions"][0]["exempt_from"] = ["gpu_hold_after_stop"]

    def hold(user: str, at: datetime) -> int | None:
        return People(tables).person(1, user, int(at.timestamp() * 1000)).limits.gpu_hold_after_stop

    last = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    assert hold("bob", last) is None
    assert hold("bob", last + timedelta(minutes=1)) == hold("alice", last) == 15 * 60


def test_an_override_beats_the_limits_of_the_type(tables: dict[str, Any], ledger: Ledger) -> None:
    with ledger.read() as view:
        book = Lawbook(tables, view)
        assert book.rules("alice", "docker").max_runtime == 10 * HOUR
        assert book.rules("bob", "docker").max_runtime == 20 * HOUR
        assert book.rules("alice", "devcontainer").idle_timeout == HOUR
        assert book.rules("alice", "no such type").idle_timeout == HOUR
        assert book.rules("alice", "docker").sigterm_s == 3


def test_notices_are_ones_own(desk: Desk) -> None:
    with desk.ledger.transaction() as tx:
        lifecycle.tell(tx, 65534, "stopped", "work._.65534", "it was idle")
        lifecycle.tell(tx, 7, "stopped", "other", "another's")
    (mine,) = ask(desk, SOMEBODY, "GET", "notices")
    assert (mine["subject"], mine["text"], mine["shown"]) == ("work", "it was idle", None)
    ask(desk, SOMEBODY, "POST", "notices/seen", up_to=10**6)
    assert ask(desk, SOMEBODY, "GET", "notices", unseen=1) == []
    assert len(ask(desk, SOMEBODY, "GET", "notices")) == 1
    with desk.ledger.read() as view:
        assert [one.shown for one in lifecycle.notices(view, 7)] == [None]
    with pytest.raises(ApiError):
        ask(desk, SOMEBODY, "GET", "notices", user="root")


def test_new_notices_are_shown_once(
    path: Path, tmp_path: Path, tables: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    del tables  # It wrote the policy.
    with Ledger(path) as ledger, ledger.transaction() as tx:
        lifecycle.tell(tx, os.getuid(), "stopped", "work", "it was idle\x1b[2J")
    files = ["--ledger", str(path), "--policy", str(tmp_path / "policy.yaml")]
    for shown in (True, False):
        assert run(["notices", "--new", *files]) == 0
        text = capsys.readouterr().out
        assert ("stopped: work: it was idle" in text) is shown
        assert "\x1b" not in text
    assert run(["notices", *files]) == 0
    assert "it was idle" in capsys.readouterr().out


def test_nobody_keeps_anothers_container(desk: Desk) -> None:
    with desk.ledger.transaction() as tx:
        objects.note(tx, "container", "d" * 64, "work._.7", 7)
    for name in ("work", "work._.7", "d" * 64):
        for verb in ("keep", "extend"):
            with pytest.raises(ApiError) as refused:
                ask(desk, SOMEBODY, "POST", f"containers/{name}/{verb}", seconds=60)
            assert refused.value.status == 404
    # An administrator's comes as far as the engine, which is not there.
    with pytest.raises(ApiError) as refused:
        ask(desk, ROOT, "POST", "containers/work._.7/keep", seconds=60)
    assert refused.value.status == 503


def test_permits_that_overlap_last_as_long_as_the_longest(ledger: Ledger, time: Time) -> None:
    with ledger.transaction() as tx:
        for expires in (tx.now + HOUR, None, tx.now + 2 * HOUR):
            permits.add(tx, "grants", uid=1, user="a", kind="k", expires=expires, reason="r", approved_by="b")
        assert (permits.counting(tx, "grants", 1, "k") or permits.listing(tx, "grants")[0]).expires is None
        assert permits.end(tx, "grants", 2)
    time.spend(90 * 60_000)
    with ledger.read() as view:
        assert [one.id for one in permits.listing(view, "grants")] == [3]
