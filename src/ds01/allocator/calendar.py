"""Reservations as a calendar that calendar programs subscribe to (iCalendar, RFC 5545).

Only what is written here is needed of the format, all times are UTC, and nothing is read; so the runtime does without a
library for it. The tests read the result with one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01.allocator.model import Booking

_LINE_MAX = 75
"""Bytes of a line; what is longer is folded (RFC 5545, 3.1)."""


def calendar(bookings: Iterable[Booking], names: Mapping[str, str], host: str, now: int) -> str:
    """Return a calendar of reservations. `names` are the devices' names by UUID, `host` tells servers apart."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", f"PRODID:-//DS01//{_text(host)}//EN", "CALSCALE:GREGORIAN"]
    for booking in bookings:
        devices = ", ".join(names.get(uuid, uuid) for uuid in booking.devices) or "not chosen yet"
        lines += [
            "BEGIN:VEVENT",
            f"UID:reservation-{booking.id}@{_text(host)}",
            f"DTSTAMP:{_time(now)}",
            f"DTSTART:{_time(booking.starts)}",
            f"DTEND:{_time(booking.ends)}",
            f"SUMMARY:{_text(f'GPU {devices}: {booking.whose}')}",
            *([f"DESCRIPTION:{_text(booking.reason)}"] if booking.reason else []),
            f"LOCATION:{_text(host)}",
            "END:VEVENT",
        ]
    return "".join(_folded(line) for line in [*lines, "END:VCALENDAR"])


def _time(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")


def _text(value: str) -> str:
    """Return a value with what has a meaning in the format escaped; other control characters become spaces."""
    escaped = (
        value.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\r\n", "\n").replace("\n", "\\n")
    )
    return "".join(sign if sign.isprintable() else " " for sign in escaped)


def _folded(line: str) -> str:
    """Return a line in pieces of at most `_LINE_MAX` bytes, never cut inside a character."""
    pieces, piece = [], ""
    for sign in line:
        if len((piece + sign).encode()) > _LINE_MAX:
            pieces.append(piece)
            piece = " "
        piece += sign
    return "\r\n".join([*pieces, piece]) + "\r\n"
