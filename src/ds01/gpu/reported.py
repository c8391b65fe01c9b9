"""What GPUs reported since the boot, in a file: one process listens, everybody who judges their health reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

from ds01.files import atomic_write
from ds01.gpu.watch import GpuEvent

REPORTED: Final = Path("/run/ds01/gpu-events.json")
"""Below /run: a reboot resets the GPUs, and what they reported before is over."""
_ALIKE_MAX: Final = 100
"""Of one kind on one instance; more say nothing new."""
_ALL_MAX: Final = 2000


def remember(known: Iterable[GpuEvent], new: GpuEvent) -> tuple[GpuEvent, ...]:
    """Return what is known with one more event, never more than some hundreds."""
    kept = tuple(known)
    alike = [event for event in kept if _key(event) == _key(new)]
    if len(alike) >= _ALIKE_MAX:
        kept = tuple(event for event in kept if event is not alike[0])
    return (*kept, new)[-_ALL_MAX:]


def save(events: Iterable[GpuEvent], path: Path | None = None) -> None:
    """Write them for everybody. Raises OSError."""
    rows = [asdict(event) | {"at": event.at.isoformat()} for event in events]
    atomic_write(path or REPORTED, json.dumps(rows) + "\n", mode=0o644)


def load(path: Path | None = None) -> tuple[GpuEvent, ...]:
    """Return what was reported; nothing where nobody listens."""
    try:
        rows = json.loads((path or REPORTED).read_bytes())
        return tuple(GpuEvent(**{**row, "at": datetime.fromisoformat(row["at"])}) for row in rows)
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _key(event: GpuEvent) -> tuple[object, ...]:
    return event.kind, event.gpu_uuid, event.gi_id, event.ci_id, event.data
