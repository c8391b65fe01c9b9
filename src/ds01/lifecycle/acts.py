"""Warn, stop, remove: what is done to a container, its event, the reason that is kept, and what people are told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from ds01 import events
from ds01.engine.api import Engine, EngineUnavailableError, NoSuchObjectError
from ds01.ledger import Ledger, LedgerError, Transaction, lifecycle
from ds01.lifecycle.rules import IDLE, RUNTIME

_AT_ONCE: Final = 16
"""Containers that are stopped at the same time: each may take its whole grace."""

Kind = Literal["warn", "stop", "remove"]


@dataclass(frozen=True)
class Act:
    """One thing to do."""

    kind: Kind
    container: str
    name: str
    uid: int
    user: str
    rule: str
    """What decided: idle_timeout, max_runtime, container_hold_after_stop, created_container_timeout, or stop-all."""
    limit_from: str
    reason: str
    fix: str
    warned: int = 0
    """How many warnings there were, this one included."""
    told: int = 0
    """How long it had been idle, had run or had been stopped by then, in ms."""
    grace_s: int = 0
    rehearse: bool = False
    actor: Mapping[str, Any] | None = None
    """Who does it; None: a timer."""
    still: Callable[[dict[str, Any]], bool] | None = field(default=None, compare=False)
    """Whether its inspection, a moment before it is ended, is still what was judged."""
    granted: tuple[int | None, int] | None = None
    """Until when it was kept and by how much extended as it was judged: whoever gets more meanwhile is spared."""

    @property
    def line(self) -> str:
        """One line for people."""
        what = {"warn": "warned", "stop": "stopped", "remove": "removed"}[self.kind]
        return f"container {self.name} of {self.user}: {'would be ' if self.rehearse else ''}{what}: {self.reason}"


@dataclass
class Outcome:
    """What was done, or would be, and what could not be."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def carry_out(engine: Engine, ledger: Ledger, acts: Iterable[Act], *, dry_run: bool) -> Outcome:
    """Do what was decided. Raises LedgerError if a warning cannot be kept: then nothing is ended either."""
    outcome = Outcome()
    acts = list(acts)
    if dry_run:
        outcome.lines += [replace(act, rehearse=True).line for act in acts]
        return outcome
    with ledger.transaction() as tx:
        for act in acts:
            if act.kind == "warn" or act.rehearse:
                _warn(tx, act)
    for act in acts:
        if act.kind == "warn" or act.rehearse:
            _record(act, "warned")
            outcome.lines.append(act.line)
    ends = [act for act in acts if act.kind != "warn" and not act.rehearse]
    if not ends:
        return outcome
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - a timer runs each minute, mostly to end nothing

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for act, failure in zip(ends, pool.map(lambda act: _end(engine, ledger.path, act), ends), strict=True):
            _ended(ledger, act, failure, outcome)
    return outcome


def _warn(tx: Transaction, act: Act) -> None:
    if act.rule in {IDLE, RUNTIME}:
        lifecycle.warned(tx, act.container, "idle" if act.rule == IDLE else "runtime", act.warned, act.told)
    elif act.kind == "warn":
        lifecycle.removal_told(tx, act.container, act.told)
    if not act.rehearse:
        lifecycle.tell(tx, act.uid, "warning", act.name, f"{act.reason}. {act.fix}")


def _end(engine: Engine, ledger: Path, act: Act) -> str | None:
    """End one container. Returns None, or why not; empty if it is not as it was judged any more."""
    try:
        if act.granted is not None and _granted(ledger, act.container) != act.granted:
            return ""
        now = engine.get(f"/containers/{act.container}/json")
        if act.still is not None and not act.still(now):
            return ""
        if act.kind == "stop":
            engine.stop(act.container, act.grace_s)
        else:
            engine.remove(act.container)
    except NoSuchObjectError:
        return ""
    except (EngineUnavailableError, LedgerError) as error:
        return str(error)
    return None


def _granted(ledger: Path, container: str) -> tuple[int | None, int] | None:
    # Others may be stopped first, each with its grace: minutes in which somebody keeps theirs.
    with Ledger(ledger) as opened, opened.read() as view:
        life = lifecycle.life(view, container)
        return None if life is None else (life.kept_until, life.extended_ms)


def _ended(ledger: Ledger, act: Act, failure: str | None, outcome: Outcome) -> None:
    if failure is not None:
        if failure:
            outcome.problems.append(f"container {act.name}: {failure}")
            _record(act, "failed", failure)
        return
    with ledger.transaction() as tx:
        lifecycle.ended(tx, act.container, act.rule, act.reason)
        kind: lifecycle.NoticeKind = "stopped" if act.kind == "stop" else "removed"
        lifecycle.tell(tx, act.uid, kind, act.name, f"{act.reason}. {act.fix}")
    _record(act, "stopped" if act.kind == "stop" else "changed")
    outcome.lines.append(act.line)


def _record(act: Act, decision: events.Decision, failure: str = "") -> None:
    kinds: dict[Kind, events.EventType] = {
        "warn": "lifecycle.warn",
        "stop": "lifecycle.stop",
        "remove": "container.remove",
    }
    events.record(
        kinds["warn"] if act.rehearse else kinds[act.kind],
        actor=act.actor or events.this_process("enforce"),
        subject={"kind": "container", "name": act.name, "id": act.container[:12]},
        decision=decision,
        rule=act.rule,
        reason=failure or act.reason,
        fix=act.fix,
        details={
            "uid": act.uid,
            "user": act.user,
            "limit": act.limit_from,
            "rehearsal": act.rehearse,
        },
    )
