"""Which of several free devices somebody gets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

from ds01.allocator.blockers import own_booking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ds01.allocator.model import DeviceView, Person, Snapshot
    from ds01.allocator.request import Request

Rank: TypeAlias = "Callable[[DeviceView, Sequence[DeviceView]], tuple[Any, ...]]"
"""Orders devices, the best one smallest, given those that were already chosen."""
EPSILON = 1e-6
"""Sums of sevenths are not exact in floating point; no two real quotas are this close."""


def choose(free: Sequence[DeviceView], count: int, budget: float | None, rank: Rank) -> list[DeviceView] | None:
    """Return `count` of the free devices whose weights fit in `budget`, best first, or None when there are none such.

    Devices are taken one by one; one is passed over when the lightest others could not complete the number.
    """
    rest = list(free)
    chosen: list[DeviceView] = []
    while len(chosen) < count:
        missing = count - len(chosen) - 1
        usable = rest if budget is None else _completing(rest, missing, budget)
        if len(rest) <= missing or not usable:
            return None
        best = min(usable, key=lambda device: rank(device, chosen))
        rest.remove(best)
        chosen.append(best)
        budget = None if budget is None else budget - best.weight
    return chosen


def _completing(rest: Sequence[DeviceView], missing: int, budget: float) -> list[DeviceView]:
    """Return the devices with which, and the `missing` lightest others, the budget is kept."""
    weights = sorted(device.weight for device in rest)
    others, with_next = sum(weights[:missing]), sum(weights[: missing + 1])
    # One of the lightest is not counted twice: the next one takes its place among the others.
    return [d for d in rest if max(with_next, others + d.weight) <= budget + EPSILON]


def lightest(devices: Sequence[DeviceView], count: int) -> float | None:
    """Return the least sum of weights that `count` of the devices can have; None when there are too few."""
    weights = sorted(device.weight for device in devices)
    return sum(weights[:count]) if len(weights) >= count else None


def most(devices: Sequence[DeviceView], budget: float | None) -> int:
    """Return how many of the devices fit in a budget at most."""
    left, number = budget, 0
    for weight in sorted(device.weight for device in devices):
        if left is not None:
            if weight > left + EPSILON:
                break
            left -= weight
        number += 1
    return number


def ranking(request: Request, person: Person, snapshot: Snapshot) -> Rank:
    """Return what orders devices, the best one smallest, given those already chosen.

    What a container had before comes first, or else what is like it; then what was reserved for the person, then
    exactly the wanted profile. A whole GPU goes last to somebody who did not ask for one, because it serves the one who
    needs it. Then the strategy decides.
    """
    leases = Counter(device.gpu_uuid for device in snapshot.devices if device.holder)
    neighbours = Counter[str]()
    for device in snapshot.devices:
        if device.holder:
            neighbours[device.gpu_uuid] += device.holder.priority
    before = {device.profile for device in snapshot.devices if device.uuid in snapshot.preferred}
    mine = {device.uuid for device in snapshot.devices if own_booking(device, person, snapshot)}
    sign = -1 if snapshot.strategy == "packed" else 1

    def rank(device: DeviceView, chosen: Sequence[DeviceView]) -> tuple[Any, ...]:
        together = sum(other.gpu_uuid == device.gpu_uuid for other in chosen)
        return (
            device.uuid not in snapshot.preferred,
            bool(before) and device.profile not in before,
            device.uuid not in mine,
            request.profile is not None and device.profile != request.profile,
            device.full and not request.full,
            sign * (leases[device.gpu_uuid] + together),
            neighbours[device.gpu_uuid],
            device.memory_bytes,
            device.weight,
            device.gpu_index,
            -1 if device.mig_index is None else device.mig_index,
        )

    return rank
