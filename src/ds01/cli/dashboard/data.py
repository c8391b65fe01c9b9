"""What the dashboard shows, in one piece: who holds what, and what the monitor saw of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


def collect(ask: Ask) -> dict[str, Any]:
    """Ask for everything. Raises ApiError, ReportedError."""
    you, status, seen = ask("GET", "usage"), ask("GET", "status"), ask("GET", "activity")
    busy = {one["uuid"]: one for one in seen["devices"] or ()}
    return {
        "at": time.time_ns() // 1_000_000,
        "host": os.uname().nodename,
        "you": you,
        "devices": [device | _seen(busy.get(device["uuid"])) for device in status["devices"]],
        "queue": status["queue"],
        "reservations": status["reservations"],
        "people": seen["people"],
        "logins": seen["logins"],
        "monitor": {"at": seen["at"], "age_s": seen["age_s"], "problems": seen["problems"]},
    }


def _seen(found: dict[str, Any] | None) -> dict[str, Any]:
    names = ("busy", "busy_source", "memory_used", "memory_total", "processes")
    return {name: None if found is None else found[name] for name in names}
