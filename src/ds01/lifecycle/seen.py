"""The containers of the engine as lifecycle rules see them, and for how long each ran and was stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ds01.ledger import Moment
from ds01.ledger.lifecycle import Life
from ds01.monitor.containers import Infrastructure, container_type
from ds01.reconcile.containers import seen_container


class Seen(NamedTuple):
    """A container. Times are UTC ms, 0 is never."""

    id: str
    name: str
    uid: int | None
    user: str
    type: str
    managed: bool
    """Made through DS01, so that its end was agreed."""
    running: bool
    created: bool
    """Made, and never started."""
    waits: bool
    """The engine was to start it and could not yet."""
    marked: bool
    """Its maker says that it belongs to the system."""
    started: int
    finished: int


def seen(container: Mapping[str, Any], default_runtime: str = "", infrastructure: Infrastructure | None = None) -> Seen:
    """Return an inspected container; without the last two arguments, without what they decide."""
    found = seen_container(container, default_runtime)
    state: Mapping[str, Any] = container.get("State") or {}
    labels: Mapping[str, str] = (container.get("Config") or {}).get("Labels") or {}
    return Seen(
        id=found.id,
        name=found.name,
        uid=found.uid,
        user=found.user,
        type=container_type(labels),
        managed=found.ours,
        running=found.running,
        created=state.get("Status") == "created",
        waits=found.left_behind or bool(state.get("Restarting")),
        marked=(infrastructure or Infrastructure()).claims(labels, found.name),
        started=_ms(state.get("StartedAt")),
        finished=_ms(state.get("FinishedAt")),
    )


def observe(known: Life | None, one: Seen, now: Moment, *, legacy: bool) -> Life:
    """Return the life of a container until now.

    Between two looks the clock since boot counts. What is seen for the first time counts from its start, except what
    was there before DS01: that begins now.

    Args:
        known: What the ledger says.
        one: The container.
        now: This moment.
        legacy: Whether it was there before DS01.
    """
    head = (one.id, one.name, one.uid, int(one.running), now.wall_ms, now.boot, now.boot_ms)
    if known is None:
        began = one.running and not legacy and one.started > 0
        return Life(*head, ran_ms=_within(now.wall_ms - one.started, now.boot_ms) if began else 0)
    same = known.seen_boot == now.boot
    # While the host was down nothing ran, and nobody could start what was stopped.
    elapsed = max(0, now.boot_ms - known.seen_boot_ms) if same else now.boot_ms if one.running else 0
    ran, stopped = known.ran_ms, known.stopped_ms
    if one.running:
        ran += elapsed if known.running and same else _within(now.wall_ms - one.started, elapsed)
        stopped = 0
    elif known.running:
        stopped = _within(now.wall_ms - one.finished, elapsed)
        ran += elapsed - stopped
    else:
        # Started and stopped again between two looks: its time begins again.
        since = elapsed + stopped if one.created else max(0, now.wall_ms - one.finished)
        stopped = min(stopped + elapsed, since)
    return known._replace(
        name=one.name,
        uid=one.uid,
        running=int(one.running),
        seen=now.wall_ms,
        seen_boot=now.boot,
        seen_boot_ms=now.boot_ms,
        ran_ms=ran,
        stopped_ms=stopped,
        # Whoever starts it again is told anew.
        removal_told=None if one.running or stopped < (known.removal_told or 0) else known.removal_told,
    )


def _within(length: int, most: int) -> int:
    return min(max(0, length), most)


def _ms(text: Any) -> int:
    try:
        # The engine writes nanoseconds, which Python does not read; year 1 is never.
        return max(0, int(datetime.fromisoformat(re.sub(r"\.\d+", "", str(text))).timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0
