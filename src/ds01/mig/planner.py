"""From what a GPU is and what it shall be to the smallest change, or to the reason why there is none.

Pure: it neither reads nor changes a GPU. What somebody uses is never part of what goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from ds01.mig.model import Compute, GpuPlan, GpuState, Holder, Instance, Placed, Plan, Verdict, Wish
from ds01.mig_geometry import Shape, Slot, misfit, placements


def plan(states: Iterable[GpuState], wishes: Mapping[str, Wish], missing: Sequence[str] = ()) -> Plan:
    """Plan all GPUs that have a wish, by their UUID; others are left alone."""
    states = list(states)
    plans = tuple(plan_gpu(state, wishes[state.uuid]) for state in states if state.uuid in wishes)
    return Plan(plans, tuple(missing), tuple(state.name for state in states if state.problem))


def plan_gpu(state: GpuState, wish: Wish) -> GpuPlan:
    """Plan one GPU."""
    if state.problem:
        return GpuPlan(state, wish, Verdict.UNKNOWN, reason=state.problem, fix="`ds01 gpu health` says more")
    return _divided(state, wish) if wish.mig else _whole(state, wish)


def _whole(state: GpuState, wish: Wish) -> GpuPlan:
    """Plan a GPU that shall be whole: a full GPU has MIG mode off, and more than one instance of 7g has."""
    if not state.enabled:
        # Somebody asked for MIG at the next reset: taken back, which nobody notices.
        mode = False if state.pending else None
        return GpuPlan(state, wish, Verdict.DONE if mode is None else Verdict.CHANGE, mode=mode)
    blockers = tuple(instance for instance in state.instances if instance.busy)
    if blockers:
        return _waits(state, wish, blockers)
    gone = _last_first(state.instances)
    if not state.pending:
        return GpuPlan(state, wish, Verdict.RESET, destroy=gone, reason=_PENDING_OFF, fix=_RESET)
    return _mode_change(GpuPlan(state, wish, Verdict.CHANGE, destroy=gone, mode=False))


def _divided(state: GpuState, wish: Wish) -> GpuPlan:
    problem = misfit(wish.slots, state.profiles)
    if problem is not None:
        return GpuPlan(state, wish, Verdict.IMPOSSIBLE, reason=f"expected {problem[0]}", fix=problem[1])
    if not state.enabled:
        target = _sorted(_closest(state, wish.slots))
        if state.pending:
            return GpuPlan(state, wish, Verdict.RESET, target, reason=_PENDING_ON, fix=_RESET)
        create = _large_first(target, state.profiles)
        return _mode_change(GpuPlan(state, wish, Verdict.CHANGE, target, create=create, mode=True))
    closest = _closest(state, wish.slots)
    keep = tuple(instance for instance in state.instances if _usable(instance) and instance.placed in closest)
    others = tuple(instance for instance in state.instances if instance not in keep)
    blockers = tuple(instance for instance in others if instance.busy)
    if blockers:
        return _waits(state, wish, blockers, closest)
    kept = {instance.placed for instance in keep}
    create = _large_first([placed for placed in closest if placed not in kept], state.profiles)
    complete = tuple(instance for instance in keep if instance.compute is Compute.NONE)
    # Somebody asked for MIG off at the next reset: taken back.
    mode = None if state.pending else True
    verdict = Verdict.CHANGE if create or complete or others or mode else Verdict.DONE
    return GpuPlan(state, wish, verdict, _sorted(closest), keep, _last_first(others), complete, create, mode)


def _closest(state: GpuState, slots: Sequence[Slot]) -> frozenset[Placed]:
    """Return the possible layout that keeps most: first of what is in use, then of all that is there.

    Of equally good ones it is the one that leaves room for the largest instance beside it: so that a later wish for
    more need not move anything.
    """
    usable = {instance.placed: instance.busy for instance in state.instances if _usable(instance)}
    busy = {placed for placed, in_use in usable.items() if in_use}

    def worth(target: frozenset[Placed]) -> tuple[int, int, tuple[int, int]]:
        return len(target & busy), len(target & usable.keys()), _room(target, state.profiles)

    return max(_targets(slots, state.profiles), key=worth)


def _room(target: Iterable[Placed], profiles: Mapping[str, Shape]) -> tuple[int, int]:
    """Return the memory and compute slices of the largest instance that still fits beside a layout."""
    taken = sum(((1 << profiles[placed.profile].memory) - 1) << placed.start for placed in target)
    return max(
        (
            (shape.memory, shape.compute)
            for shape in profiles.values()
            for start in shape.starts
            if not taken & ((1 << shape.memory) - 1) << start
        ),
        default=(0, 0),
    )


def _targets(slots: Sequence[Slot], profiles: Mapping[str, Shape]) -> Iterator[frozenset[Placed]]:
    names = [slot.profile for slot in slots]
    return (frozenset(map(Placed, starts, names)) for starts in placements(slots, profiles))


def _waits(state: GpuState, wish: Wish, blockers: tuple[Instance, ...], target: Iterable[Placed] = ()) -> GpuPlan:
    reason = f"in use: {'; '.join(f'{called(item)} by {_people(item.holders)}' for item in blockers)}"
    return GpuPlan(state, wish, Verdict.WAITS, _sorted(target), blockers=blockers, reason=reason, fix=_WHEN_DONE)


def _mode_change(found: GpuPlan) -> GpuPlan:
    """Hold a plan that changes the MIG mode against who has the GPU open."""
    holders = found.state.holders
    work = [holder for holder in holders if not holder.daemon]
    if work:
        reason = f"its MIG mode has to change, and it is in use: {_people(work)}"
        return GpuPlan(
            found.state, found.wish, Verdict.WAITS, found.target, holders=holders, reason=reason, fix=_WHEN_DONE
        )
    reason = f"held open by {_people(holders)}: without a reset its MIG mode may stay as it is" if holders else ""
    fix = "; ".join(dict.fromkeys(holder.fix for holder in holders if holder.fix))
    return replace(found, holders=holders, reason=reason, fix=fix)


_WHEN_DONE = "it changes when they are done: run `ds01 mig apply` again then"
_PENDING_ON = "MIG mode is switched on, but the GPU has not been reset since"
_PENDING_OFF = "MIG mode is switched off, but the GPU has not been reset since"
_RESET = "reboot the host (or reset the GPU when nobody uses it: nvidia-smi --gpu-reset); the layout follows by itself"


def _usable(instance: Instance) -> bool:
    return instance.compute is not Compute.OTHER


def _sorted(target: Iterable[Placed]) -> tuple[Placed, ...]:
    return tuple(sorted(target))


def _large_first(target: Iterable[Placed], profiles: Mapping[str, Shape]) -> tuple[Placed, ...]:
    return tuple(sorted(target, key=lambda placed: (-profiles[placed.profile].memory, placed.start)))


def _last_first(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(sorted(instances, key=lambda instance: -instance.placed.start))


def called(instance: Instance) -> str:
    """Return how people know an instance: by its device of today, and by its place."""
    return f"{instance.device} ({instance.placed})" if instance.device else str(instance.placed)


def _people(holders: Iterable[Holder]) -> str:
    return ", ".join(map(str, holders))


def _list(slots: Iterable[Slot]) -> str:
    return ", ".join(map(str, slots))
