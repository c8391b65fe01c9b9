"""Sizes, durations and CPU shares as people write them, and back.

Sizes are binary like Docker's: `32g` is 32 x 2**30 bytes, `32GB` and `32GiB` are the same.
Standard library only.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ds01.policy.problems import BadValue

if TYPE_CHECKING:
    from decimal import Decimal

SIZE_UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
DURATION_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
# The kernel and systemd keep sizes in signed 64 bits, and a century is longer than any lab runs.
SIZE_MAX = 2**63 - 1
DURATION_MAX = 100 * 366 * 86_400
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([bkmgtp])(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?\s*[wdhms]\s*)+", re.IGNORECASE)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([wdhms])", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")
_LONG_HOURS = 72 * 3_600


def _exact(number: str) -> Decimal:
    from decimal import Decimal  # noqa: PLC0415 - commands that only show limits do without

    return Decimal(number)


def parse_size(text: str) -> int:
    """Return the bytes of "32g", "512M" or "1.5 GiB" (binary units). Raises BadValue."""
    match = _SIZE.fullmatch(text.strip())
    expected = 'a size with a unit, like "512m" or "32g"'
    if match is None:
        raise BadValue(expected, _size_hint(text))
    size = int(_exact(match[1]) * SIZE_UNITS[match[2].lower()])
    if size > SIZE_MAX:
        raise BadValue("a size below 8 EiB", "check the unit")
    return size


def _size_hint(text: str) -> str:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip()):
        return f'add the unit: "{text.strip()}g" or "{text.strip()}m"'
    return "write a number and one of k, m, g, t; null means unlimited"


def format_size(size: int) -> str:
    """Return the shortest exact spelling: 34359738368 -> "32g"."""
    for unit in ("t", "g", "m", "k"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}b"


def rounded_size(size: int) -> str:
    """Return a measured size as people read it: 34500000000 -> "32.1 GiB"."""
    for unit, name in (("t", "TiB"), ("g", "GiB"), ("m", "MiB"), ("k", "KiB")):
        if size >= SIZE_UNITS[unit]:
            return f"{size / SIZE_UNITS[unit]:.1f} {name}"
    return f"{size} B"


def parse_duration(text: str) -> int:
    """Return the seconds of "48h", "1h30m", "0.5h", "7d" or "1w". Raises BadValue."""
    clean = text.strip()
    if not _DURATION.fullmatch(clean):
        hint = "write units like 90s, 30m, 48h, 7d or 1w; null switches it off"
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", clean):
            hint = f'add the unit: "{clean}h" or "{clean}m"'
        elif match := re.fullmatch(r"([0-9]+):([0-9][0-9])", clean):
            hint = f'write "{match[1]}h{match[2]}m"'
        raise BadValue('a duration with a unit, like "48h", "1h30m" or "7d"', hint)
    parts = [(_exact(number), unit.lower()) for number, unit in _DURATION_PART.findall(clean)]
    units = [unit for _, unit in parts]
    if units != sorted(set(units), key="wdhms".index):
        raise BadValue("each unit once, the largest first", 'write it like "1d12h30m"')
    seconds = round(sum(number * DURATION_UNITS[unit] for number, unit in parts))
    if seconds > DURATION_MAX:
        raise BadValue("a duration below a hundred years", "null switches it off")
    return seconds


def format_duration(seconds: int) -> str:
    """Return a short exact spelling: 5400 -> "1h30m", 172800 -> "48h", 604800 -> "7d"."""
    if seconds == 0:
        return "0s"
    if seconds % 3_600 == 0 and seconds < _LONG_HOURS:
        return f"{seconds // 3_600}h"
    text = ""
    for unit in "dhms":
        count, seconds = divmod(seconds, DURATION_UNITS[unit])
        text += f"{count}{unit}" if count else ""
    return text


def parse_cpu_percent(text: str) -> float:
    """Return the CPUs of a systemd CPU quota: "9600%" -> 96.0. Raises BadValue."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None:
        raise BadValue('a number of CPUs, or a percentage like "9600%"', "write the CPUs as a number, like 96")
    return float(_exact(match[1]) / 100)


def format_number(number: float) -> str:
    """Return a number without a useless fraction: 32.0 -> "32"."""
    return str(int(number)) if math.isfinite(number) and number == int(number) else str(number)
