"""The time to plan the worst legal layout, against trying every placement, in the same run.

Worst: of all pairs of a legal layout and a legal wish on an A100-80GB (all profiles), the one whose plan takes longest.
Brute force grows every legal layout from nothing for the same question. The table is the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ds01.mig.model import GpuState, Instance, Placed, Wish
from ds01.mig.planner import plan, plan_gpu
from ds01.mig_geometry import MODELS, Slot
from tests.bench.timing import median_ms

PROFILES = MODELS["A100-80GB"]


def state(index: int, layout: Sequence[Placed]) -> GpuState:
    instances = tuple(Instance(placed, number) for number, placed in enumerate(layout))
    return GpuState(index, f"GPU-{index}", "", "A100", PROFILES, enabled=True, pending=True, instances=instances)


def wish(layout: Sequence[Placed]) -> Wish:
    return Wish(mig=True, slots=tuple(Slot(placed.profile) for placed in layout))


def every_layout() -> list[tuple[Placed, ...]]:
    """All legal layouts, one instance more at a time."""
    spots = [Placed(start, name) for name, shape in PROFILES.items() for start in shape.starts]
    found, fresh = {()}, {()}
    while fresh:
        grown = {tuple(sorted((*old, spot))) for old in fresh for spot in spots if _fits(old, spot)}
        fresh = grown - found
        found |= fresh
    return sorted(found)


def _fits(layout: Sequence[Placed], spot: Placed) -> bool:
    taken = {at for placed in layout for at in _slices(placed)}
    count = sum(placed.profile == spot.profile for placed in layout)
    return taken.isdisjoint(_slices(spot)) and count < PROFILES[spot.profile].most


def _slices(placed: Placed) -> range:
    return range(placed.start, placed.start + PROFILES[placed.profile].memory)


def brute_force(now: Sequence[Placed], wanted: Wish) -> tuple[Placed, ...]:
    """Return the legal layout of the wanted counts that keeps most."""
    counts = Counter(slot.profile for slot in wanted.slots)
    fitting = [layout for layout in every_layout() if Counter(placed.profile for placed in layout) == counts]
    return max(fitting, key=lambda layout: len(set(layout) & set(now)))


def test_plan() -> None:
    layouts = every_layout()
    # A layout's places matter little for the time, its counts much: one layout of each counts, from the emptiest
    # and the fullest layout there is.
    one_each = list({tuple(sorted(Counter(p.profile for p in layout).items())): layout for layout in layouts}.values())
    fullest = max(layouts, key=len)
    worst = max(one_each, key=lambda layout: median_ms(lambda: plan_gpu(state(0, fullest), wish(layout)), 3))
    planned = median_ms(lambda: plan_gpu(state(0, fullest), wish(worst)))
    tried = median_ms(lambda: brute_force(fullest, wish(worst)), 3)
    best = brute_force(fullest, wish(worst))
    assert len(plan_gpu(state(0, fullest), wish(worst)).keep) == len(set(best) & set(fullest))
    wishes = {f"GPU-{index}": wish(worst) for index in range(8)}
    server = median_ms(lambda: plan([state(index, fullest) for index in range(8)], wishes))
    typical = median_ms(lambda: plan_gpu(state(0, fullest), wish([Placed(start, "2g.20gb") for start in (0, 2, 4)])))
    print(f"\n{len(layouts)} legal layouts, {len(one_each)} counts; the worst to plan: {', '.join(map(str, worst))}")
    print(f"{'':38}{'ms':>9}  times brute force")
    for name, taken in (
        ("brute force over all legal layouts", tried),
        ("worst plan of one GPU", planned),
        ("worst plan of eight GPUs", server),
        ("3 x 2g.20gb on one GPU", typical),
    ):
        print(f"{name:<38}{taken:9.2f}  {taken / tried:.4f}")
    # Trying everything is what the planner is there to avoid.
    assert planned < tried
