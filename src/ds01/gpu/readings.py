"""What GPUs and devices do now: memory, activity, power, errors; each value with its source, or why there is none.

On a divided GPU power, energy, temperature, clocks and errors are the GPU's alone: no instance has its own. How busy an
instance is NVML tells only on Hopper and newer, where its GPM compares two samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ds01.gpu.gpm import ActivityMeter
from ds01.gpu.model import Device, Gpu, Inventory, Measured
from ds01.gpu.nvml import NvmlError, Session

_REMAPPED: Final = "nvmlDeviceGetRemappedRows"


class RemappedRows(NamedTuple):
    """Rows of GPU memory that were replaced by spare ones."""

    correctable: int
    uncorrectable: int
    pending: bool
    """A row is replaced at the next reset."""
    failed: bool
    """A row could not be replaced: the card is due for exchange."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What a whole GPU measures."""

    power_mw: Measured[int]
    """Milliwatts. On GA100 this very moment's, on others the mean of a second: for energy, subtract `energy_mj`."""
    power_limit_mw: Measured[int]
    energy_mj: Measured[int]
    """Millijoules since the driver was loaded; it begins anew with it."""
    temperature_c: Measured[int]
    slowdown_c: Measured[int]
    """From here on the GPU slows itself down."""
    sm_clock_mhz: Measured[int]
    memory_clock_mhz: Measured[int]
    clock_reasons: Measured[int]
    """Why the clocks are not higher: bits of nvmlClocksEventReason*."""
    ecc_corrected: Measured[int]
    """Since the driver was loaded, as `ecc_uncorrected`."""
    ecc_uncorrected: Measured[int]
    ecc_uncorrected_ever: Measured[int]
    remapped_rows: Measured[RemappedRows]
    """Hidden while the GPU is divided: then what was last read, with its age."""


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What a device measures."""

    memory_used: Measured[int]
    """Bytes."""
    memory_total: Measured[int]
    utilisation: Measured[float]
    """Percent of the time in which the device did anything, since the last reading or within the last second."""
    sm_activity: Measured[float]
    """Percent of the device's multiprocessors."""
    tensor_activity: Measured[float]
    memory_activity: Measured[float]
    """Percent of the bandwidth of its memory."""


@dataclass(frozen=True)
class Readings:
    """One reading of everything: by UUID of the GPU, and by UUID of the device."""

    gpus: dict[str, GpuReading]
    devices: dict[str, DeviceReading]


class Meter:
    """Reads values again and again. Keep it: some values need an earlier reading. For one thread at a time."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        """Read through a session.

        Args:
            session: An open one.
            clock: Seconds that only grow.
        """
        self._session = session
        self._clock = clock
        self._activity = ActivityMeter(session, clock)
        self._rows: dict[str, tuple[RemappedRows, float]] = {}

    @property
    def wants_another(self) -> bool:
        """Whether another reading, after `gpm.APART_S`, would know more than the last one."""
        return self._activity.wants_another

    def read(self, inventory: Inventory) -> Readings:
        """Read everything of an inventory. What is gone meanwhile is unknown."""
        self._activity.keep({device.uuid for device in inventory.devices})
        gpus, devices = {}, {}
        for gpu in inventory.gpus:
            parent, error = self._handle(gpu.uuid)
            gpus[gpu.uuid] = self._gpu(gpu, parent, error)
            for device in gpu.devices:
                devices[device.uuid] = self._device(device, parent, error)
        return Readings(gpus, devices)

    def _handle(self, uuid: str) -> tuple[Any, NvmlError | None]:
        # By UUID, never by index: what has been rebuilt since is not found, rather than mistaken for another.
        try:
            return self._session.call("nvmlDeviceGetHandleByUUID", uuid), None
        except NvmlError as error:
            return None, error

    def _measure(
        self, error: NvmlError | None, function: str, *arguments: Any, wide: bool = False, part: str = ""
    ) -> Measured[Any]:
        """Measure one number, or one part of a structure, of a device whose handle could be had without `error`."""
        if error is not None:
            return Session.no_value(function, error)
        return self._session.measure(function, *arguments, wide=wide, part=part)

    def _gpu(self, gpu: Gpu, handle: Any, error: NvmlError | None) -> GpuReading:
        def of(function: str, *arguments: Any, wide: bool = False) -> Measured[Any]:
            return self._measure(error, function, handle, *arguments, wide=wide)

        slowdown, sm, memory = 1, 1, 2  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN, NVML_CLOCK_SM, NVML_CLOCK_MEM
        corrected, uncorrected, volatile, aggregate = 0, 1, 0, 1  # NVML_MEMORY_ERROR_TYPE_*, NVML_*_ECC
        return GpuReading(
            power_mw=of("nvmlDeviceGetPowerUsage"),
            power_limit_mw=of("nvmlDeviceGetEnforcedPowerLimit"),
            energy_mj=of("nvmlDeviceGetTotalEnergyConsumption", wide=True),
            temperature_c=of("nvmlDeviceGetTemperature", 0),
            slowdown_c=of("nvmlDeviceGetTemperatureThreshold", slowdown),
            sm_clock_mhz=of("nvmlDeviceGetClockInfo", sm),
            memory_clock_mhz=of("nvmlDeviceGetClockInfo", memory),
            clock_reasons=of("nvmlDeviceGetCurrentClocksEventReasons", wide=True),
            ecc_corrected=of("nvmlDeviceGetTotalEccErrors", corrected, volatile, wide=True),
            ecc_uncorrected=of("nvmlDeviceGetTotalEccErrors", uncorrected, volatile, wide=True),
            ecc_uncorrected_ever=of("nvmlDeviceGetTotalEccErrors", uncorrected, aggregate, wide=True),
            remapped_rows=self._remapped_rows(gpu, of(_REMAPPED)),
        )

    def _remapped_rows(self, gpu: Gpu, now: Measured[Any]) -> Measured[RemappedRows]:
        if now.value is not None:
            correctable, uncorrectable, pending, failed = now.value
            rows = RemappedRows(correctable, uncorrectable, bool(pending), bool(failed))
            self._rows[gpu.uuid] = rows, self._clock()
            return Measured.of(rows, _REMAPPED)
        kept = self._rows.get(gpu.uuid)
        if kept is not None:
            return Measured.of(kept[0], _REMAPPED, age_s=self._clock() - kept[1])
        if gpu.mig_enabled and now.state == "unsupported":
            return Measured.unknown(_REMAPPED, "hidden while the GPU is divided")
        return now

    def _device(self, device: Device, parent: Any, parent_error: NvmlError | None) -> DeviceReading:
        handle, error = (parent, parent_error) if device.mig_index is None else self._handle(device.uuid)
        used, total = (
            self._measure(error, "nvmlDeviceGetMemoryInfo", handle, 0x02000028, wide=True, part=part)
            for part in ("used", "total")
        )
        busy, *others = self._activity.read(device, parent, parent_error or error)
        if device.mig_index is None:
            busy = self._measure(error, "nvmlDeviceGetUtilizationRates", handle, part="gpu")
        return DeviceReading(used, total, busy, *others)
