"""Devices as `ds01 gpu list` and `show` have them: from the driver, or, where a login may not ask it, from the gateway.

The gateway knows what the ledger has of a device and what the monitor measured of it last: less than the driver, and
what it does not know is unknown here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01.gpu.model import Device, Gpu, Inventory, Measured
from ds01.gpu.readings import DeviceReading
from ds01.gpu.snapshot import plain

if TYPE_CHECKING:
    from ds01.gpu.snapshot import Snapshot

_SOURCE = "monitor"
_NOT_SEEN = "the monitor did not see it"


@dataclass(frozen=True, slots=True)
class Seen:
    """One device, and what it does."""

    device: Device
    reading: DeviceReading
    processes: Measured[int]
    """How many."""
    state: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as `Snapshot.as_dict` has a device, without what only the driver knows."""
        count = "?" if self.processes.value is None else self.processes.value
        hidden: Measured[int] = Measured.unknown(_SOURCE, f"{count} in all; they are shown to administrators")
        own: dict[str, Any] = {"id": self.device.id} | plain(self.device)
        return own | {"state": self.state, "readings": plain(self.reading), "processes": plain(hidden)}


def of_driver(found: Snapshot) -> list[Seen]:
    """Return what the driver said."""
    rows = []
    for gpu in found.inventory.gpus:
        health = found.health_of(gpu)
        for device in gpu.devices:
            known = found.processes[device.uuid]
            count = Measured(
                None if known.value is None else len(known.value), known.state, known.source, known.reason, known.age_s
            )
            rows.append(Seen(device, found.readings.devices[device.uuid], count, health.of_device(device)[0]))
    return rows


def of_gateway(status: dict[str, Any], activity: dict[str, Any]) -> list[Seen]:
    """Return what the resources `status` and `activity` of the API say."""
    measured = {one["uuid"]: one for one in activity["devices"] or ()}
    return [_seen(one, measured.get(one["uuid"])) for one in status["devices"] if one["state"] != "gone"]


def _seen(told: dict[str, Any], measured: dict[str, Any] | None) -> Seen:
    index, _, part = str(told["id"]).partition(":")
    device = Device(
        uuid=told["uuid"],
        gpu_uuid=told["gpu_uuid"],
        gpu_index=int(index),
        mig_index=int(part) if part else None,
        gi_id=None,
        ci_id=None,
        placement=None,
        profile=told["profile"],
        memory_bytes=told["memory_bytes"],
        weight=told["weight"],
        model=told["model"],
    )
    found = measured or {}
    unknown: Measured[Any] = Measured.unknown(_SOURCE, "only the driver says it")
    busy = _measured(found.get("busy"), unsupported=str(found.get("busy_source")).endswith("unsupported"))
    reading = DeviceReading(
        memory_used=_measured(found.get("memory_used")),
        memory_total=_measured(found.get("memory_total")),
        utilisation=busy,
        sm_activity=unknown,
        tensor_activity=unknown,
        memory_activity=unknown,
    )
    return Seen(device, reading, _measured(found.get("processes", {}).get("count")), told["state"])


def _measured(value: Any, *, unsupported: bool = False) -> Measured[Any]:
    if value is not None:
        return Measured.of(value, _SOURCE)
    return Measured.unsupported(_SOURCE) if unsupported else Measured.unknown(_SOURCE, _NOT_SEEN)


def inventory_of(rows: list[Seen]) -> Inventory:
    """Return devices that the gateway named as an inventory, so that they are found by the same names."""
    gpus: dict[str, list[Device]] = {}
    for row in rows:
        gpus.setdefault(row.device.gpu_uuid, []).append(row.device)
    return Inventory(tuple(_gpu(uuid, devices) for uuid, devices in gpus.items()))


def _gpu(uuid: str, devices: list[Device]) -> Gpu:
    first, divided = devices[0], devices[0].mig_index is not None
    return Gpu(
        index=first.gpu_index,
        uuid=uuid,
        model=first.model,
        pci_address="",
        memory_bytes=None if divided else first.memory_bytes,
        mig_capable=divided,
        mig_enabled=divided,
        mig_pending=divided,
        devices=tuple(devices),
    )
