"""Read what GPUs and devices there are, while others may change them.

A layout is believed only when two readings in a row agree. So no device is ever put together from parts of two, and
what vanishes while it is read is a problem of that GPU, not an error of everybody's.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from ds01.gpu.model import FULL, Device, Gpu, GpuProblem, Inventory, Placement, ProblemKind
from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.mig_geometry import COMPUTE_SLICES

# A change of layout takes far longer than a reading; who needs more tries is being changed all the time.
_READINGS_MAX: Final = 6
# What a call meets whose instance, or whose MIG mode, went away under it.
_PASSING: Final = {Kind.NOT_FOUND, Kind.NOT_SUPPORTED, Kind.OTHER}
_PROFILE: Final = re.compile(r" MIG ([0-9a-z.+_-]+)$")


class _Physical(NamedTuple):
    """What a GPU is, as far as it does not change."""

    number: int
    handle: Any
    uuid: str
    model: str
    pci_address: str


class _Mode(NamedTuple):
    """Whether a GPU has a MIG mode, is in it, and is in it after its next reset."""

    capable: bool = False
    enabled: bool = False
    pending: bool = False


class _Instance(NamedTuple):
    """A MIG device as one reading found it."""

    mig_index: int
    uuid: str
    gi_id: int
    ci_id: int
    placement: Placement | None
    profile: str
    compute_slices: int
    memory_bytes: int


class _ChangedError(Exception):
    """What was read twice was never the same."""


def read_inventory(session: Session) -> Inventory:
    """Return all GPUs and devices of this machine.

    Raises:
        NvmlError: There is no NVML, also not after initialising it again.
    """
    try:
        return _read(session.renew())
    except NvmlError as error:
        if error.kind is not Kind.UNAVAILABLE:
            raise
        # The driver was reloaded meanwhile, or since the last time.
        return _read(session.renew())


def _read(session: Session) -> Inventory:
    gpus: list[Gpu] = []
    problems: list[GpuProblem] = []
    driver = session.call("nvmlSystemGetDriverVersion")
    for index in range(session.call("nvmlDeviceGetCount")):
        try:
            physical = _physical(session, index)
        except NvmlError as error:
            problems.append(_unreadable(index, None, error))
            continue
        gpu, found = _gpu(session, physical)
        gpus.append(gpu)
        problems += found
    return Inventory(tuple(gpus), tuple(problems), driver)


def _unreadable(index: int, uuid: str | None, error: NvmlError) -> GpuProblem:
    """Return what an error says about a GPU; without a driver there is nothing to say about any."""
    if error.kind is Kind.UNAVAILABLE:
        raise error
    kind = ProblemKind.LOST if error.kind is Kind.LOST else ProblemKind.UNREADABLE
    return GpuProblem(kind, index, uuid, f"GPU {index}: {error.text}", error.fix)


def _physical(session: Session, index: int) -> _Physical:
    handle = session.call("nvmlDeviceGetHandleByIndex", index)
    address = session.call("nvmlDeviceGetPciInfo", handle)
    return _Physical(
        index,
        handle,
        session.call("nvmlDeviceGetUUID", handle),
        session.call("nvmlDeviceGetName", handle),
        # NVML writes the domain with eight digits in its newer texts and with four in its older ones.
        f"{address.domain:04x}:{address.bus:02x}:{address.device:02x}.0",
    )


def _gpu(session: Session, physical: _Physical) -> tuple[Gpu, list[GpuProblem]]:
    number, uuid = physical.number, physical.uuid
    problems: list[GpuProblem] = []
    mode, devices, memory, complete = _Mode(), tuple[Device, ...](), None, False
    try:
        mode, instances = _settled(session, physical.handle)
        memory = _memory(session, physical.handle, optional=mode.enabled)
        devices = tuple(_part(physical, instance) for instance in instances)
        if not mode.enabled and memory is not None:
            devices = (_whole(physical, memory),)
        complete = True
    except NvmlError as error:
        problems.append(_unreadable(number, uuid, error))
    except _ChangedError:
        text = f"GPU {number}: its MIG layout changed each of the {_READINGS_MAX} times it was read"
        problems.append(GpuProblem(ProblemKind.CHANGING, number, uuid, text, "ask again when the change is over"))
    if complete and not devices:
        text = f"GPU {number}: in MIG mode, but not divided: nobody can use it"
        fix = "as root, `ds01 mig plan` shows what the policy wants there"
        problems.append(GpuProblem(ProblemKind.NO_INSTANCES, number, uuid, text, fix))
    if mode.pending != mode.enabled:
        text = f"GPU {number}: MIG mode goes {'on' if mode.pending else 'off'} at its next reset"
        problems.append(
            GpuProblem(ProblemKind.MODE_PENDING, number, uuid, text, "stop what uses this GPU, then reboot")
        )
    gpu = Gpu(number, uuid, physical.model, physical.pci_address, memory, *mode, devices, complete)
    return gpu, problems


def _settled(session: Session, handle: Any) -> tuple[_Mode, list[_Instance]]:
    """Return mode and instances of a GPU. Raises _ChangedError if they do not hold still, NvmlError if it fails."""
    before: tuple[_Mode, list[_Instance]] | None = None
    failure: NvmlError | None = None
    answered = False
    for _ in range(_READINGS_MAX):
        try:
            mode = _mode(session, handle)
            now = mode, _instances(session, handle) if mode.enabled else []
        except NvmlError as error:
            if error.kind not in _PASSING:
                raise
            before, failure = None, error
            continue
        if now == before:
            return now
        before, answered = now, True
    raise _ChangedError if answered or failure is None else failure


def _mode(session: Session, handle: Any) -> _Mode:
    try:
        current, pending = session.call("nvmlDeviceGetMigMode", handle)
    except NvmlError as error:
        if error.kind is not Kind.NOT_SUPPORTED:
            raise
        return _Mode()
    return _Mode(capable=True, enabled=bool(current), pending=bool(pending))


def _memory(session: Session, handle: Any, *, optional: bool) -> int | None:
    try:
        return int(session.call("nvmlDeviceGetMemoryInfo", handle).total)
    except NvmlError as error:
        if optional and error.kind in {Kind.NO_PERMISSION, Kind.NOT_SUPPORTED}:
            return None
        raise


def _whole(physical: _Physical, memory: int) -> Device:
    return Device(
        uuid=physical.uuid,
        gpu_uuid=physical.uuid,
        gpu_index=physical.number,
        mig_index=None,
        gi_id=None,
        ci_id=None,
        placement=None,
        profile=FULL,
        memory_bytes=memory,
        weight=1.0,
        model=physical.model,
    )


def _part(physical: _Physical, instance: _Instance) -> Device:
    return Device(
        uuid=instance.uuid,
        gpu_uuid=physical.uuid,
        gpu_index=physical.number,
        mig_index=instance.mig_index,
        gi_id=instance.gi_id,
        ci_id=instance.ci_id,
        placement=instance.placement,
        profile=instance.profile,
        memory_bytes=instance.memory_bytes,
        weight=instance.compute_slices / COMPUTE_SLICES,
        model=physical.model,
    )


def _instances(session: Session, parent: Any) -> list[_Instance]:
    found = []
    # Indices have holes: all of them are asked.
    for index in range(session.call("nvmlDeviceGetMaxMigDeviceCount", parent)):
        try:
            handle = session.call("nvmlDeviceGetMigDeviceHandleByIndex", parent, index)
        except NvmlError as error:
            if error.kind is Kind.NOT_FOUND:
                continue
            raise
        found.append(_instance(session, parent, index, handle))
    return found


def _instance(session: Session, parent: Any, index: int, handle: Any) -> _Instance:
    gi_id = session.call("nvmlDeviceGetGpuInstanceId", handle)
    name = session.call("nvmlDeviceGetName", handle)
    profile = _PROFILE.search(name)
    if profile is None:
        raise NvmlError(Kind.OTHER, "nvmlDeviceGetName", f"no MIG profile in {name!r}")
    return _Instance(
        index,
        session.call("nvmlDeviceGetUUID", handle),
        gi_id,
        session.call("nvmlDeviceGetComputeInstanceId", handle),
        _placement(session, parent, gi_id),
        profile[1],
        session.call("nvmlDeviceGetAttributes_v2", handle).computeInstanceSliceCount,
        int(session.call("nvmlDeviceGetMemoryInfo", handle).total),
    )


def _placement(session: Session, parent: Any, gi_id: int) -> Placement | None:
    try:
        instance = session.call("nvmlDeviceGetGpuInstanceById", parent, gi_id)
        placement = session.call("nvmlGpuInstanceGetInfo", instance).placement
    except NvmlError as error:
        if error.kind is Kind.NO_PERMISSION:
            return None
        raise
    return Placement(placement.start, placement.size)
