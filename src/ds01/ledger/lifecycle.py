"""How long containers ran and were idle, what they were granted of more, and why they ended; what people are told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from .store import Transaction, View

NoticeKind = Literal["warning", "stopped", "removed", "notice"]
_ENDED_KEPT_MS = 30 * 86_400_000
_NOTICES_KEPT_MS = 30 * 86_400_000


class Life(NamedTuple):
    """One container. Durations are milliseconds as the clock since boot counts them."""

    container: str
    name: str
    uid: int | None
    running: int
    seen: int
    seen_boot: str
    seen_boot_ms: int
    ran_ms: int = 0
    """In all its runs together."""
    stopped_ms: int = 0
    """Since it ended, or was made and not started."""
    runtime_warned: int = 0
    idle_ms: int = 0
    """For which it is proved that it did nothing until `idle_boot_ms`."""
    idle_boot: str = ""
    idle_boot_ms: int = 0
    idle_why: str = ""
    idle_warned: int = 0
    kept_until: int | None = None
    kept_ms: int = 0
    """What its owner used up of the time it may be kept."""
    extended_ms: int = 0
    ended: int | None = None
    ended_rule: str | None = None
    ended_reason: str | None = None
    idle_told: int = 0
    """`idle_ms` at the last warning."""
    runtime_told: int = 0
    """`ran_ms` at the last warning."""
    removal_told: int | None = None
    """`stopped_ms` when its owner was told that it will be removed; None: not told, or started since."""


class Notice(NamedTuple):
    """Something a person is to be told."""

    id: int
    uid: int
    at: int
    kind: NoticeKind
    subject: str
    text: str
    shown: int | None


def lives(view: View) -> dict[str, Life]:
    """Return all that is known, by container."""
    return {life.container: life for life in view.rows(Life, "SELECT * FROM lifecycle")}


def life(view: View, container: str) -> Life | None:
    """Return one by its full id."""
    return view.row(Life, "SELECT * FROM lifecycle WHERE container = ?", (container,))


def named(view: View, name: str) -> list[Life]:
    """Return those of an engine name or the beginning of an id, the latest first; removed ones included."""
    return view.rows(
        Life,
        "SELECT * FROM lifecycle WHERE name = :name"
        " OR (length(:name) >= 12 AND substr(container, 1, length(:name)) = :name) ORDER BY seen DESC",
        {"name": name},
    )


def observed(tx: Transaction, one: Life) -> None:
    """Keep what was observed of a container; what others decided about it stays."""
    tx.change(
        "INSERT INTO lifecycle"
        " (container, name, uid, running, seen, seen_boot, seen_boot_ms, ran_ms, stopped_ms, removal_told) VALUES"
        " (:container, :name, :uid, :running, :seen, :seen_boot, :seen_boot_ms, :ran_ms, :stopped_ms, :removal_told)"
        " ON CONFLICT DO UPDATE SET name = excluded.name, uid = excluded.uid, running = excluded.running,"
        " seen = excluded.seen, seen_boot = excluded.seen_boot, seen_boot_ms = excluded.seen_boot_ms,"
        " ran_ms = excluded.ran_ms, stopped_ms = excluded.stopped_ms, removal_told = excluded.removal_told",
        one._asdict(),
    )


def idle(tx: Transaction, one: Life) -> None:
    """Keep for how long a container has been idle."""
    tx.change(
        "INSERT INTO lifecycle (container, name, uid, seen, seen_boot, seen_boot_ms, idle_ms, idle_boot, idle_boot_ms,"
        " idle_why, idle_warned) VALUES (:container, :name, :uid, :seen, :seen_boot, :seen_boot_ms, :idle_ms,"
        " :idle_boot, :idle_boot_ms, :idle_why, :idle_warned)"
        " ON CONFLICT DO UPDATE SET idle_ms = excluded.idle_ms, idle_boot = excluded.idle_boot,"
        " idle_boot_ms = excluded.idle_boot_ms, idle_why = excluded.idle_why, idle_warned = excluded.idle_warned",
        one._asdict(),
    )


def warned(tx: Transaction, container: str, rule: Literal["idle", "runtime"], times: int, told: int) -> None:
    """Note how often an owner was warned, and how long it had been idle or had run by then (ms)."""
    tx.change(
        f"UPDATE lifecycle SET {rule}_warned = ?, {rule}_told = ? WHERE container = ?",  # noqa: S608 - two words
        (times, told, container),
    )


def removal_told(tx: Transaction, container: str, stopped_ms: int) -> None:
    """Note that an owner was told that a container will be removed."""
    tx.change("UPDATE lifecycle SET removal_told = ? WHERE container = ?", (stopped_ms, container))


def ended(tx: Transaction, container: str, rule: str | None, reason: str | None) -> None:
    """Note why a container was ended; None, that it was not after all."""
    tx.change(
        "UPDATE lifecycle SET ended = ?, ended_rule = ?, ended_reason = ? WHERE container = ?",
        (None if rule is None else tx.now, rule, reason, container),
    )


def keep(tx: Transaction, container: str, until: int, used_ms: int) -> None:
    """Let a container be kept until then; it costs its owner so much."""
    tx.change(
        "UPDATE lifecycle SET kept_until = ?, kept_ms = kept_ms + ?, idle_ms = 0, idle_warned = 0 WHERE container = ?",
        (until, used_ms, container),
    )


def extend(tx: Transaction, container: str, by_ms: int) -> None:
    """Let a container run longer in all."""
    tx.change(
        "UPDATE lifecycle SET extended_ms = extended_ms + ?, runtime_warned = 0 WHERE container = ?", (by_ms, container)
    )


def forget(tx: Transaction, present: Collection[str]) -> None:
    """Forget containers that are gone for a month, and old notices."""
    gone = [
        one.container
        for one in lives(tx).values()
        if one.container not in present and one.seen < tx.now - _ENDED_KEPT_MS
    ]
    for container in gone:
        tx.change("DELETE FROM lifecycle WHERE container = ?", (container,))
    tx.change("DELETE FROM notices WHERE at < ?", (tx.now - _NOTICES_KEPT_MS,))


def tell(
    tx: Transaction, uid: int, kind: NoticeKind, subject: str, text: str, *, repeat_after_ms: int | None = None
) -> bool:
    """Let a person be told something; uid 0 is all administrators. `ds01.notify` brings it to them.

    Args:
        tx: The change that it is about.
        uid: Who.
        kind: A warning is of something that is about to end, and does not wait for the morning.
        subject: What it is about: mostly a container.
        text: One sentence or two.
        repeat_after_ms: If they were told the very same within this time, they are not told again.

    Returns:
        Whether they will be told.
    """
    same = "SELECT 1 FROM notices WHERE uid = ? AND at > ? AND kind = ? AND subject = ? AND text = ?"
    if repeat_after_ms is not None and tx.value(same, (uid, tx.now - repeat_after_ms, kind, subject, text)):
        return False
    tx.insert("notices", uid=uid, at=tx.now, kind=kind, subject=subject, text=text)
    return True


def notices(view: View, uid: int, *, unseen: bool = False) -> list[Notice]:
    """Return what a person is told, the oldest first; with `unseen` only what was not shown yet."""
    return view.rows(
        Notice, "SELECT * FROM notices WHERE uid = ? AND (shown IS NULL OR NOT ?) ORDER BY id", (uid, unseen)
    )


def showed(tx: Transaction, uid: int, up_to: int) -> None:
    """Note that a person has seen the notices up to a number."""
    tx.change("UPDATE notices SET shown = ? WHERE uid = ? AND id <= ? AND shown IS NULL", (tx.now, uid, up_to))
