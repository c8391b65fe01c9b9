"""The jobs: idle, runtime, cleanup, and all in one pass. Each can be run at any time and twice; `decide` decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

from ds01.engine.api import Engine
from ds01.ledger import (
    JOB_DEADLINE_S,
    LEDGER,
    Clock,
    Ledger,
    LedgerMissingError,
    View,
    leases,
    lifecycle,
    objects,
    permits,
    system_clock,
)
from ds01.ledger.devices import devices
from ds01.ledger.lifecycle import Life
from ds01.lifecycle import decide, quiet
from ds01.lifecycle.acts import Act, Outcome, carry_out
from ds01.lifecycle.idle import GAP_MS, advance, holds, judge, rest
from ds01.lifecycle.rules import Lawbook
from ds01.lifecycle.seen import Seen, observe, seen
from ds01.monitor.containers import infrastructure
from ds01.monitor.history import HISTORY, read_after
from ds01.monitor.model import ContainerSample, Sample
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables
from ds01.policy.nss import is_admin
from ds01.problems import ReportedError

_LAST: Final = "idle sample"
_SAMPLES_MAX: Final = 400
"""Samples that one pass looks at; of more, the older ones are a gap."""
_GAP_LOOKS: Final = 3
_AGAIN_S: Final = 1.0


@dataclass(frozen=True)
class Place:
    """Where everything is; tests have their own."""

    ledger: Path = LEDGER
    history: Path = HISTORY
    policy: Path = Path(DEFAULT_PATH)
    engine: Path | None = None
    tables: Callable[[Path], dict[str, Any]] = field(default=load_tables)
    clock: Clock = system_clock
    patience_s: float = 30.0
    """How long an engine that is being restarted is waited for."""


def idle(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Warn owners of idle containers, then stop them.

    Raises:
        OSError: There are no samples: nothing is known, and nobody is stopped.
        EngineUnavailableError: The engine does not answer.
        LedgerError: The ledger cannot be used.
    """
    with opened(place) as (where, ledger, engine, tables):
        with ledger.read() as view:
            book, known = Lawbook(tables, view), lifecycle.lives(view)
            last = int(view.value("SELECT value FROM meta WHERE key = ?", (_LAST,)) or 0)
            demand, quiets = _demand(view), quiet.load(view)
        samples = list(read_after(last - 1, where.history, at_most=_SAMPLES_MAX))
        gap_ms = max(GAP_MS, _GAP_LOOKS * 1000 * int(tables["monitoring"].get("sample_interval", 0)))
        changed = follow((sample for _, sample in samples), known, book, gap_ms, quiets)
        if not dry_run and samples:
            with ledger.transaction() as tx:
                permits.follow_clock(tx, "exemptions")
                for life in changed.values():
                    lifecycle.idle(tx, life)
                quiet.keep(tx, quiets, samples[-1][1], gap_ms)
                tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_LAST, str(samples[-1][0])))
        if not samples:
            return Outcome()
        with ledger.read() as view:
            book = Lawbook(tables, view)
            current = lifecycle.lives(view) if not dry_run else known | changed
            newest = samples[-1][1]
            # Too old a sample says nothing of now.
            fresh = newest.boot == view.moment.boot and view.moment.boot_ms - newest.boot_ms <= gap_ms
            judged = [
                container
                for container in newest.containers or ()
                if fresh and container.running and not container.protected and container.uid is not None
                if book.knows(container.user)
            ]
            # What this look could not tell is no reason, however long it was idle before.
            proved = {
                container.id: now
                for container in judged
                if (now := current.get(container.id)) is not None
                and (now.idle_boot, now.idle_boot_ms) == (newest.boot, newest.boot_ms)
            }
            acts = [
                act
                for container in judged
                if container.id in proved
                for act in decide.idle(container, proved[container.id], book, engine, demand=demand)
            ]
        if quiets and not dry_run:
            with ledger.transaction() as tx:
                unproved = [container for container in judged if container.id not in proved]
                quiet.ask(tx, quiets, newest, unproved, Lawbook(tables, tx))
        return carry_out(engine, ledger, acts, dry_run=dry_run)


def follow(
    samples: Iterable[Sample],
    known: Mapping[str, Life],
    book: Lawbook,
    gap_ms: int = GAP_MS,
    quiets: quiet.Quiets | None = None,
) -> dict[str, Life]:
    """Return for how long each container was idle after these samples, of those for which that changed.

    Args:
        samples: In their order.
        known: What was known before.
        book: The limits.
        gap_ms: A longer time between two of them says nothing.
        quiets: Where it is noted for how long each looked idle without a proof.
    """
    changed: dict[str, Life] = {}
    for before, after in pairwise(samples):
        for container in after.containers or ():
            if container.uid is None:
                continue
            life = changed.get(container.id) or known.get(container.id) or _begin(container, after)
            if not container.running:
                if life.idle_boot and holds(after, container):
                    changed[container.id] = rest(life, before, after, gap_ms)
                continue
            verdict = judge(before, after, container, book.rules(container.user, container.type))
            if verdict is None:
                continue
            changed[container.id] = advance(life, verdict, before, after, gap_ms)
            if quiets is not None:
                quiet.note(quiets, container.id, verdict, before, after, gap_ms=gap_ms)
    return changed


