"""The life of claims and leases: every legal step, each with the usage that it begins or ends.

    pending -> bound -> running <-> held -> released, and to released from each of them

All are functions on an open transaction; none decides who may have what.
"""

from __future__ import annotations

import secrets
from typing import Any

from . import usage
from .errors import DeviceTakenError, LedgerConflictError
from .rows import Claim, Lease, LiveLease
from .store import Transaction, View

_LIVE = "SELECT * FROM leases WHERE state <> 'released' AND "
# Where all live leases are read, INDEXED BY names their index: by itself SQLite reads the past ones, too, in order.


def open_claim(
    tx: Transaction, *, uid: int, user: str, group_name: str, priority: int, request: str, token: str | None = None
) -> Claim:
    """Begin a claim without leases.

    Args:
        tx: The change this is part of.
        uid: Whose it is.
        user: Their login.
        group_name: Their group in the policy.
        priority: From the policy.
        request: What was asked, as JSON.
        token: For rebuilding only; otherwise a random one.

    Raises:
        LedgerConflictError: The token is known, or the request is no JSON.
    """
    token = token or secrets.token_hex(16)
    tx.insert(
        "claims",
        token=token,
        uid=uid,
        user=user,
        group_name=group_name,
        priority=priority,
        request=request,
        created=tx.now,
    )
    return claim(tx, token)


def claim(view: View, token: str) -> Claim:
    """Return a claim. Raises LedgerConflictError for a token that nobody was given."""
    found = find_claim(view, token)
    if found is None:
        raise LedgerConflictError(f"GPU claim {token}: not known: create the container again")
    return found


def find_claim(view: View, token: str) -> Claim | None:
    """Return a claim, or None for a token that nobody was given."""
    return view.row(Claim, "SELECT * FROM claims WHERE token = ?", (token,))


def claim_of(view: View, container_id: str) -> Claim | None:
    """Return the claim of a container, or None where it has none."""
    return view.row(Claim, "SELECT * FROM claims WHERE container_id = ?", (container_id,))


def keep_name(tx: Transaction, *, uid: int, user: str, group_name: str) -> None:
    """Let what a person holds and waits for be that of the name and group that they have now."""
    who = {"uid": uid, "user": user, "group": group_name}
    tx.change(
        "UPDATE queue INDEXED BY waiting SET user = :user, group_name = :group"
        " WHERE uid = :uid AND state = 'waiting' AND (user <> :user OR group_name <> :group)",
        who,
    )
    tx.change(
        "UPDATE claims INDEXED BY open_claims SET user = :user, group_name = :group"
        " WHERE uid = :uid AND state = 'open' AND (user <> :user OR group_name <> :group)",
        who,
    )


def open_claims(view: View) -> list[Claim]:
    """Return the claims that are not closed, oldest first."""
    return view.rows(Claim, "SELECT * FROM claims WHERE state = 'open' ORDER BY created, token")


def leases_of(view: View, token: str) -> list[Lease]:
    """Return the live leases of a claim, oldest first."""
    return view.rows(Lease, f"{_LIVE} token = ? ORDER BY id", (token,))


def formerly(view: View, token: str) -> frozenset[str]:
    """Return the devices that a claim ever had."""
    found = view.value("SELECT group_concat(DISTINCT device) FROM leases WHERE token = ?", (token,))
    return frozenset(str(found).split(",") if found else ())


def live(view: View) -> list[LiveLease]:
    """Return every lease that keeps a device from others, with whose it is."""
    return view.rows(
        LiveLease,
        "SELECT l.id, l.token, l.device, l.state, l.expires, l.started, l.hold_until, c.uid, c.user, c.group_name,"
        " c.priority, c.request, c.container_id, c.container_name"
        " FROM leases l INDEXED BY one_lease_per_device JOIN claims c USING (token)"
        " WHERE l.state <> 'released' ORDER BY l.id",
    )


