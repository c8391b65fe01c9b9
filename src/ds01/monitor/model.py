"""One sample: everything that was seen at one moment, as plain values. None is "not known", never zero."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

ProcessKind: TypeAlias = Literal["container", "user", "system", "unknown"]


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A process that uses a device, and whose it is."""

    pid: int
    start_ticks: int | None
    kind: ProcessKind
    container: str | None
    """Id of its container."""
    uid: int | None
    """The person, of a container or of the host."""
    user: str
    name: str
    """Its unit or the kernel's name of it."""
    memory: int | None
    """Bytes of the device."""
    cpu_ticks: int | None
    """CPU time of it and its descendants so far, in clock ticks."""
    computes: bool
    """Whether it may compute; a process that only draws does not use the device up."""


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """A whole GPU or a MIG instance."""

    id: str
    uuid: str
    gpu_uuid: str
    gpu_index: int
    gi_id: int | None
    profile: str
    weight: float
    memory_total: int | None
    memory_used: int | None
    busy: float | None
    """Percent of the time it did something."""
    busy_source: str
    """The counter that said so, or that cannot."""
    processes: tuple[ProcessSample, ...] | None
    unexplained: int | None
    """Bytes that no process accounts for."""
    token: str | None = None
    """The claim that holds it in the ledger."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """A physical GPU."""

    index: int
    uuid: str
    model: str
    mig: bool
    state: str
    """ok, degraded or unhealthy."""
    power_mw: int | None
    energy_mj: int | None
    temperature_c: int | None


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """A container of the engine. `token` is that of its GPU claim; `names` are GPUs it reaches without one."""

    id: str
    name: str
    uid: int | None
    user: str
    group: str
    type: str
    interface: str
    managed: bool
    protected: bool
    running: bool
    created: int
    token: str | None
    names: tuple[str, ...]
    cpu_us: int | None = None
    """CPU time of this run, in microseconds."""
    memory: int | None = None
    io_bytes: int | None = None
    net_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SliceSample:
    """What one person uses over all containers."""

    group: str
    user: str
    cpu_us: int | None
    memory: int | None
    tasks: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything. A part that could not be looked at is None, and `problems` says why."""

    at: int
    """UTC milliseconds."""
    boot: str
    boot_ms: int
    """Milliseconds since the boot: what durations are made of, since clocks are set."""
    took_ms: float
    gpus: tuple[GpuSample, ...] | None = None
    devices: tuple[DeviceSample, ...] | None = None
    containers: tuple[ContainerSample, ...] | None = None
    slices: tuple[SliceSample, ...] = ()
    sessions: tuple[tuple[str, int], ...] = ()
    """People who are logged in over the network, and how often."""
    problems: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as one line."""
        return json.dumps(asdict(self), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def from_json(text: str | bytes) -> Sample:
    """Return a sample that `to_json` wrote. Raises ValueError for anything else."""
    try:
        return _sample(json.loads(text))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no sample of this version: {error}") from error


def _sample(data: dict[str, Any]) -> Sample:
    parts = {
        "gpus": _many(GpuSample, data["gpus"]),
        "devices": _many(_device, data["devices"]),
        "containers": _many(_container, data["containers"]),
        "slices": _many(SliceSample, data["slices"]),
        "sessions": tuple((user, count) for user, count in data["sessions"]),
        "problems": tuple(data["problems"]),
    }
    return Sample(**{**data, **parts})


def _many(kind: Any, rows: list[dict[str, Any]] | None) -> Any:
    return None if rows is None else tuple(kind(**row) for row in rows)


def _device(**row: Any) -> DeviceSample:
    return DeviceSample(**{**row, "processes": _many(ProcessSample, row["processes"])})


def _container(**row: Any) -> ContainerSample:
    return ContainerSample(**{**row, "names": tuple(row["names"])})
