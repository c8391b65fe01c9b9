"""What can be granted, and who uses it without a lease."""

from __future__ import annotations

from collections.abc import Collection

from ds01.gpu.model import Device, Inventory

from .rows import DeviceRow, DeviceState, Occupant
from .store import Transaction, View


def devices(view: View, *, gone: bool = False) -> list[DeviceRow]:
    """Return the devices in the order of their ids; with those that went away if `gone`."""
    return view.rows(
        DeviceRow,
        "SELECT d.*, (SELECT count(*) FROM occupancy o WHERE o.device = d.uuid) AS foreign_use FROM devices d"
        " WHERE d.state <> 'gone' OR :gone ORDER BY d.gpu_index, d.mig_index",
        {"gone": gone},
    )


def device(view: View, uuid: str) -> DeviceRow | None:
    """Return one device, or None."""
    return next((found for found in devices(view, gone=True) if found.uuid == uuid), None)


def take_inventory(tx: Transaction, inventory: Inventory) -> list[str]:
    """Make the table what is in the machine: new devices appear, missing ones are gone, marks of health stay.

    What could not be read stays as it was.

    Returns:
        The UUIDs of what appeared or went away.
    """
    before = {found.uuid: found for found in devices(tx, gone=True)}
    changed = []
    for present in inventory.devices:
        known = before.pop(present.uuid, None)
        values = _columns(present)
        if known is None:
            tx.insert("devices", **values)
        elif known.state == "gone":
            mark(tx, present.uuid, "ok", None)
        if known is None or known.state == "gone":
            changed.append(present.uuid)
        if known is not None and {name: getattr(known, name) for name in values} != values:
            names = ", ".join(f"{name} = :{name}" for name in values)
            tx.change(f"UPDATE devices SET {names} WHERE uuid = :uuid", values)  # noqa: S608 - our own names
    for known in before.values():
        if known.state != "gone" and inventory.is_gone(known.device):
            mark(tx, known.uuid, "gone", "not in the machine any more")
            changed.append(known.uuid)
    return changed


def _columns(present: Device) -> dict[str, str | int | float | None]:
    return {
        "uuid": present.uuid,
        "gpu_uuid": present.gpu_uuid,
        "gpu_index": present.gpu_index,
        "mig_index": present.mig_index,
        "gi": present.gi_id,
        "ci": present.ci_id,
        "start": present.placement.start if present.placement else None,
        "size": present.placement.size if present.placement else None,
        "profile": present.profile,
        "memory": present.memory_bytes,
        "weight": present.weight,
        "model": present.model,
    }


def mark(tx: Transaction, uuid: str, state: DeviceState, reason: str | None) -> bool:
    """Set the state of a device. Returns whether it changed."""
    return bool(
        tx.change(
            "UPDATE devices SET state = :state, reason = :reason WHERE uuid = :uuid"
            " AND (state, reason) IS NOT (:state, :reason)",
            {"uuid": uuid, "state": state, "reason": reason},
        )
    )


def occupants(view: View) -> list[Occupant]:
    """Return who uses devices without a lease."""
    return view.rows(Occupant, "SELECT * FROM occupancy ORDER BY device, kind, id")


def occupy(tx: Transaction, occupant: Occupant) -> None:
    """Note who uses a device without a lease; nobody is granted it while they do."""
    tx.change(
        "INSERT INTO occupancy VALUES (:kind, :id, :device, :name, :uid, :since, :legacy)"
        " ON CONFLICT DO UPDATE SET name = excluded.name, uid = excluded.uid",
        occupant._asdict(),
    )


def vacate(tx: Transaction, gone: Collection[Occupant]) -> None:
    """Forget those who do not use a device any more."""
    for occupant in gone:
        tx.change(
            "DELETE FROM occupancy WHERE (kind, id, device) = (?, ?, ?)", (occupant.kind, occupant.id, occupant.device)
        )
