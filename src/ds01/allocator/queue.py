"""Who of those that wait comes first, what they get, and when the others can expect something. Pure.

The order is by points: the priority of the policy, plus points for each hour of waiting, minus points for the GPU-hours
used lately (fair share). Both ends are bounded, so whoever waits long enough is before everybody who comes later, and
nobody starves.

Nothing is given to somebody behind that anybody ahead could use: a free device that an unserved request ahead matches
is withheld for it. What no request ahead matches goes to the next, which delays nobody.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ds01.allocator.blockers import matches, runtime_s
from ds01.allocator.decide import decide
from ds01.allocator.model import DeviceView, Grant, Holder, Person, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ds01.allocator.request import Request

POINTS_PER_HOUR = 4.0
"""A day of waiting outweighs any difference in priority, which is at most 99."""
NEWCOMER = 2**63 - 1
"""The number of a request that is not in the queue: at equal points and times it is last."""
SHARE_POINTS = 10.0
"""The most that recent use can cost: as much as the step from the usual priority to the next group's."""
SHARE_HALF_HOURS = 24.0
"""GPU-hours that cost half of `SHARE_POINTS`."""
HALF_LIFE_S = 7 * 24 * 3600
"""Use counts half after this time."""
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request in the queue. `used` are the GPU-hours of the person, recent ones counting more."""

    number: int
    person: Person
    request: Request
    since: int
    used: float = 0.0
    token: str | None = None
    """The claim that shall have the devices; None: a new one."""

    def points(self, now: int) -> float:
        """Return how far ahead this request is; more is earlier."""
        waited = max(0, now - self.since) / _HOUR_MS
        return self.person.limits.priority + waited * POINTS_PER_HOUR - share_points(self.used)

    def why(self, now: int) -> str:
        """Say in words what its place comes from."""
        waited = max(0, now - self.since) / _HOUR_MS
        return (
            f"priority {self.person.limits.priority}, waited {waited:.1f} h (+{waited * POINTS_PER_HOUR:.1f}), "
            f"used {self.used:.1f} GPU-hours lately (-{share_points(self.used):.1f})"
        )


class Outcome(NamedTuple):
    """What serving the queue comes to: grants in order, and the picture after them, with what is kept for the rest."""

    granted: list[tuple[Waiting, Grant]]
    snapshot: Snapshot


def share_points(used: float) -> float:
    """Return the points that recent GPU-hours cost: nothing for none, at most `SHARE_POINTS`."""
    return SHARE_POINTS * used / (used + SHARE_HALF_HOURS) if used > 0 else 0.0


def decayed_hours(intervals: Iterable[tuple[int, int, float]], now: int) -> float:
    """Return GPU-hours that count: (from, until, weight) intervals, halved for each half-life since they ended."""
    total = 0.0
    for start, end, weight in intervals:
        age = max(0, now - end) / 1000 / HALF_LIFE_S
        total += max(0, end - start) / _HOUR_MS * weight * 0.5**age
    return total


def ordered(waiting: Iterable[Waiting], now: int) -> list[Waiting]:
    """Return the requests, the first to be served first."""
    return sorted(waiting, key=lambda entry: (-entry.points(now), entry.since, entry.number))


def serve(waiting: Iterable[Waiting], snapshot: Snapshot) -> Outcome:
    """Decide for everybody who waits, in order, until nothing is free."""
    served: list[tuple[Waiting, Grant]] = []
    for entry in ordered(waiting, snapshot.now):
        if not any(device.holder is None and device.uuid not in snapshot.withheld for device in snapshot.devices):
            break
        answer = decide(entry.request, entry.person, snapshot)
        if isinstance(answer, Grant):
            served.append((entry, answer))
            snapshot = granted(snapshot, entry, answer)
        elif answer.may_wait:
            snapshot = _withhold(snapshot, entry)
    return Outcome(served, snapshot)


def ahead_of(newcomer: Waiting, waiting: Iterable[Waiting], snapshot: Snapshot) -> Snapshot:
    """Return the snapshot as a newcomer finds it: free devices are withheld for those who come before."""
    for entry in ordered([*waiting, newcomer], snapshot.now):
        if entry is newcomer:
            break
        answer = decide(entry.request, entry.person, snapshot)
        if isinstance(answer, Grant) or answer.may_wait:
            snapshot = _withhold(snapshot, entry)
    return snapshot


def granted(snapshot: Snapshot, entry: Waiting, grant: Grant) -> Snapshot:
    """Return the snapshot after a grant."""
    holder = holder_of(
        entry.person, str(entry.number), "pending", frees_at=_end(snapshot.now, entry.request, entry.person)
    )
    theirs = {device.uuid for device in grant.devices}
    devices = tuple(replace(d, holder=holder) if d.uuid in theirs else d for d in snapshot.devices)
    return replace(snapshot, devices=devices)


def holder_of(person: Person, token: str, state: str, frees_at: int | None) -> Holder:
    """Return the lease of a person as a snapshot shows it."""
    return Holder(token, person.uid, person.user, person.group, person.limits.priority, state, None, frees_at)


def _withhold(snapshot: Snapshot, entry: Waiting) -> Snapshot:
    kept = {
        device.uuid: f"{device.id} is kept for {entry.person.user}, who waits and comes first"
        for device in snapshot.devices
        if device.holder is None and device.uuid not in snapshot.withheld and _may(device, entry)
    }
    return replace(snapshot, withheld={**snapshot.withheld, **kept})


def forecast(waiting: Sequence[Waiting], snapshot: Snapshot) -> dict[int, int | None]:
    """Return for each number when it can expect its devices, None when nobody can know.

    As if everybody used the whole time that is allowed, so mostly it is sooner.
    """
    ends: dict[str, float] = {}
    for device in snapshot.devices:
        if device.state == "ok" and device.foreign is None:
            free = snapshot.now if device.holder is None else device.holder.frees_at
            ends[device.uuid] = float("inf") if free is None else max(free, snapshot.now)
    answer: dict[int, int | None] = {}
    for entry in ordered(waiting, snapshot.now):
        suitable = [d for d in snapshot.devices if d.uuid in ends and _may(d, entry)]
        count = entry.request.count or 1
        taken = heapq.nsmallest(count, suitable, key=lambda device: ends[device.uuid])
        start = max((ends[device.uuid] for device in taken), default=float("inf"))
        if len(taken) < count:
            start = float("inf")
        answer[entry.number] = None if start == float("inf") else int(start)
        runtime = runtime_s(entry.request, entry.person)
        for device in taken:
            ends[device.uuid] = float("inf") if runtime is None else start + runtime * 1000
    return answer


def _may(device: DeviceView, entry: Waiting) -> bool:
    return matches(device, entry.request) and (entry.person.limits.allow_full_gpu or not device.full)


def _end(now: int, request: Request, person: Person) -> int | None:
    runtime = runtime_s(request, person)
    return None if runtime is None else now + runtime * 1000
