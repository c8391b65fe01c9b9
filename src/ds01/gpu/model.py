"""What a GPU server is made of, as plain frozen values. Standard library only.

A *device* is what one container can be given: a whole GPU, or one MIG instance. A GPU in MIG mode is no device itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from ds01.problems import ReportedError

T = TypeVar("T")

FULL: Final = "full"


@dataclass(frozen=True, slots=True)
class Measured(Generic[T]):
    """A value that was measured, or why there is none: `value` is None, never 0, where nothing was measured.

    unsupported: this device cannot say (it will not say later either); unknown: it could not say now.
    """

    value: T | None
    state: Literal["value", "unsupported", "unknown"]
    source: str
    """The call or counter that gave the value, or that has none."""
    reason: str = ""
    """Why it is unknown."""
    age_s: float = 0.0
    """Seconds since it was measured, if it is one that was kept."""

    @classmethod
    def of(cls, value: T, source: str, age_s: float = 0.0) -> Measured[T]:
        """Return a value."""
        return cls(value, "value", source, age_s=age_s)

    @classmethod
    def unsupported(cls, source: str) -> Measured[T]:
        """Return what a device that cannot measure this has."""
        return cls(None, "unsupported", source)

    @classmethod
    def unknown(cls, source: str, reason: str) -> Measured[T]:
        """Return what could not be measured now."""
        return cls(None, "unknown", source, reason)

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return self.state == "value"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON shows: state and source always, and what else there is."""
        shown: dict[str, Any] = {"value": self.value, "state": self.state, "source": self.source}
        if self.reason:
            shown["reason"] = self.reason
        return shown | ({"age_s": round(self.age_s, 1)} if self.age_s else {})


