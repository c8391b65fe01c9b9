"""Containers that look idle on devices that cannot say so: their owners are asked, and nothing is stopped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from ds01.engine.owners import short
from ds01.ledger import Transaction, View, lifecycle
from ds01.lifecycle.idle import State, Verdict
from ds01.lifecycle.rules import IDLE, Lawbook, span
from ds01.monitor.model import ContainerSample, Sample

_KEY: Final = "quiet containers"
_DAY_MS: Final = 86_400_000


class Quiet(NamedTuple):
    """For how long a container has looked idle, in ms, until this moment of the clock since boot."""

    ms: int
    boot: str
    boot_ms: int


Quiets: TypeAlias = dict[str, Quiet]
"""By container."""


def load(view: View) -> Quiets:
    """Return what the last pass knew."""
    noted = json.loads(view.value("SELECT value FROM meta WHERE key = ?", (_KEY,)) or "{}")
    return {container: Quiet(*values) for container, values in noted.items()}


def keep(tx: Transaction, quiets: Quiets, newest: Sample, gap_ms: int) -> None:
    """Keep it for the next pass, without what that could not go on from."""
    recent = {
        container: known
        for container, known in quiets.items()
        if known.boot == newest.boot and newest.boot_ms - known.boot_ms <= gap_ms
    }
    tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(recent)))


def note(quiets: Quiets, container: str, verdict: Verdict, before: Sample, after: Sample, *, gap_ms: int) -> None:
    """Add what one container did between two samples."""
    known = quiets.pop(container, Quiet(0, after.boot, before.boot_ms))
    stretch = after.boot_ms - before.boot_ms
    nothing = verdict.quiet or verdict.state is State.IDLE
    if not nothing or before.boot != after.boot or not 0 < stretch <= gap_ms:
        return
    whole = known.boot == after.boot and after.boot_ms - known.boot_ms <= gap_ms
    quiets[container] = Quiet((known.ms if whole else 0) + stretch, after.boot, after.boot_ms)


def ask(tx: Transaction, quiets: Quiets, sample: Sample, containers: Iterable[ContainerSample], book: Lawbook) -> None:
    """Ask the owners, once a day, of those that have looked idle for as long as idle ones may be.

    Args:
        tx: The change.
        quiets: For how long each looked so.
        sample: The newest sample.
        containers: Of it, those that idleness counts for and is not proved of.
        book: The limits.
    """
    for one in containers:
        known, rules = quiets.get(one.id), book.rules(one.user, one.type)
        if known is None or (known.boot, known.boot_ms) != (sample.boot, sample.boot_ms):
            continue
        if rules.idle_timeout is None or known.ms < rules.idle_timeout or rules.rehearse or one.uid is None:
            continue
        life = lifecycle.life(tx, one.id)
        if life is not None and rules.kept_until(life.kept_until, tx.now) > tx.now:
            continue
        if book.exempt(one.uid, one.user, IDLE, one.id):
            continue
        name = short(one.name)
        text = (
            f"{name} looks as if it had done nothing for {span(rules.idle_timeout)} or more: no CPU time or network "
            "traffic worth mentioning, and its GPU cannot say more. Nothing is stopped for this. If you do not need "
            f"the GPU now, others do: `docker stop {name}`"
        )
        lifecycle.tell(tx, one.uid, "notice", one.name, text, repeat_after_ms=_DAY_MS)
