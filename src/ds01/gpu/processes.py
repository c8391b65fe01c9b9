"""Who uses the devices: the processes that NVML knows on each, and the memory that none of them accounts for."""

from __future__ import annotations

from typing import Any, Final, Literal

from ds01.gpu.attribution import start_ticks
from ds01.gpu.model import Device, GpuProcess, Inventory, Measured
from ds01.gpu.nvml import Kind, NvmlError, Session

Kinds = Literal["compute", "mps", "graphics"]
# Every device has the first list. A process that is in several is listed once, under the first of them.
_LISTS: Final[tuple[tuple[Kinds, str], ...]] = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses_v3"),
    ("mps", "nvmlDeviceGetMPSComputeRunningProcesses_v3"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses_v3"),
)
_SOURCE: Final = _LISTS[0][1]
_NO_INSTANCE: Final = 0xFFFFFFFF
# NVML's answer to a buffer that a process list has outgrown since it was measured.
_INSUFFICIENT_SIZE: Final = 7
_TRIES: Final = 3
# Driver and contexts keep some memory of their own on each device; what is below this needs no explanation.
UNEXPLAINED_MIN_BYTES: Final = 512 << 20

Processes = dict[str, Measured[tuple[GpuProcess, ...]]]


def read_processes(session: Session, inventory: Inventory) -> Processes:
    """Return the processes of each device, by its UUID; unknown where NVML does not tell them."""
    return {device.uuid: _of_device(session, device) for device in inventory.devices}


def unexplained_memory(used: Measured[int], processes: Measured[tuple[GpuProcess, ...]]) -> Measured[int]:
    """Return the bytes in use that no process on a device holds; 0 below what the driver itself may need.

    Memory that stays so for long belongs to a process that NVML does not see any more: unkillable, never reaped, or in
    a container that is half gone.
    """
    source = f"{used.source} - {processes.source}"
    if used.value is None or processes.value is None:
        return Measured.unknown(source, used.reason or processes.reason or "NVML does not tell one of them")
    held = [process.memory.value for process in processes.value]
    if any(memory is None for memory in held):
        return Measured.unknown(source, "NVML does not tell what a process holds")
    rest = used.value - sum(memory for memory in held if memory is not None)
    return Measured.of(rest if rest >= UNEXPLAINED_MIN_BYTES else 0, source)


def _of_device(session: Session, device: Device) -> Measured[tuple[GpuProcess, ...]]:
    found: dict[int, GpuProcess] = {}
    try:
        handle = session.call("nvmlDeviceGetHandleByUUID", device.uuid)
        for kind, function in _LISTS:
            for entry in _entries(session, function, handle, optional=kind != "compute"):
                process = _process(device, kind, entry)
                found.setdefault(process.pid, process)
    except NvmlError as error:
        return Session.no_value(_SOURCE, error)
    return Measured.of(tuple(sorted(found.values(), key=lambda process: process.pid)), _SOURCE)


def _entries(session: Session, function: str, handle: Any, *, optional: bool) -> list[Any]:
    for left in reversed(range(_TRIES)):
        try:
            return list(session.call(function, handle))
        except NvmlError as error:
            if optional and error.kind is Kind.NOT_SUPPORTED:
                return []
            if error.code != _INSUFFICIENT_SIZE or not left:
                raise
    return []


def _process(device: Device, kind: Kinds, entry: Any) -> GpuProcess:
    source = dict(_LISTS)[kind]
    used = entry.usedGpuMemory
    return GpuProcess(
        pid=entry.pid,
        start_ticks=start_ticks(entry.pid),
        # pynvml gives None for NVML's "not available".
        memory=Measured.unsupported(source) if used is None else Measured.of(used, source),
        device_uuid=device.uuid,
        gpu_uuid=device.gpu_uuid,
        gi_id=device.gi_id if entry.gpuInstanceId in {None, _NO_INSTANCE} else entry.gpuInstanceId,
        ci_id=device.ci_id if entry.computeInstanceId in {None, _NO_INSTANCE} else entry.computeInstanceId,
        kind=kind,
    )