class Placement(NamedTuple):
    """Where an instance is on its GPU, in memory slices."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Device:
    """A whole GPU or a MIG instance."""

    uuid: str
    """UUID of the MIG device, or of the GPU."""
    gpu_uuid: str
    gpu_index: int
    mig_index: int | None
    """Number among the GPU's MIG devices, for people: another layout gives other numbers."""
    gi_id: int | None
    ci_id: int | None
    placement: Placement | None
    """None on a whole GPU; also for who is not root, whom NVML does not tell."""
    profile: str
    """Like "2g.20gb", or FULL."""
    memory_bytes: int
    weight: float
    """Part of a GPU: 1.0, or compute slices / 7."""
    model: str
    """Product name of the GPU, as NVML has it."""

    @property
    def id(self) -> str:
        """Return "0" for a GPU, "0:1" for MIG device 1 on it."""
        return str(self.gpu_index) if self.mig_index is None else f"{self.gpu_index}:{self.mig_index}"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A physical GPU."""

    index: int
    uuid: str
    model: str
    pci_address: str
    """Lower case, with four digits of domain: 0000:3b:00.0."""
    memory_bytes: int | None
    """None: not readable (on a divided GPU only root may)."""
    mig_capable: bool
    mig_enabled: bool
    mig_pending: bool
    """The mode after the next reset; another than `mig_enabled` waits for one."""
    devices: tuple[Device, ...]
    complete: bool = True
    """Whether `devices` is all there is. False: it could not be read, and nothing may be concluded from what lacks."""


class ProblemKind(StrEnum):
    """What can be wrong with a GPU for the inventory."""

    LOST = "lost"
    """Fallen off the bus or needs a reset."""
    UNREADABLE = "unreadable"
    CHANGING = "changing"
    """Its layout changed each time it was read."""
    NO_INSTANCES = "no_instances"
    """In MIG mode and not divided: of no use to anybody."""
    MODE_PENDING = "mode_pending"
    """A change of the MIG mode waits for a reset."""


_INCOMPLETE: Final = {ProblemKind.LOST, ProblemKind.UNREADABLE, ProblemKind.CHANGING}


@dataclass(frozen=True, slots=True)
class GpuProblem:
    """Something about one GPU that a person should know."""

    kind: ProblemKind
    gpu_index: int
    gpu_uuid: str | None
    """None if not even that could be read."""
    message: str
    fix: str


class NoDeviceError(ReportedError):
    """No device has that name; the message says which have."""


@dataclass(frozen=True)
class Inventory:
    """All GPUs at one moment."""

    gpus: tuple[Gpu, ...]
    problems: tuple[GpuProblem, ...] = ()
    driver_version: str = ""
    _by_name: dict[str, Device] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = {name: device for device in self.devices for name in names_of(device)}
        object.__setattr__(self, "_by_name", names)

    @cached_property
    def devices(self) -> tuple[Device, ...]:
        """All devices, in the order of GPUs and MIG indices."""
        return tuple(device for gpu in self.gpus for device in gpu.devices)

    @cached_property
    def complete(self) -> bool:
        """Whether this is all there is; False if a GPU could not be read."""
        return not any(problem.kind in _INCOMPLETE for problem in self.problems)

    def find(self, name: str) -> Device:
        """Return the device of a UUID (of today or as before R470), an id like "0:1", or a GPU's index.

        Raises:
            NoDeviceError: None has it.
        """
        found = self._by_name.get(name.strip().lower())
        if found is not None:
            return found
        gpu = self.gpu(name)
        if gpu is not None and gpu.mig_enabled:
            parts = ", ".join(device.id for device in gpu.devices) or "it has no instances yet"
            raise NoDeviceError(f"{name}: GPU {gpu.index} is divided into MIG instances; name one of them: {parts}")
        known = ", ".join(device.id for device in self.devices) or "there are none"
        raise NoDeviceError(f"{name}: no such GPU device here; there are: {known}")

    def gpu(self, name: str) -> Gpu | None:
        """Return the GPU of an index, UUID or PCI address, or None."""
        wanted = name.strip().lower()
        for gpu in self.gpus:
            address = {gpu.pci_address, gpu.pci_address.removeprefix("0000:")} if gpu.pci_address else set()
            if wanted in {str(gpu.index), gpu.uuid.lower(), *address}:
                return gpu
        return None

    def is_gone(self, device: Device) -> bool:
        """Whether a device of an earlier inventory certainly does not exist any more.

        What could not be read is not gone.
        """
        gpu = self.gpu(device.gpu_uuid)
        if gpu is None:
            return self.complete
        return gpu.complete and device.uuid not in {other.uuid for other in gpu.devices}

    def successor(self, device: Device) -> Device | None:
        """Return what stands now where a device of an earlier inventory stood: same GPU, placement and profile.

        That is the device itself if it is still there. A rebuilt layout has new UUIDs and indices in the same places.
        """
        same = self._by_name.get(device.uuid.lower())
        if same is not None or (device.mig_index is not None and device.placement is None):
            return same
        place = (device.gpu_uuid, device.placement, device.profile)
        found = [other for other in self.devices if (other.gpu_uuid, other.placement, other.profile) == place]
        if len(found) > 1:  # Several compute instances share one GPU instance.
            found = [other for other in found if other.ci_id == device.ci_id]
        return found[0] if found else None


def names_of(device: Device) -> Iterator[str]:
    """Yield what a device is called, in lower case: UUID, id, and its name before R470."""
    yield device.uuid.lower()
    yield device.id
    if device.mig_index is not None:
        # As drivers before R470 named it.
        yield f"mig-{device.gpu_uuid}/{device.gi_id}/{device.ci_id}".lower()


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that uses a device. A process may use several."""

    pid: int
    """As the host numbers it."""
    start_ticks: int | None
    """When it started, in clock ticks since boot; with the pid it names one process for ever. None: gone, or hidden."""
    memory: Measured[int]
    """Bytes of the device's memory."""
    device_uuid: str
    gpu_uuid: str
    gi_id: int | None
    ci_id: int | None
    kind: Literal["compute", "graphics", "mps"]
