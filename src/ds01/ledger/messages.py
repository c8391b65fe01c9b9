"""The spool of what goes to people: which notice goes which way, what was sent, and what has to be tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from .lifecycle import Notice
from .store import Transaction, View

_SPOOLED = "notices spooled"


class Entry(NamedTuple):
    """A notice that waits to go one way."""

    notice: int
    uid: int
    at: int
    kind: str
    subject: str
    text: str
    message: str | None
    """The message it is part of, once it was put into one."""
    tries: int
    not_before: int


class Delivery(NamedTuple):
    """What became of a notice on one way."""

    notice: int
    channel: str
    state: Literal["waiting", "sent", "dropped"]
    message: str | None
    tries: int
    not_before: int
    ended: int | None
    reason: str | None


def spool(tx: Transaction, ways: Callable[[Notice], Iterable[str]]) -> int:
    """Let every new notice go the ways it should. Returns how many there were."""
    last = int(tx.value("SELECT value FROM meta WHERE key = ?", (_SPOOLED,)) or 0)
    new = tx.rows(Notice, "SELECT * FROM notices WHERE id > ? ORDER BY id", (last,))
    for notice in new:
        for channel in ways(notice):
            tx.change("INSERT INTO deliveries (notice, channel) VALUES (?, ?)", (notice.id, channel))
    if new:
        tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_SPOOLED, str(new[-1].id)))
    return len(new)


def waiting(view: View, channel: str) -> list[Entry]:
    """Return what waits to go one way, the oldest first."""
    return view.rows(
        Entry,
        "SELECT notice, uid, at, kind, subject, text, message, tries, not_before FROM deliveries"
        " JOIN notices ON notices.id = notice WHERE channel = ? AND state = 'waiting' ORDER BY notice",
        (channel,),
    )


def sent_since(view: View, channel: str, since: int) -> dict[int, int]:
    """Return how many messages each person got by one way since a time."""
    query = (
        "SELECT uid, count(DISTINCT message) AS number FROM deliveries JOIN notices ON notices.id = notice"
        " WHERE channel = ? AND ended > ? AND state = 'sent' GROUP BY uid"
    )
    return {row.uid: row.number for row in view.rows(_Count, query, (channel, since))}


def put_together(tx: Transaction, channel: str, notices: Iterable[int], message: str) -> None:
    """Make one message of notices. It stays what it is, however often it is tried."""
    for notice in notices:
        tx.change("UPDATE deliveries SET message = ? WHERE notice = ? AND channel = ?", (message, notice, channel))


def begin(tx: Transaction, channel: str, message: str, not_before: int) -> None:
    """Note a try before it is made: whoever dies in the middle of it leaves the next one for then."""
    tx.change(
        "UPDATE deliveries SET tries = tries + 1, not_before = ? WHERE message = ? AND channel = ?",
        (not_before, message, channel),
    )


def end(tx: Transaction, channel: str, message: str, state: Literal["sent", "dropped"], reason: str | None) -> None:
    """Note that a message has arrived, or never will."""
    tx.change(
        "UPDATE deliveries SET state = ?, ended = ?, reason = ? WHERE message = ? AND channel = ?",
        (state, tx.now, reason, message, channel),
    )


def give_up(tx: Transaction, channel: str, before: int) -> int:
    """Drop what was written before a time and has not arrived. Returns how many notices that were."""
    return tx.change(
        "UPDATE deliveries SET state = 'dropped', ended = ? WHERE channel = ? AND state = 'waiting'"
        " AND notice IN (SELECT id FROM notices WHERE at < ?)",
        (tx.now, channel, before),
    )


def put_off(tx: Transaction, channel: str, message: str, reason: str) -> None:
    """Note why a try failed."""
    tx.change("UPDATE deliveries SET reason = ? WHERE message = ? AND channel = ?", (reason, message, channel))


def deliveries(view: View, notice: int) -> list[Delivery]:
    """Return what became of one notice."""
    return view.rows(Delivery, "SELECT * FROM deliveries WHERE notice = ? ORDER BY channel", (notice,))


class _Count(NamedTuple):
    uid: int
    number: int
