import gzip
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01 import events
from ds01.api import trail
from ds01.api.history import moment
from ds01.api.trail import Filter, Mine
from ds01.cli.events import events as command
from ds01.cli.events import shown
from ds01.cli.why import _event_text as explained


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setattr(events, "EVENTS_FILE", path)
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    events.record("user.add", actor={"user": "erin"}, subject={"kind": "user", "name": "alice"}, decision="changed")
    events.record("gateway.refuse", actor={"user": "alice"}, decision="refused", reason="no\x1b[31m")
    with path.open("a") as stream:
        stream.write('{"torn": \n')
    events.record("user.add", actor={"user": "erin"}, subject={"kind": "user", "name": "bob"}, decision="changed")
    return path


def show(*arguments: str) -> list[str]:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.mark.usefixtures("log")
def test_all_of_them_and_torn_lines_left_out():
    assert len(show()) == 3
    assert "\x1b" not in "".join(show())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["user", "name", "kind"]), inner),
    max_leaves=4,
)
FIELDS = st.sampled_from(["ts", "id", "type", "actor", "subject", "decision", "reason", "fix", "details"])


@given(st.lists(st.dictionaries(FIELDS, VALUES), min_size=1, max_size=4))
def test_whatever_somebody_wrote_into_the_log_is_shown_and_steers_nothing(found: list[dict[str, Any]]):
    for event in found:
        assert shown(event).isprintable()
        assert all(line.isprintable() for line in explained(event).splitlines())


@pytest.mark.usefixtures("log")
def test_filters():
    assert len(show("--user", "alice")) == 2
    assert len(show("--type", "user.add")) == 2
    assert len(show("--user", "alice", "--type", "user.add")) == 1
    assert len(show("--since", "1h")) == 3
    assert show("--since", "2999-01-01") == []


@pytest.mark.usefixtures("log")
def test_json_is_the_line_of_the_log():
    assert json.loads(show("--json", "--user", "bob")[0])["subject"]["name"] == "bob"


@pytest.mark.usefixtures("log")
def test_an_unknown_type_or_time_is_a_usage_error():
    for arguments in (["--type", "user.ad"], ["--since", "yesterday"], ["--since", "5y"], ["--until", "x"]):
        assert CliRunner().invoke(command, arguments).exit_code == 2


@pytest.mark.usefixtures("log")
def test_filters_for_containers_and_devices():
    who = {"uid": 1001, "user": "alice", "via": "gateway"}
    events.record("container.stop", actor=who, subject={"kind": "container", "name": "web._.1001"}, decision="stopped")
    events.record("gpu.lease", actor=who, subject={"kind": "gpu", "id": "t" * 16, "gpu": "0:1,0:2"}, decision="allowed")
    assert len(show("--container", "web")) == len(show("--container", "web._.1001")) == 1
    assert len(show("--gpu", "0:2")) == 1
    assert show("--gpu", "0") == []
    assert show("--until", "2020-01-01") == []


@pytest.mark.usefixtures("log")
@pytest.mark.parametrize(
    "name", ["a\nuser.add  changed  erin", "\x1b]0;x\x07\x1b[2J", '{"type": "user.add"}', "\u202eb\u2028c"]
)
def test_what_others_named_is_shown_as_one_line_that_steers_nothing(name: str):
    who = {"uid": 1001, "user": name, "via": name}
    labels = {"labels": {name: name}}
    events.record(
        "gateway.refuse", actor=who, subject={"kind": "container", "name": name, "gpu": name}, decision="refused",
        rule=name, reason=name, fix=name, details=labels,
    )  # fmt: skip
    shown = show()
    assert len(shown) == 4
    assert all(line.isprintable() for line in shown)
    # A program reads the value as it was, and still one line for one event.
    [line] = show("--json", "--type", "gateway.refuse")[1:]
    assert line.isascii()
    assert json.loads(line)["subject"]["name"] == name


@settings(max_examples=50)
@given(st.text(max_size=300), st.integers(1, 200))
def test_on_a_terminal_an_event_has_lines_that_fit_and_all_of_it_is_there(reason: str, room: int):
    name = f"train._.{os.getuid()}"
    event = {"ts": "2026-01-31T00:00:00.000Z", "type": "gpu.lease", "subject": {"name": name}, "reason": reason}
    with pytest.MonkeyPatch.context() as patch:
        whole = shown(event)
        patch.setenv("COLUMNS", str(room))
        lines = shown(event).split("\n")
    assert "._." not in whole
    assert "train" in whole
    assert max(map(len, lines)) <= max(room, 5)
    assert "".join("".join(lines).split()) == "".join(whole.split())


