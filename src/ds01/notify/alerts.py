"""What the administrators are told: what failed, whose containers nobody owns, and that messages do not arrive."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ds01 import events
from ds01.api import trail
from ds01.ledger import Transaction, lifecycle
from ds01.monitor.strangers import FIX, sentence

_READ: Final = "notices events"
_OVERLAP_S: Final = 10.0
"""Writers of the log take the time before they wait for their turn: lines may be this much out of order."""
_FAR_S: Final = 3600.0
"""After a longer pause only the last hour is told: what is older was seen elsewhere."""
_TOLD_MAX: Final = 1000
"""More than the overlap can hold; bounded whatever is written there."""
_STRANGERS: Final = "notices strangers"
_AWAY_MS: Final = 3_600_000
"""A directory service that is away for less leaves people with accounts."""
_DAY_MS: Final = 86_400_000
_TYPES: Final = frozenset({"health.fail", "policy.reject"})


def take(tx: Transaction, settings: Mapping[str, Any]) -> None:
    """Tell the administrators what failed since the last time; in the same step it is noted how far that was."""
    now = tx.now / 1000
    known = json.loads(tx.value("SELECT value FROM meta WHERE key = ?", (_READ,)) or "null")
    if known is None:
        known = {"until": now, "told": []}
    since = max(float(known["until"]) - _OVERLAP_S, now - _FAR_S)
    told = list(known["told"])
    for event in _failures(events.timestamp(since)):
        number = str(event.get("id"))
        if number in known["told"] or str(event.get("ts")) > events.timestamp(now):
            continue
        told.append(number)
        subject = trail.part(event, "subject")
        name = subject.get("gpu") if subject.get("kind") == "device" else subject.get("name")
        text = " ".join(str(event[key]) for key in ("reason", "fix") if event.get(key))
        repeat = settings["repeat_after"] * 1000
        lifecycle.tell(tx, 0, "warning", f"{event.get('type')} {name}", text, repeat_after_ms=repeat)
    state = json.dumps({"until": now, "told": told[-_TOLD_MAX:]})
    tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_READ, state))


def strangers(tx: Transaction, names: Sequence[str]) -> None:
    """Tell the administrators, once a day, of containers that have had no owner with an account for an hour.

    Args:
        tx: The change.
        names: Those that run now, as `ds01.monitor.strangers` found them.
    """
    if not names:
        tx.change("DELETE FROM meta WHERE key = ?", (_STRANGERS,))
        return
    tx.change("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_STRANGERS, str(tx.now)))
    since = int(tx.value("SELECT value FROM meta WHERE key = ?", (_STRANGERS,)))
    if tx.now - since >= _AWAY_MS:
        text = f"{sentence(names)}. {FIX}"
        lifecycle.tell(tx, 0, "warning", "containers without an owner", text, repeat_after_ms=_DAY_MS)


def failing(tx: Transaction, channel: str, why: str | None) -> bool:
    """Note whether a way works, None, or why not. Returns whether that it does not is new."""
    key = f"notices failing {channel}"
    if why is None:
        tx.change("DELETE FROM meta WHERE key = ?", (key,))
        return False
    return bool(tx.change("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, why)))


def record_failure(channel: str, why: str) -> None:
    """Put it into the audit trail that messages do not arrive; the other ways tell the administrators."""
    events.record(
        "health.fail",
        actor=events.this_process("notices"),
        subject={"kind": "channel", "name": channel},
        decision="failed",
        rule="notifications",
        reason=f"Messages do not arrive: {why}",
        fix="They are tried again for a day; `ds01 enforce notices` tries at once.",
    )


def _failures(since: str) -> Iterator[dict[str, Any]]:
    with suppress(OSError):
        for line in trail.lines(since):
            if line is None:
                return
            event = trail.parse(line)
            if event is None or str(event.get("ts", "")) < since:
                continue
            # What a member's request makes fail is an answer to them, and they could make any number of it.
            if event.get("type") in _TYPES or (
                event.get("decision") == "failed" and not str(event.get("type")).startswith("gateway.")
            ):
                yield event
