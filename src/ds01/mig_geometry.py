"""MIG geometry: which instances fit on which GPU, and where.

A GPU in MIG mode has 8 memory slices and 7 compute slices. A profile occupies consecutive memory slices and may start
only at certain ones (NVIDIA MIG user guide, placements of A100, H100 and H200). The legal starts already keep the
compute slices within 7. Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

COMPUTE_SLICES = 7
_MEMORY_TOLERANCE = 0.08


class Shape(NamedTuple):
    """What a profile occupies, the same on every model with 8 memory slices."""

    compute: int
    memory: int
    starts: tuple[int, ...]
    most: int


class Slot(NamedTuple):
    """A wanted instance: profile and, if it matters, its first memory slice."""

    profile: str
    start: int | None = None

    def __str__(self) -> str:
        """Return it as the policy file spells it."""
        return self.profile if self.start is None else f"{self.profile}@{self.start}"


_SHAPES = {
    "1g": Shape(1, 1, (0, 1, 2, 3, 4, 5, 6), 7),
    "1g+me": Shape(1, 1, (0, 1, 2, 3, 4, 5, 6), 1),
    # One compute slice with the memory of two.
    "1g double": Shape(1, 2, (0, 2, 4, 6), 4),
    "2g": Shape(2, 2, (0, 2, 4), 3),
    "3g": Shape(3, 4, (0, 4), 2),
    "4g": Shape(4, 4, (0,), 1),
    "7g": Shape(7, 8, (0,), 1),
}


def _profiles(one: int, two: int, four: int, whole: int) -> dict[str, Shape]:
    """Name the shapes of a model by the GB of one, two, four and all memory slices."""
    return {
        f"1g.{one}gb": _SHAPES["1g"],
        f"1g.{one}gb+me": _SHAPES["1g+me"],
        f"1g.{two}gb": _SHAPES["1g double"],
        f"2g.{two}gb": _SHAPES["2g"],
        f"3g.{four}gb": _SHAPES["3g"],
        f"4g.{four}gb": _SHAPES["4g"],
        f"7g.{whole}gb": _SHAPES["7g"],
    }


# Profile names as `nvidia-smi mig -lgip` prints them (NVIDIA MIG user guide, R580).
MODELS: dict[str, dict[str, Shape]] = {
    "A100-40GB": _profiles(5, 10, 20, 40),
    "A100-80GB": _profiles(10, 20, 40, 80),
    "H100-80GB": _profiles(10, 20, 40, 80),
    "H200-141GB": _profiles(18, 35, 71, 141),
}


def placements(slots: Sequence[Slot], profiles: Mapping[str, Shape]) -> Iterator[tuple[int, ...]]:
    """Give every way to put all slots on one GPU: the first memory slice of each slot, in the order of `slots`.

    A slot's own `start` is kept. Ways that differ only in which of several equal slots is where are given once, so
    there are at most a few hundred. Larger instances take the lowest places first.
    """
    if any(slot.profile not in profiles for slot in slots):
        return
    if any(sum(slot.profile == name for slot in slots) > shape.most for name, shape in profiles.items()):
        return
    order = sorted(
        range(len(slots)),
        key=lambda index: (slots[index].start is None, -profiles[slots[index].profile].memory, slots[index].profile),
    )
    starts = [0] * len(slots)

    def fill(position: int, used: int) -> Iterator[tuple[int, ...]]:
        if position == len(order):
            yield tuple(starts)
            return
        slot = slots[order[position]]
        shape = profiles[slot.profile]
        equal = position > 0 and slot.start is None and slots[order[position - 1]] == slot
        least = starts[order[position - 1]] if equal else -1
        for start in shape.starts if slot.start is None else {slot.start} & set(shape.starts):
            mask = ((1 << shape.memory) - 1) << start
            if start > least and not used & mask:
                starts[order[position]] = start
                yield from fill(position + 1, used | mask)

    yield from fill(0, 0)


def place(slots: Sequence[Slot], profiles: Mapping[str, Shape]) -> tuple[int, ...] | None:
    """Return a first memory slice for each slot so that all fit on one GPU, or None."""
    return next(placements(slots, profiles), None)


def surplus(slots: Sequence[Slot], profiles: Mapping[str, Shape]) -> list[Slot]:
    """Return the slots for which there is no room when each is added to those before it."""
    kept: list[Slot] = []
    over: list[Slot] = []
    for slot in slots:
        if place([*kept, slot], profiles) is None:
            over.append(slot)
        else:
            kept.append(slot)
    return over


def misfit(slots: Sequence[Slot], profiles: Mapping[str, Shape]) -> tuple[str, str] | None:
    """Return what was expected instead of slots that do not fit on a GPU with these profiles, and what to do.

    None if they fit.
    """
    if place(slots, profiles) is not None:
        return None
    if not profiles:
        return "a GPU that can be divided (this one has no MIG)", "leave it whole: an empty list"
    for slot in slots:
        if slot.profile not in profiles:
            near = closest_profile(slot.profile, profiles)
            fix = f"did you mean {near}?" if near else f"choose one of {', '.join(profiles)}"
            return f"profiles of this GPU ({slot.profile} is none)", fix
        starts = profiles[slot.profile].starts
        if slot.start is not None and slot.start not in starts:
            places = ", ".join(map(str, starts))
            return f"{slot.profile} at a memory slice where it may start", f"choose one of {places}, or leave out @"
    over = surplus(slots, profiles)
    fitting = list(slots)
    for slot in over:
        fitting.remove(slot)
    beside = f" beside {', '.join(map(str, fitting))}" if fitting else ""
    expected = f"instances that fit together on one GPU (there is no room for {', '.join(map(str, over))}{beside})"
    return expected, f"remove {', '.join(map(str, over))}, or use smaller profiles"


def uniform(profile: str, profiles: Mapping[str, Shape]) -> tuple[Slot, ...]:
    """Return as many instances of one profile as fit on a GPU; one, which does not, if it has no such profile."""
    most = profiles[profile].most if profile in profiles else 1
    return (Slot(profile),) * most


def model_of(product: str, memory_bytes: int | None) -> str | None:
    """Return which known model a GPU is, by its product name and its memory; None if it is another.

    >>> model_of("NVIDIA A100 80GB PCIe", 85_899_345_920)
    'A100-80GB'
    """
    said = re.search(r"([0-9]+)GB", product)
    for model in MODELS:
        family, _, size = model.partition("-")
        gigabytes = int(size.removesuffix("GB"))
        if not re.search(rf"\b{family}\b", product):
            continue
        if memory_bytes is not None:
            # Drivers keep some of it, and count in other units.
            if abs(memory_bytes / 1e9 - gigabytes) <= gigabytes * _MEMORY_TOLERANCE:
                return model
        elif said is not None and int(said[1]) == gigabytes:
            return model
    return None


def is_gpu(name: str, index: int, uuid: str, pci_address: str) -> bool:
    """Whether a GPU is meant by a name: its index, its UUID, or its PCI address.

    In an address the domain may be left out, or have eight digits.
    """
    wanted = name.strip().lower()
    if wanted.isdecimal():
        return int(wanted) == index
    return wanted == uuid.lower() or _bus(wanted) == _bus(pci_address)


def _bus(address: str) -> tuple[str, ...]:
    domain, _, rest = address.lower().rpartition(":")
    outer, _, bus = domain.rpartition(":")
    return outer.lstrip("0"), bus, rest


def fitting_models(slots: Sequence[Slot]) -> list[str]:
    """Return the known GPU models on which all slots fit at once."""
    return [model for model, profiles in MODELS.items() if place(slots, profiles) is not None]


def models_with(profile: str) -> list[str]:
    """Return the known GPU models that have a profile."""
    return [model for model, profiles in MODELS.items() if profile in profiles]


def closest_profile(text: str, profiles: Iterable[str] = ()) -> str | None:
    """Return the profile that was most likely meant: the same compute slices and the nearest memory.

    Of `profiles`, or where none are given of those of all known models.
    """
    match = re.search(r"([1-7])g\D{0,2}([0-9]{1,3})", text.lower())
    if match is None:
        return None
    wanted = int(match[2])
    plain = [name for name in profiles or known_profiles() if name.startswith(f"{match[1]}g.") and name.endswith("gb")]
    return min(plain, key=lambda name: abs(int(name[3:-2]) - wanted), default=None)


def known_profiles() -> list[str]:
    """Return the names of all profiles, small ones first."""
    names = {name for profiles in MODELS.values() for name in profiles}
    return sorted(names, key=lambda name: ([int(part) for part in re.findall(r"[0-9]+", name)], name))