@pytest.mark.usefixtures("log")
def test_only_why_follows():
    for words in (["when", "x"], ["why"], ["why", "a", "b"]):
        said = CliRunner().invoke(command, words)
        assert said.exit_code == 2
        assert "write `why` and one container or id" in said.output


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("2026-01-31T09:30", "2026-01-31T09:30:00.000Z"),
        ("2026-01-31T09:30+02:00", "2026-01-31T07:30:00.000Z"),
    ],
)
def test_times_are_utc(text: str, timestamp: str):
    assert moment(text) == timestamp


def test_following_goes_on_after_a_rotation(log: Path):
    read = threading.Event()

    def write() -> None:
        assert read.wait(60)
        log.rename(log.with_suffix(".jsonl.1"))
        events.record("health.ok", decision="allowed")

    writer = threading.Thread(target=write)
    writer.start()
    found, deadline = [], time.monotonic() + 120
    for line in trail.lines(""):
        if line is None:
            time.sleep(0.02)
        elif (event := trail.parse(line)) is not None:
            found.append(event["type"])
        if len(found) == 3:
            read.set()
        if len(found) == 4 or time.monotonic() > deadline:
            break
    read.set()
    writer.join()
    assert found == ["user.add", "gateway.refuse", "user.add", "health.ok"]


def test_the_past_is_read_over_rotations_each_line_once(log: Path):
    with gzip.open(log.with_name(log.name + "-20260101-1.gz"), "wb") as packed:
        packed.write(events.encode({"ts": "2026-01-01T00:00:00.000Z", "id": "old", "type": "user.add"}))
    # logrotate gives what it compresses the time of the original.
    os.utime(packed.name, (1_767_225_600, 1_767_225_600))
    log.rename(log.with_name(log.name + "-20260201-2"))
    events.record("health.ok", decision="allowed")
    lines, more = trail.newest(Filter(), 100)
    assert [trail.parse(line)["type"] for line in lines] == [
        "user.add",
        "user.add",
        "gateway.refuse",
        "user.add",
        "health.ok",
    ]
    assert not more
    assert trail.newest(Filter(), 2)[1]
    assert [trail.parse(line)["type"] for line in trail.newest(Filter(), 1)[0]] == ["health.ok"]


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 3000)), min_size=1, max_size=120), st.integers(0, 10**6)
)
@settings(max_examples=30, deadline=None)
def test_since_finds_exactly_what_is_not_older(found: list[tuple[int, int]], since: int):
    moments = sorted(seconds for seconds, _ in found)
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "EVENTS_FILE", Path(directory, "events.jsonl"))
        with events.EVENTS_FILE.open("wb") as stream:
            for seconds, (_, size) in zip(moments, found, strict=True):
                stream.write(events.encode({"ts": events.timestamp(seconds), "type": "user.add", "x": "y" * size}))
        wanted = events.timestamp(since)
        lines, _ = trail.newest(Filter(since=wanted), 1000)
    assert [trail.parse(line)["ts"] for line in lines] == [ts for s in moments if (ts := events.timestamp(s)) >= wanted]


def test_nobody_reads_what_concerns_others_by_naming_things_after_them():
    def event(event_type: str, **subject: str) -> dict[str, Any]:
        return {"type": event_type, "actor": {"uid": 1002, "user": "bob"}, "subject": subject}

    alice = Mine(1001, "alice", frozenset({"token-of-alice"}))
    assert not alice(event("container.create", kind="container", name="alice"))
    assert not alice(event("gateway.refuse", kind="container", name="x._.1001"))
    assert not alice(event("gpu.release", kind="gpu", id="token-of-bob"))
    assert alice(event("lifecycle.stop", kind="container", name="x._.1001"))
    assert alice(event("gpu.release", kind="gpu", id="token-of-alice"))
    assert alice(event("user.change", kind="user", name="alice"))
    assert Mine(1002, "bob")(event("container.create", kind="container", name="alice"))


@given(st.sampled_from(["alice", "h.baker@example.org", "mü", 'a"b']), st.integers(0, 5), st.booleans(), st.text())
def test_no_line_that_concerns_somebody_is_passed_over(user: str, uid: int, gpu: bool, name: str):
    mine = Mine(3, user, frozenset({name}))
    subject = {"kind": "gpu" if gpu else "user", "id": name, "name": name}
    event = {"ts": "x", "type": "user.add", "actor": {"uid": uid, "user": name}, "subject": subject}
    line = events.encode(event)
    if mine(trail.parse(line)):
        assert mine.may_be_in(line)
        assert Filter(who=mine).read(line) is not None