def _begin(container: ContainerSample, at: Sample) -> Life:
    return Life(container.id, container.name, container.uid, 0, at.at, "", 0)


def runtime(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Warn owners of containers whose time is nearly up, then stop them. Restarts do not begin it anew.

    Raises:
        EngineUnavailableError: The engine does not answer.
        LedgerError: The ledger cannot be used.
    """
    return _by_time(place, [decide.runtime], dry_run=dry_run)


def cleanup(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Remove containers that were stopped, or made and never started, for as long as the policy keeps them.

    Raises:
        EngineUnavailableError: The engine does not answer.
        LedgerError: The ledger cannot be used.
    """
    return _by_time(place, [decide.cleanup], dry_run=dry_run)


def everything(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Do all three; what keeps one from its work keeps no other from theirs.

    Raises:
        LedgerMissingError: There is no ledger: nothing is known, and nothing done.
    """
    total = Outcome()
    for job in (idle, _run_and_stopped):
        try:
            done = job(place, dry_run=dry_run)
        except LedgerMissingError:
            raise
        except FileNotFoundError as error:
            total.lines.append(f"nothing done: {error}")
        except (ReportedError, OSError) as error:
            # The same engine or policy keeps both.
            total.problems += {str(error)} - set(total.problems)
        else:
            total.lines += done.lines
            total.problems += done.problems
    return total


def _run_and_stopped(place: Place | None, *, dry_run: bool) -> Outcome:
    return _by_time(place, [decide.runtime, decide.cleanup], dry_run=dry_run)


Rule: TypeAlias = Callable[[Seen, Life, Lawbook], Iterator[Act]]


def _by_time(place: Place | None, rules: Sequence[Rule], *, dry_run: bool) -> Outcome:
    with opened(place) as (_, ledger, engine, tables):
        default_runtime = str(engine.info().get("DefaultRuntime", ""))
        system = infrastructure(tables)
        found = [seen(inspected, default_runtime, system) for inspected in engine.containers()]
        with ledger.transaction(keep=not dry_run) as tx:
            permits.follow_clock(tx, "exemptions")
            known = lifecycle.lives(tx)
            legacy = {row.engine_id for row in objects.listing(tx, "container") if row.legacy}
            lives = {}
            for one in found:
                lives[one.id] = observe(known.get(one.id), one, tx.moment, legacy=one.id in legacy)
                lifecycle.observed(tx, lives[one.id])
            lifecycle.forget(tx, lives.keys())
            book = Lawbook(tables, tx)
            acts = [
                act
                for one in found
                if one.uid is not None and not (one.marked and is_admin(tables, one.uid, one.user))
                if book.knows(one.user)
                for rule in rules
                for act in rule(one, lives[one.id], book)
                if not (act.rule in decide.REMOVALS and one.id in legacy)
                # What a rehearsal would remove is there at the next pass, too, and said once.
                if dry_run or not (act.rehearse and act.kind == "remove" and _was_due(rule, one, known, book))
            ]
        return carry_out(engine, ledger, acts, dry_run=dry_run)


def _was_due(rule: Rule, one: Seen, known: Mapping[str, Life], book: Lawbook) -> bool:
    return one.id in known and any(True for _ in rule(one, known[one.id], book))


def _demand(view: View) -> float:
    """Return which part of the devices is held."""
    total = len(devices(view))
    return len(leases.live(view)) / total if total else 0.0


@contextmanager
def opened(place: Place | None) -> Iterator[tuple[Place, Ledger, Engine, dict[str, Any]]]:
    """Open the ledger, and wait a while for the engine; what `idle` raises is raised here."""
    where = place or Place()
    with Ledger(where.ledger, clock=where.clock, deadline_s=JOB_DEADLINE_S) as ledger:
        engine = Engine(where.engine)
        wait_for_engine(engine, where.patience_s)
        yield where, ledger, engine, where.tables(where.policy)


def wait_for_engine(engine: Engine, patience_s: float) -> None:
    """Wait until an engine that is being restarted answers; whoever asks it next finds out if it does not."""
    deadline = time.monotonic() + patience_s
    while not engine.answers() and time.monotonic() < deadline:
        time.sleep(_AGAIN_S)
