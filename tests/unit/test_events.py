import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ds01 import events


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log" / "events.jsonl"
    monkeypatch.setattr(events, "EVENTS_FILE", path)
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(2)
        yield server


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_bytes().splitlines()]


def test_an_event_holds_every_field_of_the_schema(log: Path):
    arguments: dict[str, Any] = {
        "actor": {"uid": 0, "user": "root", "via": "timer"},
        "subject": {"kind": "override", "name": "alice"},
        "rule": "user_overrides.alice.expires",
        "reason": "The override ended on 2026-01-31.",
        "fix": "Ask for a new one.",
        "details": {"group": "student"},
    }
    event_id = events.record("policy.expire", decision="changed", **arguments)
    [event] = lines(log)
    assert list(event) == [
        "ts",
        "schema",
        "id",
        "type",
        "actor",
        "subject",
        "decision",
        "rule",
        "reason",
        "fix",
        "details",
    ]
    assert event["id"] == event_id
    assert event["schema"] == 1
    assert event["ts"].endswith("Z")
    assert len(event["ts"]) == len("2026-01-31T00:00:00.000Z")


def test_the_actor_defaults_to_this_process(log: Path):
    events.record("health.ok", decision="allowed")
    assert lines(log)[0]["actor"]["uid"] == os.getuid()


@pytest.mark.parametrize(
    "value",
    [
        "x" * 100_000,
        "\U0001f600" * 5000,
        ["y" * 50] * 5000,
        {f"key{number}" * 30: "z" * 40 for number in range(5000)},
        {str(a): {str(b): {str(c): ["ü" * 40] * 40 for c in range(30)} for b in range(30)} for a in range(30)},
        1 << 100,
    ],
)
def test_a_line_is_never_longer_than_its_maximum_and_says_that_it_was_cut(log: Path, value: Any):
    events.record("limit.hit", decision="refused", reason="kept", details={"value": value})
    [line] = log.read_bytes().splitlines(keepends=True)
    assert len(line) <= 4000
    event = json.loads(line)
    assert event["cut"] is True
    assert event["type"] == "limit.hit"
    assert event["reason"] == "kept"


def test_what_fits_is_not_cut(log: Path):
    events.record("limit.hit", decision="refused", reason="r" * 3000, details={"pids": list(range(50))})
    [event] = lines(log)
    assert "cut" not in event
    assert len(event["reason"]) == 3000


@pytest.mark.parametrize("text", ['a\n{"type":"user.add"}', "\x1b[2J\x07", "\u2028\u2029\x85\x9b31m", "\udc80", "\0"])
def test_no_value_can_forge_a_line_or_steer_a_terminal(log: Path, journal: socket.socket, text: str):
    events.record("user.add", actor={"user": text}, subject={"name": text}, decision="changed", reason=text)
    raw = log.read_bytes()
    assert raw.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in raw.rstrip(b"\n"))
    assert lines(log)[0]["reason"] == text
    for field in journal.recv(65536).decode().rstrip("\n").split("\n"):
        name, _, value = field.partition("=")
        assert name.isupper() or name == "DS01_ID"
        assert value.isprintable()


def test_the_journal_gets_the_whole_event(log: Path, journal: socket.socket):
    events.record("gateway.refuse", decision="refused", reason="privileged", subject={"kind": "container", "name": "x"})
    fields = dict(field.split("=", 1) for field in journal.recv(65536).decode().splitlines())
    assert fields["MESSAGE"] == "gateway.refuse refused container x privileged"
    assert fields["PRIORITY"] == "4"
    assert json.loads(fields["DS01_EVENT"]) == lines(log)[0]


def test_the_file_is_private_under_any_umask(log: Path):
    for umask in (0o000, 0o077):
        log.unlink(missing_ok=True)
        before = os.umask(umask)
        try:
            events.record("health.ok", decision="allowed")
        finally:
            os.umask(before)
        assert stat.S_IMODE(log.stat().st_mode) == 0o640
        assert stat.S_IMODE(log.parent.stat().st_mode) == 0o755


def test_a_link_in_place_of_the_log_is_not_followed(log: Path, tmp_path: Path):
    log.parent.mkdir()
    log.symlink_to(tmp_path / "elsewhere")
    assert events.record("health.ok", decision="allowed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_torn_line_does_not_swallow_the_next_event(log: Path):
    log.parent.mkdir()
    log.write_bytes(b'{"ts":"2026')
    events.record("health.ok", decision="allowed")
    assert json.loads(log.read_bytes().splitlines()[1])["type"] == "health.ok"


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_nothing_raises(log: Path, monkeypatch: pytest.MonkeyPatch):
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    for details in ({"x": Hostile()}, loop, {"x": float("nan"), 3: b"\xff"}):
        assert events.record("health.fail", decision="failed", details=details)
    assert "could not be encoded" in lines(log)[0]["reason"]
    monkeypatch.setattr(events, "EVENTS_FILE", Path("/proc/nowhere/events.jsonl"))
    assert events.record("health.fail", decision="failed")


def test_a_full_disk_leaves_the_event_in_the_journal(journal: socket.socket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "EVENTS_FILE", Path("/dev/full"))
    event_id = events.record("health.fail", decision="failed")
    assert event_id.encode() in journal.recv(65536)


def test_many_writers_never_mix_their_lines(log: Path):
    def write(number: int) -> None:
        for _ in range(50):
            events.record("limit.near", decision="warned", details={"pad": str(number) * 3000})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(log)) == 400


def test_only_the_standard_library_is_needed():
    code = "import sys; sys.path.insert(0, 'src'); import ds01.events, ds01.files, ds01.slices"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=Path(__file__).parents[2])
