"""Devices, who holds them, who waits: what everybody may see, and what only the holder and administrators may.

Everybody sees who holds a device and until when, because only that explains why somebody waits. Names of containers,
tokens and requests of others are nobody else's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01.api.desk import short

if TYPE_CHECKING:
    from ds01.allocator.answers import Queued
    from ds01.allocator.model import DeviceView, Holder, Person, Snapshot
    from ds01.allocator.queue import Waiting
    from ds01.api.call import Asker, Call
    from ds01.api.desk import Desk
    from ds01.ledger import View
    from ds01.ledger.rows import Reservation


def gpus(desk: Desk, call: Call) -> Any:
    """List the devices: what they are, how they are, and whether somebody has them."""
    from ds01.allocator import picture  # noqa: PLC0415 - most questions need no allocator

    with desk.ledger.read() as view:
        found = picture.snapshot(view, desk.people)
    return [device_data(device, call.asker) for device in found.devices]


def leases(desk: Desk, call: Call) -> Any:
    """List the devices that one person holds."""
    from ds01.allocator import picture  # noqa: PLC0415 - most questions need no allocator

    person = desk.subject(call)
    with desk.ledger.read() as view:
        found = picture.snapshot(view, desk.people)
    return _held(found, person, call.asker)


def queue(desk: Desk, call: Call) -> Any:  # noqa: ARG001 - the same for everybody
    """List who waits, the first to be served first."""
    with desk.ledger.read() as view:
        return _queue(desk, view)


def reservations(desk: Desk, call: Call) -> Any:
    """List what is reserved, now and later."""
    with desk.ledger.read() as view:
        return _reservations(view, call.asker)


def status(desk: Desk, call: Call) -> Any:
    """Show who holds what, who waits, what is reserved."""
    from ds01.allocator import picture  # noqa: PLC0415 - most questions need no allocator

    with desk.ledger.read() as view:
        found = picture.snapshot(view, desk.people)
        return {
            "devices": [device_data(device, call.asker) for device in found.devices],
            "queue": _queue(desk, view),
            "reservations": _reservations(view, call.asker),
        }


def usage(desk: Desk, call: Call) -> Any:
    """Show what one person has, and may have."""
    from ds01.allocator import picture  # noqa: PLC0415 - most questions need no allocator
    from ds01.allocator.decide import holdings  # noqa: PLC0415 - as above
    from ds01.api.grants import bare_metal  # noqa: PLC0415 - as above
    from ds01.ledger import disk, objects  # noqa: PLC0415 - as above

    person = desk.subject(call)
    with desk.ledger.read() as view:
        found = picture.snapshot(view, desk.people)
        containers = len(objects.listing(view, "container", person.uid))
        hours = picture.recent_hours(view, person.uid)
        space = disk.total(view, person.uid)
        host = bare_metal(desk, view, person.uid)
    values = _values(desk, person)
    mine, group = holdings(found, uid=person.uid), holdings(found, group=person.group)
    limits = person.limits
    return {
        "user": person.user,
        "group": person.group,
        "quotas": {
            "max_containers_per_user": [containers, values["max_containers_per_user"]],
            "max_mig_instances": [mine.devices, limits.max_mig_instances],
            "max_gpu_equivalents": [round(mine.equivalents, 3), limits.max_gpu_equivalents],
            "group_aggregate.max_gpu_equivalents": [round(group.equivalents, 3), limits.group_equivalents],
            "storage.docker": [space, values["storage.docker"]],
        },
        "max_gpus_per_container": limits.max_gpus_per_container,
        "allow_full_gpu": limits.allow_full_gpu,
        "recent_gpu_hours": round(hours, 1),
        "devices": _held(found, person, call.asker),
        "bare_metal": host,
    }


def _values(desk: Desk, person: Person) -> dict[str, Any]:
    from datetime import UTC, datetime  # noqa: PLC0415 - as its caller's

    from ds01.policy.resolver import resolve  # noqa: PLC0415 - as its caller's

    groups = [name for name, group in desk.tables["unix_groups"].items() if group == person.group]
    return resolve(desk.tables, person.user, datetime.now(UTC), groups).values


def _held(found: Snapshot, person: Person, asker: Asker) -> list[dict[str, Any]]:
    return [device_data(d, asker) for d in found.devices if d.holder and d.holder.uid == person.uid]


def device_data(device: DeviceView, asker: Asker) -> dict[str, Any]:
    """Return a device as somebody may see it."""
    foreign = device.foreign if asker.admin or device.foreign is None else "something without a lease"
    return {
        "id": device.id,
        "uuid": device.uuid,
        "gpu_uuid": device.gpu_uuid,
        "model": device.model,
        "profile": device.profile,
        "memory_bytes": device.memory_bytes,
        "weight": device.weight,
        "state": device.state,
        "reason": device.reason,
        "used_without_lease_by": foreign,
        "holder": None if device.holder is None else _holder(device.holder, asker),
    }


def _holder(holder: Holder, asker: Asker) -> dict[str, Any]:
    open_to = asker.admin or holder.uid == asker.uid
    container = holder.container if asker.admin else short(holder.container, asker.uid)
    return {
        "user": holder.user,
        "group": holder.group,
        "container": container if open_to else None,
        "token": holder.token if open_to else None,
        "lease": holder.state,
        "until": holder.frees_at,
    }


def _queue(desk: Desk, view: View) -> list[dict[str, Any]]:
    from ds01.allocator.grants import places  # noqa: PLC0415 - most questions need no allocator

    return [_waiting(entry, place) for entry, place in places(view, desk.people)]


def _waiting(entry: Waiting, place: Queued) -> dict[str, Any]:
    return {
        "number": place.number,
        "position": place.position,
        "user": entry.person.user,
        "group": entry.person.group,
        "request": str(entry.request),
        "since": entry.since,
        "expected": place.expected,
        "why": place.why,
    }


def _reservations(view: View, asker: Asker) -> list[dict[str, Any]]:
    from ds01.allocator.picture import device_names  # noqa: PLC0415 - most questions need no allocator
    from ds01.ledger.waiting import chosen  # noqa: PLC0415 - as above
    from ds01.ledger.waiting import reservations as rows  # noqa: PLC0415 - as above

    names = device_names(view)
    return [_reservation(row, [names.get(uuid, uuid) for uuid in chosen(view, row.id)], asker) for row in rows(view)]


def _reservation(row: Reservation, devices: list[str], asker: Asker) -> dict[str, Any]:
    # A group's name says whom it is for, its members or not; why is theirs.
    open_to = asker.admin or row.user == asker.user
    return {
        "number": row.id,
        "user": row.user,
        "group": row.group_name if row.user is None else None,
        "starts": row.starts,
        "ends": row.ends,
        "devices": devices,
        "state": row.state,
        "source": row.source,
        "reason": row.reason if open_to else None,
        "created_by": row.created_by,
    }
