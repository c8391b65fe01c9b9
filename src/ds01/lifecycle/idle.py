"""Was a container idle between two samples? Pure. What is not known convicts nobody.

Certain: none of its processes is on its devices. High: the counters of its devices show nothing, or its processes there
used no CPU time at all while the memory they hold did not change. Everything else is unknown.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, NamedTuple

from ds01.ledger.lifecycle import Life
from ds01.lifecycle.rules import Rules
from ds01.monitor.model import ContainerSample, DeviceSample, ProcessSample, Sample

GAP_MS: Final = 90_000
"""Longest time without evidence: a longer one is a gap, and the count begins anew."""


class State(Enum):
    """What is known of a stretch of time."""

    ACTIVE = "active"
    IDLE = "idle"
    UNKNOWN = "unknown"


class Verdict(NamedTuple):
    """Whether it was idle, and by which sign."""

    state: State
    why: str
    quiet: bool = False
    """Of what is unknown: as far as anything can be seen, it did nothing. Nobody is stopped for that."""


def judge(before: Sample, after: Sample, container: ContainerSample, rules: Rules) -> Verdict | None:
    """Say what a container did between two samples; None if it has no GPU, which is what idleness is about.

    Args:
        before: The earlier sample.
        after: The later one.
        container: As the later one has it.
        rules: Its limits.
    """
    if container.token is None and not container.names:
        return None
    if after.devices is None or before.devices is None:
        return Verdict(State.UNKNOWN, "the GPUs could not be looked at")
    mine = [device for device in after.devices if _has(container, device)]
    if not mine:
        # It asked for GPUs and holds none: nothing is kept from anybody.
        return None
    earlier = {device.uuid: device for device in before.devices}
    found = [_device(earlier.get(device.uuid), device, container.id, rules) for device in mine]
    was = next((one for one in before.containers or () if one.id == container.id), None)
    others = _activity(was, container, after.boot_ms - before.boot_ms, rules)
    for state in (State.ACTIVE, State.UNKNOWN):
        for verdict in found:
            if verdict.state is state:
                silent = others is None and all(one.quiet or one.state is State.IDLE for one in found)
                return verdict._replace(quiet=silent)
    return others or Verdict(State.IDLE, "; ".join(dict.fromkeys(verdict.why for verdict in found)))


def advance(life: Life, verdict: Verdict, before: Sample, after: Sample, gap_ms: int = GAP_MS) -> Life:
    """Return for how long a container has been idle, one stretch later."""
    held = life
    if life.idle_boot != after.boot or not 0 <= after.boot_ms - life.idle_boot_ms <= gap_ms:
        held = life._replace(idle_ms=0, idle_warned=0, idle_boot="")
    stretch = after.boot_ms - before.boot_ms
    whole = before.boot == after.boot and 0 < stretch <= gap_ms
    if verdict.state is State.ACTIVE:
        return held._replace(
            idle_ms=0, idle_warned=0, idle_boot=after.boot, idle_boot_ms=after.boot_ms, idle_why=verdict.why
        )
    if verdict.state is State.UNKNOWN or not whole:
        # The evidence grows old: what follows too late begins anew.
        return held._replace(idle_why=verdict.why)
    return held._replace(
        idle_ms=held.idle_ms + stretch, idle_boot=after.boot, idle_boot_ms=after.boot_ms, idle_why=verdict.why
    )


def holds(sample: Sample, container: ContainerSample) -> bool:
    """Whether a container keeps devices from others, running or not."""
    return any(_has(container, device) for device in sample.devices or ())


def rest(life: Life, before: Sample, after: Sample, gap_ms: int = GAP_MS) -> Life:
    """Return the life of a container that was stopped, and still holds its devices: no idle time, and no gap either."""
    whole = before.boot == after.boot == life.idle_boot and after.boot_ms - life.idle_boot_ms <= gap_ms
    return life._replace(idle_boot_ms=after.boot_ms) if whole else life


def _has(container: ContainerSample, device: DeviceSample) -> bool:
    names = {device.uuid.lower(), device.id, str(device.gpu_index), device.gpu_uuid.lower(), "all"}
    held = container.token is not None and device.token == container.token
    on_it = any(process.container == container.id for process in device.processes or ())
    return held or on_it or not names.isdisjoint(name.lower() for name in container.names)


def _device(before: DeviceSample | None, after: DeviceSample, container: str, rules: Rules) -> Verdict:
    if after.processes is None:
        return Verdict(State.UNKNOWN, f"who uses device {after.id} could not be seen")
    if any(process.kind == "unknown" for process in after.processes):
        return Verdict(State.UNKNOWN, f"a process on device {after.id} could not be attributed")
    mine = _of(after, container)
    if not mine:
        return Verdict(State.IDLE, f"no process of it is on device {after.id}")
    if rules.gpu_threshold is not None and after.busy is not None:
        busy = after.busy >= rules.gpu_threshold
        return Verdict(State.ACTIVE if busy else State.IDLE, f"device {after.id} is {after.busy:.0f} % busy")
    was = {} if before is None else _of(before, container)
    if _steady(was, mine, "memory", "cpu_ticks"):
        return Verdict(State.IDLE, f"its processes on device {after.id} sleep")
    why = f"how busy device {after.id} is cannot be told"
    return Verdict(State.UNKNOWN, why, quiet=_steady(was, mine, "memory"))


def _of(device: DeviceSample, container: str) -> dict[tuple[int, int | None], ProcessSample]:
    return {
        (process.pid, process.start_ticks): process
        for process in device.processes or ()
        if process.container == container and process.computes
    }


def _steady(
    before: dict[tuple[int, int | None], ProcessSample],
    after: dict[tuple[int, int | None], ProcessSample],
    *fields: Literal["memory", "cpu_ticks"],
) -> bool:
    """Whether the same processes are there, and what these fields say of them is known and did not change."""
    if before.keys() != after.keys() or any(start is None for _, start in after):
        return False
    return all(
        getattr(now, field) is not None and getattr(now, field) == getattr(before[key], field)
        for key, now in after.items()
        for field in fields
    )


def _activity(was: ContainerSample | None, now: ContainerSample, stretch_ms: int, rules: Rules) -> Verdict | None:
    """Return what speaks against idleness beside the GPU: the container's CPUs and network."""
    if was is None or stretch_ms <= 0:
        return Verdict(State.UNKNOWN, "it was not there before")
    if rules.cpu_threshold is not None:
        if was.cpu_us is None or now.cpu_us is None:
            return Verdict(State.UNKNOWN, "its CPU time could not be read")
        percent = _more(was.cpu_us, now.cpu_us) / (stretch_ms * 10)
        if percent >= rules.cpu_threshold:
            return Verdict(State.ACTIVE, f"its GPU does nothing, but its CPUs work ({percent:.0f} % of one)")
    if rules.network_threshold is not None:
        if was.net_bytes is None or now.net_bytes is None:
            return Verdict(State.UNKNOWN, "its network traffic could not be read")
        if _more(was.net_bytes, now.net_bytes) >= rules.network_threshold:
            return Verdict(State.ACTIVE, "its GPU does nothing, but its network works")
    return None


def _more(was: int, now: int) -> int:
    """Return how much was added. After a restart counters begin at nothing, and a restart is no use of a GPU."""
    return now - was if now >= was else now
