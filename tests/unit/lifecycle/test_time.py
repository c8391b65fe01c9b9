"""How long a container ran and was stopped: no restart, no clock and no time zone changes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.ledger import Ledger, Moment
from ds01.ledger.lifecycle import Life
from ds01.lifecycle.decide import cleanup, runtime
from ds01.lifecycle.rules import Lawbook, span
from ds01.lifecycle.seen import Seen, observe, seen

DAY = 86_400_000
START = 1_795_341_600_000


def one(*, running: bool, started: int = 0, finished: int = 0, created: bool = False) -> Seen:
    return Seen(
        id="c" * 64, name="work._.5001", uid=5001, user="alice", type="docker", managed=True, running=running,
        created=created, waits=False, marked=False, started=started, finished=finished,
    )  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run", "restart", "stop", "pause"]), st.integers(1_000, 120_000), st.integers(-2, 2)
        ),
        min_size=1,
        max_size=50,
    )
)
def test_the_time_is_what_the_kernel_counted(steps: list[tuple[str, int, int]]) -> None:
    """Restarts between two looks, and a wall clock that jumps by days, neither give nor take running time."""
    life: Life | None = None
    boot_ms, wall, truth, running, changed = DAY, START, 0, False, START
    for what, length, jump in steps:
        was = running
        running = what in {"run", "restart"} or (what == "pause" and running)
        if what == "restart" or running != was:
            changed = wall
        boot_ms, wall = boot_ms + length, wall + length
        # Every change happens at the beginning of a stretch, so a stretch belongs to the state it is in.
        truth += length if running else 0
        seen_now = one(running=running, started=changed if running else 0, finished=0 if running else changed)
        life = observe(life, seen_now, Moment(wall, "b", boot_ms), legacy=False)
        if jump:
            # Set by hand: what the engine noted before is in the old time.
            wall += jump * DAY
            changed += jump * DAY
    assert life is not None
    assert life.ran_ms == truth
    assert life.stopped_ms <= boot_ms


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
def test_a_clock_that_jumps_removes_and_stops_nothing(jump: int) -> None:
    stopped = one(running=False, finished=START)
    life = observe(None, stopped, Moment(START, "b", DAY), legacy=False)
    life = observe(life, stopped, Moment(START + 60_000 + jump, "b", DAY + 60_000), legacy=False)
    assert life.stopped_ms <= 60_000
    works = one(running=True, started=START)
    life = observe(None, works, Moment(START + 1000, "b", DAY), legacy=False)
    life = observe(life, works, Moment(START + 61_000 + jump, "b", DAY + 60_000), legacy=False)
    assert life.ran_ms == 61_000


def test_what_was_there_before_ds01_begins_now_and_a_reboot_adds_nothing() -> None:
    works = one(running=True, started=START - 10 * DAY)
    assert observe(None, works, Moment(START, "b", 20 * DAY), legacy=True).ran_ms == 0
    life = observe(None, works, Moment(START, "b", 20 * DAY), legacy=False)
    assert life.ran_ms == 10 * DAY
    again = one(running=True, started=START + DAY)
    after = observe(life, again, Moment(START + DAY + 30_000, "new", 50_000), legacy=False)
    assert after.ran_ms == 10 * DAY + 30_000
    # Stopped over a weekend in which the host was off: what it was not there for does not count.
    held = observe(None, one(running=False, finished=START), Moment(START, "b", DAY), legacy=False)
    held = observe(held, one(running=False, finished=START), Moment(START + 3 * DAY, "new", 10_000), legacy=False)
    assert held.stopped_ms == 0


def test_times_of_the_engine_are_read_whatever_their_zone() -> None:
    state = {"Running": True, "Status": "running", "StartedAt": "2026-11-22T10:00:00.123456789Z"}
    inspected = {"Id": "c", "Name": "/a", "State": state}
    berlin = {"Id": "c", "Name": "/a", "State": {**state, "StartedAt": "2026-11-22T11:00:00.1+01:00"}}
    assert seen(inspected).started == seen(berlin).started == 1_795_341_600_000
    for text in ("0001-01-01T00:00:00Z", "", None, "yesterday"):
        assert seen({"Id": "c", "Name": "/a", "State": {"StartedAt": text}}).started == 0


def test_the_steps_of_an_end(book: Lawbook) -> None:
    """Two warnings, then the end: also for who was looked at only when it was all over."""
    works = one(running=True, started=START)
    life = Life("c" * 64, works.name, 5001, 1, 0, "b", 0)

    def due(**values: Any) -> list[tuple[str, int]]:
        return [(act.kind, act.warned) for act in runtime(works, life._replace(**values), book)]

    hour = 3_600_000
    assert due(ran_ms=7.4 * hour) == []
    assert due(ran_ms=7.5 * hour) == [("warn", 1)]
    assert due(ran_ms=7.5 * hour, runtime_warned=1) == []
    assert due(ran_ms=9 * hour, runtime_warned=1) == [("warn", 2)]
    assert due(ran_ms=100 * hour) == [("warn", 1)]
    assert due(ran_ms=100 * hour, runtime_warned=1) == [("warn", 2)]
    assert due(ran_ms=100 * hour, runtime_warned=2) == [("stop", 0)]
    assert due(ran_ms=10 * hour - 1, runtime_warned=2) == []
    assert due(ran_ms=10 * hour, runtime_warned=2, extended_ms=hour) == []
    assert due(ran_ms=11 * hour, runtime_warned=2, extended_ms=hour) == [("stop", 0)]


def test_what_is_removed(book: Lawbook) -> None:
    life = Life("c" * 64, "work._.5001", 5001, 0, 0, "b", 0, stopped_ms=2 * 3_600_000)
    stopped = one(running=False, finished=START)
    # Two hours of one, and nobody was told yet: 15 minutes are theirs from then on.
    assert [(act.kind, act.rule) for act in cleanup(stopped, life, book)] == [("warn", "container_hold_after_stop")]
    early = life._replace(removal_told=life.stopped_ms - 15 * 60_000 + 1)
    assert list(cleanup(stopped, early, book)) == []
    life = life._replace(removal_told=life.stopped_ms - 15 * 60_000)
    assert [(act.kind, act.rule) for act in cleanup(stopped, life, book)] == [("remove", "container_hold_after_stop")]
    made = one(running=False, created=True)
    assert [act.rule for act in cleanup(made, life, book)] == ["created_container_timeout"]
    for spared in (
        stopped._replace(running=True),
        stopped._replace(waits=True),
        stopped._replace(managed=False),
        stopped._replace(uid=None),
    ):
        assert list(cleanup(spared, life, book)) == []
    assert list(cleanup(stopped, life._replace(stopped_ms=3_599_999), book)) == []
    assert list(cleanup(stopped, life._replace(stopped_ms=1_799_999, removal_told=None), book)) == []
    # Started and stopped again: it is told anew.
    for again in (one(running=True, started=START), one(running=False, finished=START + 60_000)):
        seen_now = observe(life, again, Moment(START + 60_000, "b", life.seen_boot_ms + 60_000), legacy=False)
        assert seen_now.removal_told is None


def test_a_shortened_limit_leaves_the_time_that_the_last_warning_promised(book: Lawbook) -> None:
    """A new policy, or GPUs that become scarce: what was warned hours before its time does not end in a minute."""
    works = one(running=True, started=START)
    hour = 3_600_000
    life = Life("c" * 64, works.name, 5001, 1, 0, "b", 0, ran_ms=100 * hour, runtime_warned=2, runtime_told=100 * hour)

    def due(life: Life) -> list[str]:
        return [act.kind for act in runtime(works, life, book)]

    assert due(life) == []
    assert due(life._replace(ran_ms=100 * hour + 15 * 60_000 - 1)) == []
    assert due(life._replace(ran_ms=100 * hour + 15 * 60_000)) == ["stop"]
    # In the usual course it delays nothing: the warning came at 9 of 10 hours.
    assert due(life._replace(ran_ms=10 * hour, runtime_told=9 * hour)) == ["stop"]


def test_who_is_not_known_now_is_not_judged(tables: dict[str, Any], ledger: Ledger) -> None:
    """A directory service that is away makes a number of everybody, or takes their groups: not strangers of them."""
    with ledger.read() as view:
        book = Lawbook(tables, view)
        assert [book.knows(user) for user in ("alice", "bob", "root", "1722830498")] == [True, True, True, False]
        away = Lawbook(tables | {"unix_groups": {"no-such-group-here": "student"}}, view)
        assert [away.knows(user) for user in ("alice", "root")] == [True, False]


def test_durations_are_readable() -> None:
    assert [span(value) for value in (0, 59_000, 90 * 60_000, 2 * DAY + 60_000, -5)] == [
        "0 s", "59 s", "1 h 30 min", "2 d 1 min", "0 s",
    ]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit_s=st.integers(5 * 60, 7 * 86_400),
    phase_ms=st.integers(0, 59_999),
    warn_at=st.sampled_from([(0.75, 0.9), (0.8, 0.95), (0.5,), ()]),
)
def test_the_end_comes_in_time_and_after_all_warnings(
    tables: dict[str, Any], ledger: Ledger, limit_s: int, phase_ms: int, warn_at: tuple[float, ...]
) -> None:
    """With a pass each minute, never before the limit and at most two minutes after it."""
    own = tables["defaults"] | {"max_runtime": limit_s, "policies.runtime_warn_at": warn_at}
    types = tables["container_types"] | {"docker": tables["container_types"]["docker"] | {"max_runtime": None}}
    policies = tables["policies"] | {"policies.runtime_warn_at": warn_at}
    works, limit = one(running=True, started=START), limit_s * 1000
    with ledger.read() as view:
        book = Lawbook(tables | {"defaults": own, "container_types": types, "policies": policies}, view)
    first = int(limit * min(warn_at, default=1)) // 60_000 * 60_000
    life = Life("c" * 64, works.name, 5001, 1, 0, "b", 0, ran_ms=first + phase_ms - 60_000)
    for _ in range(limit // 60_000 + 3):
        for act in runtime(works, life, book):
            if act.kind == "stop":
                assert life.runtime_warned == len(warn_at)
                assert limit <= life.ran_ms <= limit + 120_000
                return
            life = life._replace(runtime_warned=act.warned, runtime_told=act.told)
        life = life._replace(ran_ms=life.ran_ms + 60_000)
    raise AssertionError("it was never stopped")
