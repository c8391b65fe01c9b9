"""Everything about the GPUs at one moment, and the plain data that JSON shows of it."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from ds01.gpu import reported
from ds01.gpu.gpm import APART_S
from ds01.gpu.health import GpuHealth, assess
from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import Device, Gpu, Inventory, Measured
from ds01.gpu.nvml import Session
from ds01.gpu.processes import Processes, read_processes
from ds01.gpu.readings import Meter, Readings


@dataclass(frozen=True)
class Snapshot:
    """What there is, what it does, who uses it, how it is."""

    inventory: Inventory
    readings: Readings
    processes: Processes
    health: tuple[GpuHealth, ...]

    def health_of(self, gpu: Gpu) -> GpuHealth:
        """Return the health of a GPU of the inventory."""
        return next(health for health in self.health if health.gpu_uuid == gpu.uuid)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, devices within their GPU."""
        known = {gpu.uuid for gpu in self.inventory.gpus}
        return {
            "driver_version": self.inventory.driver_version,
            "complete": self.inventory.complete,
            "gpus": [self._gpu(gpu) for gpu in self.inventory.gpus],
            "unreadable": [plain(health) for health in self.health if health.gpu_uuid not in known],
        }

    def _gpu(self, gpu: Gpu) -> dict[str, Any]:
        health = self.health_of(gpu)
        own: dict[str, Any] = plain(gpu)
        return own | {
            "state": health.state,
            "findings": plain(health.findings),
            "readings": plain(self.readings.gpus[gpu.uuid]),
            "devices": [self._device(device, health) for device in gpu.devices],
        }

    def _device(self, device: Device, health: GpuHealth) -> dict[str, Any]:
        state, findings = health.of_device(device)
        own: dict[str, Any] = {"id": device.id} | plain(device)
        return own | {
            "state": state,
            "findings": plain(findings),
            "readings": plain(self.readings.devices[device.uuid]),
            "processes": plain(self.processes[device.uuid]),
        }


def take(session: Session, *, activity: bool) -> Snapshot:
    """Take one, for who does not keep a `Meter`.

    Args:
        session: An open one.
        activity: Whether to wait, on Hopper and newer, the 0.1 s after which their counters say something.

    Raises:
        NvmlError: There is no NVML.
    """
    inventory = read_inventory(session)
    meter = Meter(session)
    readings = meter.read(inventory)
    end = time.monotonic() + APART_S
    processes = read_processes(session, inventory)
    if activity and meter.wants_another:
        time.sleep(max(0.0, end - time.monotonic()))
        readings = meter.read(inventory)
    return Snapshot(inventory, readings, processes, assess(inventory, readings, reported.load()))


def plain(value: Any) -> Any:
    """Return a value of this package as JSON has it."""
    if isinstance(value, Measured):
        shown = value.as_dict()
        return shown | {"value": plain(value.value)}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        return dict(zip(names, map(plain, value), strict=True)) if names else [plain(item) for item in value]
    return value
