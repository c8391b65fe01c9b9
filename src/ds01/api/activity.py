"""What the monitor saw last: how busy devices are, which processes are on them, what people's slices use.

How busy a device is everybody sees: it explains what is worth waiting for. Processes, slices and logins of others are
nobody else's business.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01.health.monitor import OLD_S
from ds01.ledger import system_clock
from ds01.monitor import history

if TYPE_CHECKING:
    from ds01.api.call import Asker, Call
    from ds01.api.desk import Desk
    from ds01.monitor.model import DeviceSample, ProcessSample, Sample, SliceSample

_LIMITS = ("aggregate.max_cpus", "aggregate.memory_max", "aggregate.tasks_max")


def activity(desk: Desk, call: Call) -> Any:
    """Show what the monitor saw last; nothing, if that says nothing of now."""
    samples = _latest()
    if not samples:
        return {"at": None, "age_s": None, "devices": None, "people": [], "logins": {}, "problems": []}
    last, asker = samples[-1], call.asker
    before = samples[-2] if len(samples) > 1 and samples[-2].boot == last.boot else None
    now = system_clock()
    age = (now.boot_ms - last.boot_ms) // 1000 if last.boot == now.boot else None
    fresh = age is not None and age <= max(OLD_S, 3 * int(desk.tables["monitoring"].get("sample_interval", 0)))
    return {
        "at": last.at if fresh else None,
        "age_s": age,
        "devices": [_device(one, asker) for one in last.devices] if fresh and last.devices is not None else None,
        "people": _people(desk, last, before, asker) if fresh else [],
        "logins": {user: count for user, count in last.sessions if fresh and (asker.admin or user == asker.user)},
        "problems": list(last.problems) if fresh and asker.admin else [],
    }


def _latest() -> list[Sample]:
    """Return the last two samples, the newest last: together they say how many CPUs are in use."""
    try:
        return [sample for _, sample in history.read_after(0, history.HISTORY, at_most=2)]
    except OSError:
        return []


def _device(device: DeviceSample, asker: Asker) -> dict[str, Any]:
    found = device.processes
    mine = None if found is None else [_process(one) for one in found if asker.admin or one.uid == asker.uid]
    return {
        "id": device.id,
        "uuid": device.uuid,
        "busy": device.busy,
        "busy_source": device.busy_source,
        "memory_used": device.memory_used,
        "memory_total": device.memory_total,
        "processes": {"count": None if found is None else len(found), "listed": mine},
    }


def _process(process: ProcessSample) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "user": process.user or None,
        "kind": process.kind,
        "container": process.container,
        "name": process.name,
        "memory": process.memory,
    }


def _people(desk: Desk, last: Sample, before: Sample | None, asker: Asker) -> list[dict[str, Any]]:
    earlier = {(one.group, one.user): one for one in before.slices} if before else {}
    passed = last.boot_ms - before.boot_ms if before else 0
    return [
        _person(desk, one, earlier.get((one.group, one.user)), passed)
        for one in last.slices
        if asker.admin or one.user == asker.user
    ]


def _person(desk: Desk, now: SliceSample, before: SliceSample | None, passed_ms: int) -> dict[str, Any]:
    from ds01.policy.resolver import resolve  # noqa: PLC0415 - where nobody has a slice nothing is resolved

    cpus = None
    if before is not None and before.cpu_us is not None and now.cpu_us is not None and passed_ms > 0:
        # A slice that went and came again begins at zero.
        cpus = round(max(0, now.cpu_us - before.cpu_us) / 1000 / passed_ms, 2)
    # Whose slice it is says which group counts; nobody is looked up for that.
    groups = [name for name, group in desk.tables["unix_groups"].items() if group == now.group]
    values = resolve(desk.tables, now.user, datetime.now(UTC), groups).values
    most = [values[name] for name in _LIMITS]
    return {
        "user": now.user,
        "group": now.group,
        "cpus": cpus,
        "cpus_max": most[0],
        "memory": now.memory,
        "memory_max": most[1],
        "tasks": now.tasks,
        "tasks_max": most[2],
    }
