"""Devices in the ledger as they are in the machine, and whether they are well enough to be granted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ds01.gpu.health import GpuHealth
from ds01.gpu.model import Inventory
from ds01.gpu.xid import State
from ds01.ledger import DeviceTakenError, Transaction, leases
from ds01.ledger import devices as table
from ds01.ledger.rows import DeviceRow


def take_devices(tx: Transaction, inventory: Inventory, running: Collection[str] = ()) -> list[str]:
    """Make the devices those of the machine; leases and drains follow a device that was made anew in its old place.

    A reboot makes all MIG devices anew, with other UUIDs.

    Args:
        tx: The change this is part of.
        inventory: What there is.
        running: Tokens of containers that run: what they hold stays what it is.

    Returns:
        What changed, for people.
    """
    there = {device.uuid for device in inventory.devices}
    drained = [row for row in table.devices(tx) if row.state == "draining"]
    changed = table.take_inventory(tx, inventory)
    lines = [f"device {uuid}: {'can be granted' if uuid in there else 'is gone'}" for uuid in changed]
    for row in drained:
        heir = inventory.successor(row.device)
        if heir is not None and heir.uuid != row.uuid and table.mark(tx, heir.uuid, "draining", row.reason):
            lines.append(f"device {heir.uuid}: is drained, as {row.uuid} was in its place")
    known = {row.uuid: row for row in table.devices(tx, gone=True)}
    for lease in leases.live(tx):
        row = known[lease.device]
        successor = inventory.successor(row.device) if row.state == "gone" and lease.token not in running else None
        if successor is None:
            continue
        try:
            leases.move(tx, lease.id, successor.uuid, "its device was made anew")
        except DeviceTakenError:
            # Somebody was faster: the container asks for another one when it is started.
            continue
        lines.append(f"claim {lease.token[:8]}: {lease.device} is now {successor.uuid}")
    return lines


def judge_devices(tx: Transaction, health: Sequence[GpuHealth]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Let nobody be granted a device that is not well, until it is again. What it is used for goes on.

    A GPU that does not answer has no devices in the inventory; those of the ledger are unwell with it. What is
    drained stays drained.

    Yields:
        What changed, for people, and the event that says so.
    """
    for row in table.devices(tx):
        judged = _health_of(row, health)
        if judged is None or row.state == "draining":
            continue
        state, findings = judged.of_device(row.device)
        ill = state is State.UNHEALTHY
        reason = "; ".join(finding.reason for finding in findings if finding.state is state) if ill else None
        if (ill or row.state == "unhealthy") and table.mark(tx, row.uuid, "unhealthy" if ill else "ok", reason):
            event = {
                "type": "health.fail" if ill else "health.ok",
                "subject": {"kind": "device", "name": row.device.id, "gpu": row.uuid},
                "decision": "warned" if ill else "changed",
                "rule": "device-health",
                "reason": reason or "The GPU is well again: it can be granted.",
                "fix": next((finding.fix for finding in findings if finding.state is state), None) if ill else None,
            }
            yield f"device {row.uuid}: {f'is unhealthy: {reason}' if ill else 'is well again'}", event


def _health_of(row: DeviceRow, health: Sequence[GpuHealth]) -> GpuHealth | None:
    found = [one for one in health if one.gpu_uuid == row.gpu_uuid]
    # The driver does not even tell the UUID of a GPU that it has given up.
    found += [one for one in health if one.gpu_uuid is None and one.gpu_index == row.gpu_index]
    return found[0] if found else None
