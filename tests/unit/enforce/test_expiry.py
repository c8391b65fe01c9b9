import datetime as dt
import json
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from ds01 import events
from ds01.enforce import policy as host_policy
from ds01.enforce import state
from ds01.enforce.expiry import report_expired, tell_of_ends
from ds01.ledger import Ledger
from ds01.ledger.lifecycle import notices
from ds01.policy import load_policy
from ds01.policy.problems import PolicyError
from tests.unit.ledger.conftest import ledger, path, time

__all__ = ["ledger", "path", "time"]

POLICY = """
default_group: student
groups:
  student: {members: [alice, bob]}
user_overrides:
  alice: {max_cpus: 4, expires: 2026-06-15, reason: r, approved_by: a}
  bob: {max_cpus: 4, reason: r, approved_by: a}
exemptions:
  - {user: bob, exempt_from: [idle_timeout], expires: 2026-06-16, reason: r, approved_by: a}
"""
DAY = dt.datetime(2026, 6, 15, 23, 59, tzinfo=dt.UTC)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "log" / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setattr(state, "STATE_FILE", tmp_path / "lib" / "enforce" / "reported.json")
    monkeypatch.setattr(host_policy, "POLICY_FILE", tmp_path / "resource-limits.yaml")
    (tmp_path / "resource-limits.yaml").write_text(POLICY)
    return tmp_path / "log" / "events.jsonl"


def types(log: Path) -> list[tuple[str, str]]:
    if not log.exists():
        return []
    return [(event["type"], event["subject"]["name"]) for event in map(json.loads, log.read_text().splitlines())]


def test_each_end_is_reported_once_on_the_day_after(log: Path):
    policy = load_policy(host_policy.POLICY_FILE, now=DAY).policy
    assert report_expired(policy, DAY, dry_run=False) == []
    next_day = DAY + dt.timedelta(minutes=1)
    assert [str(item) for item in report_expired(policy, next_day, dry_run=True)] == [
        "override of alice ended on 2026-06-15"
    ]
    assert types(log) == []
    for _ in range(3):
        report_expired(policy, next_day, dry_run=False)
    assert types(log) == [("policy.expire", "alice")]
    report_expired(policy, next_day + dt.timedelta(days=1), dry_run=False)
    assert types(log) == [("policy.expire", "alice"), ("policy.expire", "bob")]


def test_a_new_end_of_the_same_override_is_reported_again(log: Path):
    late = DAY + dt.timedelta(days=30)
    for day in ("2026-06-15", "2026-07-01", "2026-07-01"):
        host_policy.POLICY_FILE.write_text(POLICY.replace("2026-06-15", day))
        report_expired(load_policy(host_policy.POLICY_FILE, now=late).policy, late, dry_run=False)
    assert [name for _, name in types(log)] == ["alice", "bob", "alice"]


@pytest.mark.usefixtures("log")
def test_people_are_told_once_before_their_override_ends(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={"alice": 1000, "bob": 1001}[name]))

    def told(days: int, *, dry_run: bool = False) -> list[str]:
        now = DAY + dt.timedelta(days=days)
        return tell_of_ends(load_policy(host_policy.POLICY_FILE, now=now).policy, now, path, dry_run=dry_run)

    line = ["alice is told that the override ends on 2026-06-15"]
    assert told(-3) == []
    assert told(-2, dry_run=True) == line
    assert told(-2) == line
    assert [told(days) for days in (-2, -1, 0, 1)] == [[]] * 4
    # A later day is another end.
    host_policy.POLICY_FILE.write_text(POLICY.replace("2026-06-15", "2026-06-17"))
    assert told(1) == ["alice is told that the override ends on 2026-06-17"]
    with ledger.read() as view:
        assert [day in notice.text for day, notice in zip(("-15", "-17"), notices(view, 1000), strict=True)] == [
            True
        ] * 2
        assert notices(view, 1001) == []


@pytest.mark.usefixtures("ledger", "log")
def test_nobody_is_told_who_has_no_account(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pwd, "getpwnam", lambda name: {}[name])
    policy = load_policy(host_policy.POLICY_FILE, now=DAY).policy
    assert tell_of_ends(policy, DAY, path, dry_run=False) == []


def test_a_damaged_state_means_saying_it_again(log: Path):
    policy = load_policy(host_policy.POLICY_FILE, now=DAY).policy
    late = DAY + dt.timedelta(days=1)
    report_expired(policy, late, dry_run=False)
    state.STATE_FILE.write_text("{")
    report_expired(policy, late, dry_run=False)
    assert types(log) == [("policy.expire", "alice")] * 2


def test_a_broken_policy_is_reported_once_until_it_is_mended(log: Path):
    def read() -> None:
        host_policy.read_policy(DAY, dry_run=False)

    for _ in range(2):
        host_policy.POLICY_FILE.write_text("groups: [")
        for _ in range(2):
            with pytest.raises(PolicyError):
                read()
        host_policy.POLICY_FILE.write_text(POLICY)
        read()
    assert [kind for kind, _ in types(log)] == ["policy.reject"] * 2


@pytest.mark.usefixtures("log")
def test_a_dry_run_writes_nothing(tmp_path: Path):
    host_policy.POLICY_FILE.write_text("nonsense: [")
    with pytest.raises(PolicyError):
        host_policy.read_policy(DAY, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["resource-limits.yaml"]