def grant(tx: Transaction, token: str, device: str, *, expires: int) -> Lease:
    """Give a device to a claim, until `expires` unless it is bound to a container before.

    Raises:
        DeviceTakenError: The device has a lease.
        LedgerNotReadyError: Nothing may be granted yet.
        LedgerConflictError: The claim is closed or unknown, or the device is.
    """
    tx.require_verified()
    return _insert(tx, token=token, device=device, state="pending", created=tx.now, expires=expires)


def adopt(tx: Transaction, token: str, device: str) -> Lease:
    """Note a lease of a container that exists already; for rebuilding. Raises as `grant`, but for verification."""
    return _insert(tx, token=token, device=device, state="bound", created=tx.now)


def _insert(tx: Transaction, **values: Any) -> Lease:
    try:
        number = tx.insert("leases", **values)
    except LedgerConflictError as error:
        device = values["device"]
        if tx.value("SELECT 1 FROM leases WHERE device = ? AND state <> 'released'", (device,)):
            raise DeviceTakenError(f"device {device}: has a lease already") from error
        raise
    return _lease(tx, number)


def bind(
    tx: Transaction, token: str, container_id: str, container_name: str, *, expires: int | None = None
) -> list[Lease]:
    """Tie a claim and its pending leases to the container that was made for it; again with the same one is no change.

    Args:
        tx: The change this is part of.
        token: The claim.
        container_id: The engine's full id.
        container_name: As the engine knows it.
        expires: When the leases end if the container is not started; None: never by themselves.

    Raises:
        LedgerConflictError: The claim is closed, unknown, or another container's.
    """
    found = claim(tx, token)
    if found.state == "closed" or found.container_id not in (None, container_id):
        raise LedgerConflictError(f"GPU claim {token}: is {found.container_id or 'closed'}: create the container again")
    tx.change(
        "UPDATE claims SET container_id = ?, container_name = ? WHERE token = ?", (container_id, container_name, token)
    )
    tx.change("UPDATE leases SET state = 'bound', expires = ? WHERE token = ? AND state = 'pending'", (expires, token))
    return leases_of(tx, token)


def start(tx: Transaction, token: str) -> list[Lease]:
    """Note that the container of a claim is started. Raises LedgerConflictError if it was not bound.

    Note it before the engine is asked: while `started` is later than what is known of a container's end, it runs. Again
    only sets `started`.
    """
    for lease in leases_of(tx, token):
        if lease.state == "running":
            tx.change("UPDATE leases SET started = ? WHERE id = ?", (tx.now, lease.id))
            continue
        _close_usage(tx, lease)
        tx.change(
            "UPDATE leases SET state = 'running', expires = NULL, started = ?, stopped = NULL, hold_until = NULL"
            " WHERE id = ?",
            (tx.now, lease.id),
        )
        usage.begin(tx, lease.id, "running")
    return leases_of(tx, token)


def stop(tx: Transaction, token: str, *, hold_ms: int | None, reason: str) -> list[Lease]:
    """Note that the container of a claim does not run. Returns the leases that ended or are held now.

    Args:
        tx: The change this is part of.
        token: The claim.
        hold_ms: How long the devices are kept for it: 0 releases them at once, None keeps them until it is removed.
            All holds of a lease together are no longer than this and the time that it ran, or a start now and then
            would keep a device for ever that is never used.
        reason: Why, for whoever asks later.
    """
    changed = []
    for lease in leases_of(tx, token):
        if lease.state != "running":
            continue
        _close_usage(tx, lease)
        left = None if hold_ms is None else min(hold_ms, hold_ms + usage.balance(tx, lease.id, lease.device))
        if left is not None and left <= 0:
            changed.append(_released(tx, lease.id, reason))
            continue
        tx.change(
            "UPDATE leases SET state = 'held', stopped = ?, hold_until = ?, reason = ? WHERE id = ?",
            (tx.now, None if left is None else tx.now + left, reason, lease.id),
        )
        usage.begin(tx, lease.id, "held")
        changed.append(_lease(tx, lease.id))
    return changed


