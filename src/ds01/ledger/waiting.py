"""Who waits, and who has devices reserved. What follows from it is the allocator's to say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .rows import Reservation, Waiting
from .store import Transaction, View


def enqueue(
    tx: Transaction,
    *,
    uid: int,
    user: str,
    group_name: str,
    priority: int,
    request: str,
    expires: int | None,
    token: str | None = None,
) -> int:
    """Add a request to the queue; returns its number.

    `expires` None waits without an end. `token` is the claim that shall have the devices; None: a new one.
    """
    return tx.insert(
        "queue",
        uid=uid,
        user=user,
        group_name=group_name,
        priority=priority,
        request=request,
        created=tx.now,
        expires=expires,
        token=token,
    )


def prolong(tx: Transaction, number: int, expires: int) -> None:
    """Let a request that waits do so until another time."""
    tx.change("UPDATE queue SET expires = ? WHERE id = ? AND state = 'waiting'", (expires, number))


def waiting(view: View) -> list[Waiting]:
    """Return the requests that wait, oldest first."""
    return view.rows(Waiting, "SELECT * FROM queue INDEXED BY waiting WHERE state = 'waiting' ORDER BY id")


def request(view: View, number: int) -> Waiting | None:
    """Return one request, waiting or not."""
    return view.row(Waiting, "SELECT * FROM queue WHERE id = ?", (number,))


def end_wait(
    tx: Transaction,
    number: int,
    state: Literal["granted", "cancelled", "expired"],
    *,
    token: str | None = None,
    reason: str | None = None,
) -> bool:
    """Take a request out of the queue. Returns whether it waited."""
    return bool(
        tx.change(
            "UPDATE queue SET state = ?, token = coalesce(?, token), ended = ?, reason = ?"
            " WHERE id = ? AND state = 'waiting'",
            (state, token, tx.now, reason, number),
        )
    )


def reserve(
    tx: Transaction,
    *,
    uid: int | None,
    user: str | None,
    group_name: str,
    request: str,
    starts: int,
    ends: int,
    source: Literal["policy", "command"],
    created_by: str,
    devices: Iterable[str] = (),
    reason: str | None = None,
) -> int:
    """Note a reservation and the devices that are chosen for it already; returns its number.

    `user` None is everybody in the group.
    """
    number = tx.insert(
        "reservations",
        uid=uid,
        user=user,
        group_name=group_name,
        request=request,
        starts=starts,
        ends=ends,
        source=source,
        created_by=created_by,
        created=tx.now,
        reason=reason,
    )
    choose(tx, number, devices)
    return number


def choose(tx: Transaction, number: int, devices: Iterable[str]) -> None:
    """Make these the devices of a reservation."""
    tx.change("DELETE FROM reservation_devices WHERE reservation = ?", (number,))
    for uuid in devices:
        tx.insert("reservation_devices", reservation=number, device=uuid)


def chosen(view: View, number: int) -> list[str]:
    """Return the devices of a reservation."""
    found = view.value(
        "SELECT group_concat(device, ' ') FROM (SELECT device FROM reservation_devices WHERE reservation = ?"
        " ORDER BY device)",
        (number,),
    )
    return str(found).split() if found else []


def reservations(view: View) -> list[Reservation]:
    """Return the reservations that are planned or active, by their start."""
    return view.rows(Reservation, "SELECT * FROM reservations WHERE state IN ('planned', 'active') ORDER BY starts, id")


def missed(view: View) -> list[Reservation]:
    """Return the reservations that nobody came for and whose window is not over."""
    return view.rows(Reservation, "SELECT * FROM reservations WHERE state = 'missed' AND ends > ?", (view.now,))


def used(view: View, number: int) -> bool:
    """Tell whether those whom a reservation is for had any of its devices since it began."""
    found = view.value(
        "SELECT 1 FROM reservations r JOIN reservation_devices d ON d.reservation = r.id"
        " JOIN leases l ON l.device = d.device JOIN claims c USING (token)"
        " WHERE r.id = ? AND (l.released IS NULL OR l.released > r.starts)"
        " AND iif(r.user IS NULL, c.group_name = r.group_name, c.user = r.user) LIMIT 1",
        (number,),
    )
    return found is not None


def set_reservation(
    tx: Transaction, number: int, state: Literal["active", "done", "cancelled", "missed"], reason: str | None = None
) -> bool:
    """Move a reservation on. Returns whether it was still planned or active."""
    return bool(
        tx.change(
            "UPDATE reservations SET state = ?, reason = coalesce(?, reason) WHERE id = ?"
            " AND state IN ('planned', 'active')",
            (state, reason, number),
        )
    )
