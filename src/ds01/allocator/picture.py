"""The picture a decision is made from, as the ledger has it in this transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01.allocator.model import Booking, DeviceView, Holder, Snapshot
from ds01.allocator.queue import HALF_LIFE_S, Waiting, decayed_hours
from ds01.allocator.request import Request
from ds01.gpu.model import Placement
from ds01.ledger import devices as device_table
from ds01.ledger import leases, usage, waiting

if TYPE_CHECKING:
    from ds01.allocator.people import People
    from ds01.ledger.rows import DeviceRow, LiveLease
    from ds01.ledger.store import View

_HALF_LIVES = 4
"""Use longer ago than this many half-lives counts less than a fifteenth; it is left out."""


def snapshot(view: View, people: People) -> Snapshot:
    """Return all devices with who holds them, and the reservations."""
    held = {lease.device: lease for lease in leases.live(view)}
    rows = [row for row in device_table.devices(view, gone=True) if row.state != "gone" or row.uuid in held]
    foreign = _foreign(view) if any(row.foreign_use for row in rows) else {}
    views = tuple(_device(row, held.get(row.uuid), foreign.get(row.uuid)) for row in rows)
    respected = people.allocation["respect_reservations"]
    return Snapshot(view.now, views, bookings(view) if respected else (), people.allocation["strategy"])


def bookings(view: View) -> tuple[Booking, ...]:
    """Return the reservations that count, now or later."""
    return tuple(
        Booking(
            row.id,
            row.user,
            row.group_name,
            row.starts,
            row.ends,
            tuple(waiting.chosen(view, row.id)),
            row.reason,
        )
        for row in waiting.reservations(view)
    )


def device_names(view: View) -> dict[str, str]:
    """Return what people call each device, by UUID."""
    return {row.uuid: row.id for row in device_table.devices(view, gone=True)}


def queue(view: View, people: People) -> list[Waiting]:
    """Return everybody who waits, with the limits of today."""
    return [
        Waiting(
            row.id,
            people.known(row.uid, row.user, row.group_name, view.now),
            Request.stored(row.request) or Request(),
            row.created,
            recent_hours(view, row.uid),
            row.token,
        )
        for row in waiting.waiting(view)
    ]


def recent_hours(view: View, uid: int) -> float:
    """Return the GPU-hours of a person that count for fair share."""
    since = view.now - _HALF_LIVES * HALF_LIFE_S * 1000
    spans = []
    for row in usage.intervals(view, since=since, uid=uid):
        end = view.now if row.closed_at is None else row.closed_at
        length = end - row.opened_at if row.gpu_ms is None else row.gpu_ms
        spans.append((end - length, end, row.weight))
    return decayed_hours(spans, view.now)


def _foreign(view: View) -> dict[str, str]:
    found: dict[str, str] = {}
    for occupant in device_table.occupants(view):
        text = f"{occupant.kind} {occupant.name}"
        found[occupant.device] = f"{found[occupant.device]}, {text}" if occupant.device in found else text
    return found


def _device(row: DeviceRow, lease: LiveLease | None, foreign: str | None) -> DeviceView:
    placement = None if row.start is None or row.size is None else Placement(row.start, row.size)
    return DeviceView(
        uuid=row.uuid,
        gpu_uuid=row.gpu_uuid,
        gpu_index=row.gpu_index,
        mig_index=row.mig_index,
        gi_id=row.gi,
        ci_id=row.ci,
        placement=placement,
        profile=row.profile,
        memory_bytes=row.memory,
        weight=row.weight,
        model=row.model,
        state=row.state,
        reason=row.reason,
        foreign=foreign,
        holder=None if lease is None else _holder(lease),
    )


def _holder(lease: LiveLease) -> Holder:
    who = (lease.token, lease.uid, lease.user, lease.group_name, lease.priority)
    return Holder(*who, lease.state, lease.container_name, _end(lease))


def _end(lease: LiveLease) -> int | None:
    """Return when a lease ends at the latest, None when nobody can know."""
    if lease.state == "held":
        return lease.hold_until
    request = Request.stored(lease.request)
    runtime = None if request is None else request.runtime
    begin = lease.expires if lease.started is None else lease.started
    return None if runtime is None or begin is None else begin + runtime * 1000
