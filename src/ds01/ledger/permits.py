"""Exemptions from lifecycle rules and grants of more, each with who agreed, why and until when.

They end by themselves: whoever asks whether one counts asks at a moment.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from .store import Transaction, View

Table = Literal["exemptions", "grants"]
BARE_METAL: Final = "bare-metal"
"""The kind of a grant to use the GPUs of the host outside containers."""


class Permit(NamedTuple):
    """An exemption (`kind` is the rule) or a grant (`kind` is what for). `subject` narrows it to one container."""

    id: int
    uid: int
    user: str
    kind: str
    subject: str | None
    created: int
    expires: int | None
    ended: int | None
    reason: str
    approved_by: str


def add(
    tx: Transaction,
    table: Table,
    *,
    uid: int,
    user: str,
    kind: str,
    expires: int | None,
    reason: str,
    approved_by: str,
    subject: str | None = None,
) -> Permit:
    """Add one; `expires` is UTC ms, None is never."""
    number = tx.insert(
        table, uid=uid, user=user, kind=kind, subject=subject, created=tx.now, expires=expires, reason=reason,
        approved_by=approved_by,
    )  # fmt: skip
    found = find(tx, table, number)
    assert found is not None  # noqa: S101 - it was inserted in this transaction
    return found


def find(view: View, table: Table, number: int) -> Permit | None:
    """Return one by its number."""
    return view.row(Permit, f"SELECT * FROM {table} WHERE id = ?", (number,))  # noqa: S608 - two names


def listing(view: View, table: Table, *, past: bool = False) -> list[Permit]:
    """Return those that count now, or all with `past`, the oldest first."""
    return view.rows(
        Permit,
        f"SELECT * FROM {table} WHERE :past OR (ended IS NULL AND (expires IS NULL OR expires > :now)) ORDER BY id",  # noqa: S608 - two names
        {"past": past, "now": view.now},
    )


def counting(view: View, table: Table, uid: int, kind: str, subject: str | None = None) -> Permit | None:
    """Return one of a person that counts now, for this subject or for all; the one that lasts longest."""
    return view.row(
        Permit,
        f"SELECT * FROM {table} WHERE uid = :uid AND kind = :kind AND (subject IS NULL OR subject = :subject)"  # noqa: S608 - two names
        " AND ended IS NULL AND (expires IS NULL OR expires > :now)"
        " ORDER BY expires IS NOT NULL, expires DESC, id LIMIT 1",
        {"uid": uid, "kind": kind, "subject": subject, "now": view.now},
    )


def follow_clock(tx: Transaction, table: Table) -> None:
    """Let what was given in the future be given now: a clock that was set back makes nothing last longer.

    Nor did anything begin or end after now.
    """
    tx.change(
        f"UPDATE {table} SET expires = expires - (created - :now), created = :now"  # noqa: S608 - two names
        " WHERE ended IS NULL AND created > :now",
        {"now": tx.now},
    )
    tx.change(
        f"UPDATE {table} SET created = min(created, :now), ended = :now WHERE ended > :now",  # noqa: S608 - as above
        {"now": tx.now},
    )


def end(tx: Transaction, table: Table, number: int) -> bool:
    """End one before its time. Returns whether it counted until now."""
    return bool(
        tx.change(
            f"UPDATE {table} SET ended = :now WHERE id = :id AND ended IS NULL"  # noqa: S608 - two names
            " AND (expires IS NULL OR expires > :now)",
            {"now": tx.now, "id": number},
        )
    )


def close_expired(tx: Transaction, table: Table) -> list[Permit]:
    """Note the end of those whose time is over; return those of which it was not noted yet."""
    over = tx.rows(Permit, f"SELECT * FROM {table} WHERE ended IS NULL AND expires <= ? ORDER BY id", (tx.now,))  # noqa: S608 - two names
    tx.change(f"UPDATE {table} SET ended = expires WHERE ended IS NULL AND expires <= ?", (tx.now,))  # noqa: S608 - two names
    return over


def label(one: Permit) -> str:
    """Return what a notice about a grant calls it."""
    return f"grant {one.id}"
