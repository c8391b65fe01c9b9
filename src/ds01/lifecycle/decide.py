"""What is due for one container: a warning, the next one, or its end. Never an end that was not announced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from ds01.engine.api import Engine, NoSuchObjectError
from ds01.engine.owners import short
from ds01.ledger.lifecycle import Life
from ds01.lifecycle.acts import Act
from ds01.lifecycle.rules import HOLD, IDLE, RUNTIME, Lawbook, span
from ds01.lifecycle.seen import Seen, seen
from ds01.monitor.model import ContainerSample

CREATED: Final = "created_container_timeout"
REMOVALS: Final = frozenset({HOLD, CREATED})
TOLD_MS: Final = 15 * 60_000
"""Between the last warning and the end, at most: less where the limit is so short that warnings come closer to it."""
_REMOVAL_WARN_AT: Final = 0.5
"""Part of the time that a stopped container is kept at which its owner is told that it goes."""


def idle(container: ContainerSample, life: Life, book: Lawbook, engine: Engine, *, demand: float) -> Iterator[Act]:
    """Yield what is due for a container that may be idle.

    Args:
        container: As the newest sample has it.
        life: For how long it has been idle.
        book: The limits.
        engine: Asked since when the container runs, if anything may be due.
        demand: Which part of all devices is held.
    """
    rules = book.rules(container.user, container.type)
    limit = rules.idle_timeout
    kept_until = rules.kept_until(life.kept_until, book.now_ms)
    if limit is None or container.uid is None or kept_until > book.now_ms or life.idle_ms < rules.looks * book.look_ms:
        return
    high = rules.high_demand is not None and demand >= rules.high_demand
    limit = int(limit * rules.reduction) if high else limit
    if not _due(life.idle_ms, limit, rules.idle_warn_at, life.idle_warned):
        return
    if book.exempt(container.uid, container.user, IDLE, container.id):
        return
    try:
        inspected = engine.get(f"/containers/{container.id}/json")
    except NoSuchObjectError:
        return
    started = seen(inspected).started
    # Just after a start nothing counts; but for one stretch of idleness only once, or a restart now and then would be a
    # way round it. While its owner kept it nothing counts either.
    since = max(book.now_ms - started, life.idle_ms)
    length = min(life.idle_ms, since - rules.grace, book.now_ms - kept_until)
    reason = f"{short(container.name)} has not used its GPU for {span(life.idle_ms)} ({life.idle_why})"
    fix = (
        f"It is stopped after {span(limit)}{' while GPUs are scarce' if high else ''}: work on, stop it to give the GPU"
        f" back, or keep it with `ds01 container keep {short(container.name)}`"
    )

    def still(state: dict[str, Any]) -> bool:
        one = seen(state)
        return one.running and one.started == started

    yield from _steps(
        Act(
            "stop", container.id, container.name, container.uid, container.user, IDLE, rules.idle_from, reason, fix,
            told=life.idle_ms, granted=(life.kept_until, life.extended_ms),
            grace_s=rules.sigterm_s, rehearse=rules.rehearse, still=still,
        ),
        length, limit, rules.idle_warn_at, warned=life.idle_warned, told=life.idle_told,
    )  # fmt: skip


def runtime(one: Seen, life: Life, book: Lawbook) -> Iterator[Act]:
    """Yield what is due for a container that may have run for its time."""
    rules = book.rules(one.user, one.type)
    if rules.max_runtime is None or not one.running or one.uid is None:
        return
    limit = rules.max_runtime + life.extended_ms
    if not _due(life.ran_ms, limit, rules.runtime_warn_at, life.runtime_warned):
        return
    if book.exempt(one.uid, one.user, RUNTIME, one.id):
        return
    reason = f"{short(one.name)} has run for {span(life.ran_ms)} in all, of {span(limit)}"
    fix = f"Save your work; `ds01 container extend {short(one.name)} 4h` gives it more time, within your budget"
    act = Act(
        "stop", one.id, one.name, one.uid, one.user, RUNTIME, rules.runtime_from, reason, fix,
        told=life.ran_ms, granted=(life.kept_until, life.extended_ms), grace_s=rules.sigterm_s, rehearse=rules.rehearse,
        still=lambda state: seen(state).running,
    )  # fmt: skip
    yield from _steps(
        act, life.ran_ms, limit, rules.runtime_warn_at, warned=life.runtime_warned, told=life.runtime_told
    )


def cleanup(one: Seen, life: Life, book: Lawbook) -> Iterator[Act]:
    """Yield what is due for a container that nobody has started for its time: its owner is told, then it goes."""
    if one.running or one.waits or not one.managed or one.uid is None:
        return
    rules = book.rules(one.user, one.type)
    limit, rule = (rules.created_timeout, CREATED) if one.created else (rules.container_hold, HOLD)
    if limit is None or life.stopped_ms < limit * _REMOVAL_WARN_AT or book.exempt(one.uid, one.user, HOLD, one.id):
        return
    what = "was made and not started" if one.created else "was stopped and not started again"
    reason = f"{short(one.name)} {what} for {span(life.stopped_ms)}, which is kept for {span(limit)}"
    fix = "Your volumes and everything below /home and /scratch are still there: make a new container"
    end = Act(
        "remove", one.id, one.name, one.uid, one.user, rule, _place(rule), reason, fix, told=life.stopped_ms,
        rehearse=rules.rehearse,
        still=lambda state: (seen(state).running, seen(state).finished) == (False, one.finished),
    )  # fmt: skip
    if life.removal_told is None:
        yield replace(
            end,
            kind="warn",
            reason=f"{reason}; it {_be(end)} removed {_when(limit - life.stopped_ms)}",
            fix="What is in the container itself is lost then; volumes and everything below /home and /scratch stay."
            f" Start it to keep it: `docker start {short(one.name)}`",
        )
    elif life.stopped_ms >= limit and life.stopped_ms - life.removal_told >= min(TOLD_MS, limit * _REMOVAL_WARN_AT):
        yield end


def _place(rule: str) -> str:
    return f"policies.{rule}" if rule == CREATED else rule


def _due(length: int, limit: int, warn_at: Sequence[float], warned: int) -> bool:
    return length >= limit or any(length >= limit * part for part in warn_at[warned:])


def _steps(end: Act, length: int, limit: int, warn_at: Sequence[float], *, warned: int, told: int) -> Iterator[Act]:
    """Yield the next warning or, when all were given, the end; one step a pass, so that each can be read."""
    if warned < len(warn_at):
        if length >= limit * warn_at[warned]:
            yield _warning(end, warned + 1, limit - length)
        return
    # What was shortened after the last warning does not take the time that this one promised.
    early = bool(warn_at) and end.told - told < min(TOLD_MS, limit * (1 - warn_at[-1]))
    if length >= limit and not early and not (end.rehearse and warned > len(warn_at)):
        # A rehearsal says it once.
        yield end if not end.rehearse else replace(end, warned=warned + 1)


def _warning(end: Act, number: int, left: int) -> Act:
    return replace(end, kind="warn", reason=f"{end.reason}; it {_be(end)} stopped {_when(left)}", warned=number)


def _be(end: Act) -> str:
    return "would be" if end.rehearse else "is"


def _when(left: int) -> str:
    return f"in {span(left)}" if left > 0 else "soon"
