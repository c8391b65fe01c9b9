"""Whether GPUs are well: from the inventory, one reading and the errors since the last reset. Pure.

A value that is unknown makes no GPU ill. What only one instance had (an Xid with its ids) condemns only that instance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ds01.gpu.model import Device, Gpu, GpuProblem, Inventory, ProblemKind
from ds01.gpu.readings import GpuReading, Readings
from ds01.gpu.watch import GpuEvent
from ds01.gpu.xid import State, xid

# nvmlClocksEventReason*: the ones that mean trouble. A software power cap (0x4) is everyday life under load.
_SLOWED: Final = (
    (0x40, "slowed down by heat (hardware)"),
    (0x20, "slowed down by heat"),
    (0x80, "slowed down by the power supply"),
    (0x8, "slowed down by its own protection"),
)
_COOL: Final = "check fans, filters and the room's air conditioning"
_RESET: Final = "stop what uses this GPU, then reboot"
_EXCHANGE: Final = "have the card exchanged; until then give it to nobody"
_ORDER: Final = (State.OK, State.DEGRADED, State.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a GPU, or about one instance of it."""

    state: State
    reason: str
    fix: str
    gi_id: int | None = None
    """The instance it is about; None: the whole GPU."""
    ci_id: int | None = None


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """How one GPU is, and why."""

    gpu_index: int
    gpu_uuid: str | None
    """None if it could not be read."""
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """The worst of the findings."""
        return _worst(self.findings)

    def of_device(self, device: Device) -> tuple[State, tuple[Finding, ...]]:
        """Return how one of its devices is, and the findings that make it so."""
        mine = tuple(finding for finding in self.findings if _concerns(finding, device))
        return _worst(mine), mine


def assess(inventory: Inventory, readings: Readings, events: Iterable[GpuEvent] = ()) -> tuple[GpuHealth, ...]:
    """Return the health of every GPU, by index, also of those that could not be read.

    Args:
        inventory: What there is.
        readings: One reading of it.
        events: What happened since the last reset of each GPU.
    """
    seen = tuple(events)
    gpus = {gpu.index: gpu for gpu in inventory.gpus}
    problems: dict[int, list[GpuProblem]] = {index: [] for index in gpus}
    for problem in inventory.problems:
        problems.setdefault(problem.gpu_index, []).append(problem)
    return tuple(_gpu_health(index, gpus.get(index), problems[index], readings, seen) for index in sorted(problems))


def _gpu_health(
    index: int, gpu: Gpu | None, problems: list[GpuProblem], readings: Readings, events: tuple[GpuEvent, ...]
) -> GpuHealth:
    findings = [_of_problem(problem) for problem in problems]
    if gpu is None:
        return GpuHealth(index, next((problem.gpu_uuid for problem in problems), None), tuple(findings))
    reading = readings.gpus.get(gpu.uuid)
    if reading is not None:
        findings += _of_reading(reading)
    findings += _of_events(event for event in events if event.gpu_uuid == gpu.uuid)
    return GpuHealth(index, gpu.uuid, tuple(findings))


def _of_problem(problem: GpuProblem) -> Finding:
    states = {ProblemKind.LOST: State.UNHEALTHY, ProblemKind.UNREADABLE: State.UNHEALTHY}
    return Finding(states.get(problem.kind, State.DEGRADED), problem.message, problem.fix)


def _of_reading(reading: GpuReading) -> Iterator[Finding]:
    reasons = reading.clock_reasons.value or 0
    for bit, text in _SLOWED:
        if reasons & bit:
            yield Finding(State.DEGRADED, text, _COOL if "heat" in text else "check the power supply and its cables")
    heat, limit = reading.temperature_c.value, reading.slowdown_c.value
    if heat is not None and limit is not None and heat >= limit:
        yield Finding(State.DEGRADED, f"{heat} degrees C: it slows down from {limit} on", _COOL)
    if reading.ecc_uncorrected.value:
        text = f"{reading.ecc_uncorrected.value} uncorrectable memory errors since the driver was loaded"
        yield Finding(State.UNHEALTHY, text, _RESET)
    rows = reading.remapped_rows.value
    if rows is not None and rows.failed:
        yield Finding(State.UNHEALTHY, "a faulty memory row could not be replaced", _EXCHANGE)
    if rows is not None and rows.pending:
        yield Finding(State.DEGRADED, "a faulty memory row is replaced at the next reset", _RESET)


def _of_events(events: Iterable[GpuEvent]) -> Iterator[Finding]:
    counts: dict[tuple[int, int | None, int | None], int] = {}
    for event in events:
        if event.kind == "unavailable":
            yield Finding(State.UNHEALTHY, "the driver gave the GPU up", _RESET)
        if event.kind == "recovery" and event.data:
            yield Finding(State.DEGRADED, "the driver asks for a reset of the GPU", _RESET)
        if event.xid is not None:
            key = (event.xid, event.gi_id, event.ci_id)
            counts[key] = counts.get(key, 0) + 1
    for (code, gi_id, ci_id), count in counts.items():
        known = xid(code)
        if known.state is not State.OK:
            times = "" if count == 1 else f", {count} times"
            yield Finding(known.state, f"Xid {code}: {known.meaning}{times}", known.fix, gi_id, ci_id)


def _concerns(finding: Finding, device: Device) -> bool:
    if finding.gi_id is None or device.gi_id is None:
        return True
    return finding.gi_id == device.gi_id and finding.ci_id in {None, device.ci_id}


def _worst(findings: Iterable[Finding]) -> State:
    return max((finding.state for finding in findings), key=_ORDER.index, default=State.OK)
