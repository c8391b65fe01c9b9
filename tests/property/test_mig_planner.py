"""The planner against brute force: whatever is there, wanted and in use, no smaller change exists."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.mig.model import Compute, GpuState, Holder, Instance, Placed, Verdict, Wish
from ds01.mig.planner import plan_gpu
from ds01.mig_geometry import MODELS, Slot

PROFILES = MODELS["A100-80GB"]
SPOTS = [Placed(start, name) for name, shape in PROFILES.items() for start in shape.starts]


def slices(placed: Placed) -> set[int]:
    return set(range(placed.start, placed.start + PROFILES[placed.profile].memory))


def legal(layout: frozenset[Placed]) -> bool:
    """Straight from NVIDIA's table: legal starts, no memory slice twice, no more of a profile than there may be."""
    used = [number for placed in layout for number in slices(placed)]
    counts = Counter(placed.profile for placed in layout)
    return (
        len(used) == len(set(used))
        and all(placed.start in PROFILES[placed.profile].starts for placed in layout)
        and all(count <= PROFILES[name].most for name, count in counts.items())
    )


def every_layout() -> list[frozenset[Placed]]:
    """All legal layouts, by growing them one instance at a time."""
    found, fresh = {frozenset[Placed]()}, {frozenset[Placed]()}
    while fresh:
        fresh = {old | {spot} for old in fresh for spot in SPOTS if spot not in old and legal(old | {spot})} - found
        found |= fresh
    return sorted(found, key=sorted)


LAYOUTS = every_layout()
BY_COUNTS: dict[tuple[tuple[str, int], ...], list[frozenset[Placed]]] = {}


def counts(names: list[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(names).items()))


for _layout in LAYOUTS:
    BY_COUNTS.setdefault(counts([placed.profile for placed in _layout]), []).append(_layout)


@st.composite
def situations(draw: st.DrawFn) -> tuple[GpuState, list[Slot]]:
    """A legal layout, some of it in use, some of it unfinished or foreign; and a wish, some of it with starts."""
    instances = tuple(
        Instance(
            placed,
            gi_id,
            compute,
            uuid=f"MIG-{gi_id}",
            # Without a compute instance nobody can be using it.
            holders=(Holder("alice", "process 1"),) if compute is not Compute.NONE and draw(st.booleans()) else (),
        )
        for gi_id, placed in enumerate(sorted(draw(st.sampled_from(LAYOUTS))))
        for compute in [draw(st.sampled_from([Compute.WHOLE] * 4 + [Compute.NONE, Compute.OTHER]))]
    )
    wanted = sorted(draw(st.sampled_from(LAYOUTS)))
    slots = [Slot(placed.profile, placed.start if draw(st.integers(0, 3)) == 0 else None) for placed in wanted]
    state = GpuState(0, "GPU-0", "0000:01:00.0", "A100", PROFILES, enabled=True, pending=True, instances=instances)
    return state, draw(st.permutations(slots))


def possible_targets(slots: list[Slot]) -> list[frozenset[Placed]]:
    """Every legal layout that is what the slots ask for."""
    fixed = {Placed(slot.start, slot.profile) for slot in slots if slot.start is not None}
    return [layout for layout in BY_COUNTS[counts([slot.profile for slot in slots])] if fixed <= layout]


@settings(max_examples=600, deadline=None)
@given(situations())
def test_the_change_is_legal_spares_what_is_in_use_and_is_the_smallest(situation):
    state, slots = situation
    plan = plan_gpu(state, Wish(mig=True, slots=tuple(slots)))
    targets = possible_targets(slots)
    usable = {item.placed for item in state.instances if item.compute is not Compute.OTHER}
    busy = {item.placed for item in state.instances if item.busy}
    # What can be kept at best, by trying every target.
    sparing = [target for target in targets if busy <= target & usable]
    if not sparing:
        assert plan.verdict is Verdict.WAITS
        assert not plan.changes
        assert not (plan.destroy)
        assert not (plan.create)
        assert not (plan.complete)
        # Nothing is named that could have stayed, and everything named would have to go.
        assert 0 < len(plan.blockers) == min(len(busy - (target & usable)) for target in targets)
        assert all(item.busy for item in plan.blockers)
        return
    assert plan.verdict in {Verdict.DONE, Verdict.CHANGE}
    assert not any(item.busy for item in plan.destroy)
    assert Counter([*plan.keep, *plan.destroy]) == Counter(state.instances)
    assert len(plan.destroy) == min(len(state.instances) - len(target & usable) for target in sparing)
    end = frozenset(item.placed for item in plan.keep) | frozenset(plan.create)
    assert end == frozenset(plan.target)
    assert len(plan.keep) + len(plan.create) == len(end)
    assert end in targets
    assert plan.complete == tuple(item for item in plan.keep if item.compute is Compute.NONE)
    assert (plan.verdict is Verdict.DONE) == (not plan.destroy and not plan.create and not plan.complete)


