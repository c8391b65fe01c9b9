"""For how long whom a device was kept from others: intervals as the leases move, and their sum per day for ever.

The length of an interval comes from the clock since boot, so setting the clock neither gives nor takes GPU time. Over a
reboot it ends when this boot's predecessor was last seen alive.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from .errors import LedgerConflictError
from .rows import UsageInterval, UsageKind
from .store import Transaction, View

DAY_MS: Final = 86_400_000
_LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: a clock beyond it is wrong, and the calendar ends there."""


def begin(tx: Transaction, lease: int, kind: UsageKind) -> None:
    """Open an interval of a lease, not before the last one on its device ended."""
    tx.change(
        "INSERT INTO usage (lease, device, uid, user, group_name, weight, kind, opened_at, opened_boot, opened_boot_ms)"
        " SELECT l.id, l.device, c.uid, c.user, c.group_name, d.weight, :kind,"
        " max(:now, coalesce((SELECT max(closed_at) FROM usage WHERE device = l.device), 0)), :boot, :boot_ms"
        " FROM leases l JOIN claims c USING (token) JOIN devices d ON d.uuid = l.device WHERE l.id = :lease",
        {"lease": lease, "kind": kind, "now": tx.now, "boot": tx.moment.boot, "boot_ms": tx.moment.boot_ms},
    )


def end(tx: Transaction, lease: int) -> None:
    """Close the open interval of a lease and add it to its days. Raises LedgerConflictError if there is none."""
    found = tx.row(UsageInterval, "SELECT * FROM usage WHERE lease = ? AND closed_at IS NULL", (lease,))
    if found is None:
        raise LedgerConflictError(f"lease {lease}: has no open usage interval")
    if found.opened_boot == tx.moment.boot:
        until, length = tx.now, max(0, tx.moment.boot_ms - found.opened_boot_ms)
    else:
        seen = tx.value("SELECT value FROM meta WHERE key = ?", (f"seen {found.opened_boot}",))
        until = int(seen) if seen is not None else found.opened_at
        length = max(0, until - found.opened_at)
    until = min(max(found.opened_at, until), _LATEST_MS)
    tx.change("UPDATE usage SET closed_at = ?, gpu_ms = ? WHERE id = ?", (until, length, found.id))
    _roll_up(tx, found, until, length)


def balance(view: View, lease: int, device: str) -> int:
    """Return by how many milliseconds a lease ran longer than it was held without running; less than 0: shorter."""
    found = view.value(
        "SELECT sum(iif(kind = 'running', gpu_ms, -gpu_ms)) FROM usage INDEXED BY usage_by_device"
        # The index leads past the years before the lease.
        " WHERE device = :device AND lease = :lease AND closed_at >= (SELECT created FROM leases WHERE id = :lease)",
        {"lease": lease, "device": device},
    )
    return int(found or 0)


def seen(tx: Transaction) -> None:
    """Note that this boot is still alive, for intervals that a power failure leaves open."""
    tx.change(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (f"seen {tx.moment.boot}", str(tx.now)),
    )
    tx.change(
        "DELETE FROM meta WHERE key GLOB 'seen *' AND key <> ? AND substr(key, 6) NOT IN"
        " (SELECT opened_boot FROM usage WHERE closed_at IS NULL)",
        (f"seen {tx.moment.boot}",),
    )


def carry_over(tx: Transaction) -> None:
    """End what was open when the host went down, and begin anew for the leases that have lasted."""
    before = tx.rows(
        UsageInterval,
        "SELECT * FROM usage WHERE closed_at IS NULL AND opened_boot <> ? ORDER BY id",
        (tx.moment.boot,),
    )
    for interval in before:
        end(tx, interval.lease)
        begin(tx, interval.lease, interval.kind)


def intervals(view: View, *, since: int, uid: int | None = None) -> list[UsageInterval]:
    """Return what was open at or after a time, oldest first; of one person if a uid is given."""
    return view.rows(
        UsageInterval,
        "SELECT * FROM usage WHERE (closed_at IS NULL OR closed_at >= :since) AND (:uid IS NULL OR uid = :uid)"
        " ORDER BY opened_at, id",
        {"since": since, "uid": uid},
    )


def _roll_up(tx: Transaction, interval: UsageInterval, until: int, length: int) -> None:
    """Add the true length to the days before its end: however the clock was set, their sum is the true length."""
    column = "running_ms" if interval.kind == "running" else "held_ms"
    at = max(0, until - length)
    left = length
    while left > 0:
        part = min(left, DAY_MS - at % DAY_MS)
        day = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")
        tx.change(
            f"INSERT INTO usage_daily (day, uid, group_name, device, {column}) VALUES (?, ?, ?, ?, ?)"  # noqa: S608 - one of two constants
            f" ON CONFLICT DO UPDATE SET {column} = {column} + excluded.{column}",
            (day, interval.uid, interval.group_name, interval.device, part),
        )
        at += part
        left -= part
