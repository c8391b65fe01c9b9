"""Time as the ledger needs it: where on the calendar, and how long, which a clock that is set must not change."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Moment(NamedTuple):
    """One instant: UTC milliseconds, the boot it is in, and milliseconds since that boot, which only ever grow."""

    wall_ms: int
    boot: str
    boot_ms: int


Clock: TypeAlias = Callable[[], Moment]


def system_clock() -> Moment:
    """Return the present."""
    return Moment(time.time_ns() // 1_000_000, boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000)


@cache
def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