@settings(max_examples=300, deadline=None)
@given(situations())
def test_the_steps_can_be_carried_out_in_their_order(situation):
    state, slots = situation
    plan = plan_gpu(state, Wish(mig=True, slots=tuple(slots)))
    now = {item.placed for item in state.instances}
    for item in plan.destroy:
        now.remove(item.placed)
    for placed in plan.create:
        now.add(placed)
        assert legal(frozenset(now))
    sizes = [PROFILES[placed.profile].memory for placed in plan.create]
    assert sizes == sorted(sizes, reverse=True)


@settings(max_examples=300, deadline=None)
@given(situations())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(situation):
    state, slots = situation
    free = tuple(Instance(item.placed, item.gi_id, item.compute) for item in state.instances)
    idle = GpuState(0, "GPU-0", "", "A100", PROFILES, enabled=True, pending=True, instances=free)
    wish = Wish(mig=True, slots=tuple(slots))
    target = plan_gpu(idle, wish).target
    after = tuple(Instance(placed, number) for number, placed in enumerate(target))
    done = GpuState(0, "GPU-0", "", "A100", PROFILES, enabled=True, pending=True, instances=after)
    assert plan_gpu(done, wish).verdict is Verdict.DONE


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(PROFILES)), max_size=9), st.data())
def test_what_does_not_fit_is_refused_and_what_is_said_to_fit_does(names, data):
    slots = [Slot(name, data.draw(st.none() | st.sampled_from(PROFILES[name].starts))) for name in names]
    fixed = [Placed(slot.start, slot.profile) for slot in slots if slot.start is not None]
    fits = len(set(fixed)) == len(fixed) and any(set(fixed) <= layout for layout in BY_COUNTS.get(counts(names), []))
    state = GpuState(0, "GPU-0", "", "A100", PROFILES, enabled=True, pending=True)
    plan = plan_gpu(state, Wish(mig=True, slots=tuple(slots)))
    assert (plan.verdict is Verdict.IMPOSSIBLE) is not fits
    if not fits:
        assert plan.reason
        assert plan.fix
        assert not plan.changes


def test_no_layout_is_missing():
    plain = [layout for layout in LAYOUTS if all(name[-2:] == "gb" and name != "1g.20gb" for _, name in layout)]
    maximal = [layout for layout in plain if not any(layout < other for other in plain)]
    assert (len(plain), len(maximal)) == (298, 19)
    sets = {counts([placed.profile for placed in layout]) for layout in plain}
    largest = {counts([placed.profile for placed in layout]) for layout in maximal}
    assert (len(sets), len(largest)) == (38, 14)


def test_dividing_every_layout_into_every_other_never_destroys_needlessly():
    """Exhaustive for the plain profiles: all 298 layouts to all 38 count sets, nothing in use."""
    plain = [layout for layout in LAYOUTS if all(name[-2:] == "gb" and name != "1g.20gb" for _, name in layout)]
    wishes = {counts([placed.profile for placed in layout]) for layout in plain}
    for layout in plain:
        instances = tuple(Instance(placed, number) for number, placed in enumerate(sorted(layout)))
        state = GpuState(0, "GPU-0", "", "A100", PROFILES, enabled=True, pending=True, instances=instances)
        for wish in wishes:
            slots = tuple(Slot(name) for name, count in wish for _ in range(count))
            plan = plan_gpu(state, Wish(mig=True, slots=slots))
            best = max(len(layout & target) for target in BY_COUNTS[wish])
            assert len(plan.keep) == best
