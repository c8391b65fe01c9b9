"""Tell people who come near a limit, at the parts of it that `notifications.quota_alert_at` names.

Told is who crosses such a part upwards: once, until they were clearly below it and `repeat_after` is over.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ds01 import events
from ds01.allocator import picture
from ds01.allocator.decide import holdings
from ds01.allocator.people import People
from ds01.ledger import Transaction, View, disk, lifecycle, objects
from ds01.lifecycle.room import LIMIT
from ds01.notify import measure
from ds01.notify.measure import Person, Use
from ds01.policy.nss import unix_groups
from ds01.policy.resolver import resolve

_STATE: Final = "near limits"
_CLEARLY: Final = 0.05
"""So far below a part of a limit it counts as left: what goes up and down by little is one crossing."""
_EXACT: Final = 1e-6
_FIXES: Final = {
    "max_mig_instances": "Stop a container whose GPU you do not need: `ds01 gpu user-status` shows them.",
    "max_gpu_equivalents": "Stop a container whose GPU you do not need: `ds01 gpu user-status` shows them.",
    "max_containers_per_user": "Remove what you do not need: `ds01 container list --all` shows them.",
    "memory": "At the limit the kernel ends a process of yours: stop what you do not need.",
    "tasks": "At the limit no process or thread can be started: stop what you do not need.",
    "cpus": "Your containers take turns: they get slower, nothing is ended.",
    "storage.home": "When it is full nothing can be saved: remove files, or move them to scratch.",
    "storage.scratch": "When it is full nothing can be saved: remove files.",
}


class Step(NamedTuple):
    """What is remembered of one person and limit: the part that was crossed, and when which part was told."""

    part: float
    told: dict[str, int]


def judge(use: Use, before: Step, parts: Sequence[float], now: int, repeat_ms: int) -> tuple[Step, float | None]:
    """Return what to remember now, and the part of the limit that is to be told, if any.

    Args:
        use: How much of it is used.
        before: What was remembered.
        parts: Parts of a limit at which people are told.
        now: UTC milliseconds.
        repeat_ms: The same part is not told again within this.
    """
    share = use.used / use.most
    reached = max((part for part in parts if share >= part - _EXACT), default=0.0)
    told = {part: at for part, at in before.told.items() if now - repeat_ms < at <= now}
    if reached > before.part:
        if str(reached) in told:
            return Step(reached, told), None
        return Step(reached, {**told, str(reached): now}), reached
    return Step(before.part if share > before.part - _CLEARLY else reached, told), None


class Look(NamedTuple):
    """What everybody uses of their limits at one moment."""

    uses: list[tuple[Person, Use]]
    cpus: measure.CpuAverages


def look(view: View, tables: dict[str, Any]) -> Look:
    """Look at what everybody uses. Name services are asked for it: never while others wait for the ledger."""
    cpus = measure.CpuAverages(view)
    return Look(list(_uses(view, tables, cpus)), cpus)


def take(tx: Transaction, settings: Mapping[str, Any], seen: Look) -> list[dict[str, Any]]:
    """Let all be told who came near a limit. Returns the events of that, for after the change."""
    seen.cpus.keep(tx)
    parts = sorted(part for part in settings["quota_alert_at"] if part > 0)
    state: dict[str, Any] = json.loads(tx.value("SELECT value FROM meta WHERE key = ?", (_STATE,)) or "{}")
    after: dict[str, Any] = {}
    facts = []
    for person, use in seen.uses:
        key = f"{person.uid} {use.limit}"
        known = state.get(key)
        step, reached = judge(
            use, Step(*known) if known else Step(0.0, {}), parts, tx.now, settings["repeat_after"] * 1000
        )
        if step.part or step.told:
            after[key] = step
        if reached is not None:
            text = f"{use.text} ({round(100 * use.used / use.most)} %). {use.fix or _FIXES[use.limit]}"
            lifecycle.tell(tx, person.uid, "notice", use.limit, text)
            facts.append(_fact(person, use, text))
    if after != state:
        tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_STATE, json.dumps(after)))
    return facts


def _uses(view: View, tables: dict[str, Any], cpus: measure.CpuAverages) -> Iterator[tuple[Person, Use]]:
    """Yield what everybody uses of each of their limits; what is not limited or not known is left out."""
    seen = picture.snapshot(view, People(tables))
    rows = objects.listing(view, "container")
    counts: dict[int, int] = {}
    for row in rows:
        if row.uid is not None:
            counts[row.uid] = counts.get(row.uid, 0) + 1
    holders = {device.holder.uid for device in seen.devices if device.holder}
    now = datetime.fromtimestamp(view.now / 1000, UTC)
    slices = measure.slices()
    for person in measure.people({*counts, *holders, *disk.totals(view)}, slices):
        resolved = resolve(tables, person.user, now, unix_groups(tables, person.user))
        mine = holdings(seen, uid=person.uid)
        own: Iterable[Use | None] = (
            measure.use("max_mig_instances", mine.devices, resolved.values.get("max_mig_instances"), "GPU devices"),
            measure.use("max_gpu_equivalents", mine.equivalents, resolved.values.get("max_gpu_equivalents"), "GPUs"),
            measure.use(
                "max_containers_per_user",
                counts.get(person.uid, 0),
                resolved.values["max_containers_per_user"],
                "containers",
            ),
            *measure.of_slice(slices.get(person.user, ())),
            *cpus.of(slices.get(person.user, ())),
            *measure.disks(tables, person, resolved.values),
            measure.space(view, person, resolved.values[LIMIT]),
        )
        yield from ((person, use) for use in own if use is not None)


def _fact(person: Person, use: Use, text: str) -> dict[str, Any]:
    return {
        "type": "limit.near",
        "actor": events.this_process("notices"),
        "subject": {"kind": "user", "name": person.user},
        "decision": "warned",
        "rule": use.limit,
        "reason": text,
        "details": {"uid": person.uid, "user": person.user, "used": use.used, "limit": use.most},
    }
