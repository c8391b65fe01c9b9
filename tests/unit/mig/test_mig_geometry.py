"""The MIG solver against the numbers NVIDIA publishes."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement

import pytest

from ds01.mig_geometry import COMPUTE_SLICES, MODELS, Slot, fitting_models, known_profiles, place

PLAIN = ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"]
A100 = MODELS["A100-40GB"]


def every_placement() -> set[frozenset[Slot]]:
    """Grow sets of placed instances one by one, asking only the solver whether each is possible."""
    spots = [Slot(name, start) for name in PLAIN for start in A100[name].starts]
    found, fresh = {frozenset[Slot]()}, {frozenset[Slot]()}
    while fresh:
        fresh = {old | {spot} for old in fresh for spot in spots if spot not in old} - found
        fresh = {slots for slots in fresh if place(sorted(slots), A100) is not None}
        found |= fresh
    return found


def counts(slots: frozenset[Slot]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(slot.profile for slot in slots).items()))


def test_the_solver_finds_exactly_the_published_configurations():
    found = every_placement()
    maximal = {slots for slots in found if not any(slots < other for other in found)}
    assert len(found) == 298
    assert len(maximal) == 19
    assert len({counts(slots) for slots in maximal}) == 14
    assert len({counts(slots) for slots in found}) == 38


def test_without_starts_it_accepts_the_same_sets():
    known = {counts(slots) for slots in every_placement()}
    for size in range(8):
        for names in combinations_with_replacement(PLAIN, size):
            slots = [Slot(name) for name in names]
            placed = place(slots, A100)
            assert (placed is not None) == (tuple(sorted(Counter(names).items())) in known)


@pytest.mark.parametrize("model", MODELS)
def test_placements_never_overlap_and_keep_wanted_starts(model):
    profiles = MODELS[model]
    for names in combinations_with_replacement(profiles, 3):
        slots = [Slot(name) for name in names]
        starts = place(slots, profiles)
        if starts is None:
            continue
        used = [
            place for name, at in zip(names, starts, strict=True) for place in range(at, at + profiles[name].memory)
        ]
        assert len(used) == len(set(used))
        assert sum(profiles[name].compute for name in names) <= COMPUTE_SLICES
        fixed = [Slot(name, at) for name, at in zip(names, starts, strict=True)]
        assert place(fixed, profiles) == starts


def test_models_are_told_apart_by_their_profiles():
    assert fitting_models([Slot("1g.5gb")]) == ["A100-40GB"]
    assert fitting_models([Slot("1g.10gb")] * 4) == ["A100-40GB", "A100-80GB", "H100-80GB"]
    assert fitting_models([Slot("1g.10gb")] * 5) == ["A100-80GB", "H100-80GB"]
    assert fitting_models([Slot("2g.20gb")] * 4) == []
    assert fitting_models([]) == list(MODELS)
    assert known_profiles()[0] == "1g.5gb"
