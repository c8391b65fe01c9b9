"""When something may be sent, and when it is tried again. Times are UTC milliseconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from ds01.ledger.messages import Entry

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
_AGAIN_MS: Final = (MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS)
"""Until the second, third ... try; the last one again and again. A mail server that greylists wants minutes."""
LASTS_MS: Final = DAY_MS
"""After a day a message is given up: what it says is over. `ds01 notices` still shows it."""
CHANNELS: Final = ("terminal", "container", "email", "teams")
_REMOTE: Final = frozenset({"email", "teams"})
"""Ways that can wake somebody up."""
URGENT: Final = "warning"


def again_at(now: int, tries: int) -> int:
    """Return when a message is tried again that was tried so often, the try that begins now included."""
    return now + _AGAIN_MS[min(tries, len(_AGAIN_MS)) - 1]


def is_due(entry: Entry, now: int) -> bool:
    """Tell whether it is time for another try; a clock that was set back does not make it wait."""
    return not now < entry.not_before <= now + _AGAIN_MS[-1]


def is_quiet(hours: str | None, now: int) -> bool:
    """Tell whether a moment is within hours like 21:00-05:00; the end does not count."""
    if hours is None:
        return False
    begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in hours.split("-"))
    minute = now % DAY_MS // MINUTE_MS
    return begin <= minute < end if begin <= end else minute >= begin or minute < end


def together(
    entries: Iterable[Entry], channel: str, settings: Mapping[str, Any], sent: Mapping[int, int], now: int
) -> list[list[Entry]]:
    """Return what goes out as one message now: all that waits for a person, if they may get one.

    Args:
        entries: What waits and is in no message yet.
        channel: The way.
        settings: `notifications` of the policy.
        sent: How many messages each person got by this way in the last hour.
        now: This moment.
    """
    quiet = channel in _REMOTE and is_quiet(settings["quiet_hours"], now)
    found = []
    for uid, group in groupby(sorted(entries, key=attrgetter("uid", "notice")), key=attrgetter("uid")):
        theirs = list(group)
        if quiet and all(entry.kind != URGENT for entry in theirs):
            continue
        if sent.get(uid, 0) < settings["max_per_hour"]:
            found.append(theirs)
    return found