def release(tx: Transaction, number: int, reason: str) -> Lease:
    """End one lease; its device is free. Again is no change. Raises LedgerConflictError for an unknown one."""
    lease = _lease(tx, number)
    if lease.state == "released":
        return lease
    _close_usage(tx, lease)
    return _released(tx, number, reason)


def _released(tx: Transaction, number: int, reason: str) -> Lease:
    tx.change("UPDATE leases SET state = 'released', released = ?, reason = ? WHERE id = ?", (tx.now, reason, number))
    return _lease(tx, number)


def move(tx: Transaction, number: int, device: str, reason: str) -> Lease:
    """Let a lease go on with another device, in the state it is in: one whose device was made anew has another name.

    Raises:
        DeviceTakenError: The other device has a lease.
        LedgerConflictError: The lease is unknown or released.
    """
    lease = _lease(tx, number)
    if lease.state == "released":
        raise LedgerConflictError(f"lease {number}: is released")
    release(tx, number, reason)
    moved = _insert(
        tx,
        token=lease.token,
        device=device,
        state=lease.state,
        created=lease.created,
        expires=lease.expires,
        started=lease.started,
        stopped=lease.stopped,
        hold_until=lease.hold_until,
    )
    if lease.state in {"running", "held"}:
        usage.begin(tx, moved.id, "running" if lease.state == "running" else "held")
    return moved


def close_claim(tx: Transaction, token: str, reason: str) -> list[Lease]:
    """End a claim, what it holds and what it waits for; again is no change. Returns the leases that ended."""
    ended = [release(tx, lease.id, reason) for lease in leases_of(tx, token)]
    tx.change(
        "UPDATE queue INDEXED BY waiting SET state = 'cancelled', ended = ?, reason = ?"
        " WHERE token = ? AND state = 'waiting'",
        (tx.now, reason, token),
    )
    tx.change("UPDATE claims SET state = 'closed', closed = ? WHERE token = ? AND state = 'open'", (tx.now, token))
    return ended


def expire(tx: Transaction) -> list[Lease]:
    """End what is over: leases that no container came for or that was not started, and holds.

    A claim that no container ever came for ends with its leases.

    Returns:
        The leases that ended.
    """
    _follow_clock(tx)
    over = tx.rows(
        Lease,
        "SELECT * FROM leases INDEXED BY one_lease_per_device WHERE state <> 'released' AND"
        " ((state IN ('pending', 'bound') AND expires <= :now) OR (state = 'held' AND hold_until <= :now)) ORDER BY id",
        {"now": tx.now},
    )
    why = {"pending": "no container came for it", "bound": "its container was not started", "held": "its hold is over"}
    ended = [release(tx, lease.id, why[lease.state]) for lease in over]
    for token in {lease.token for lease in over}:
        if claim(tx, token).container_id is None and not leases_of(tx, token):
            close_claim(tx, token, "no container came for it")
    return ended


def _follow_clock(tx: Transaction) -> None:
    """What began in the future began now: a clock that was set back must not make anything last longer."""
    tx.change(
        "UPDATE leases INDEXED BY one_lease_per_device SET expires = expires - (created - :now), created = :now"
        " WHERE state <> 'released' AND state IN ('pending', 'bound') AND created > :now",
        {"now": tx.now},
    )
    tx.change(
        "UPDATE leases INDEXED BY one_lease_per_device SET hold_until = hold_until - (stopped - :now), stopped = :now"
        " WHERE state <> 'released' AND state = 'held' AND stopped > :now",
        {"now": tx.now},
    )


def _close_usage(tx: Transaction, lease: Lease) -> None:
    if lease.state in {"running", "held"}:
        usage.end(tx, lease.id)


def _lease(view: View, number: int) -> Lease:
    found = view.row(Lease, "SELECT * FROM leases WHERE id = ?", (number,))
    if found is None:
        raise LedgerConflictError(f"lease {number}: not known")
    return found
