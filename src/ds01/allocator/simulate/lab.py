"""The devices that a policy makes of some GPUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ds01.allocator.model import DeviceView
from ds01.gpu.model import FULL, Placement
from ds01.mig.model import GpuState
from ds01.mig.wanted import from_policy
from ds01.mig_geometry import COMPUTE_SLICES, MODELS, Slot, place
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_SIZE = re.compile(r"([0-9]+)GB$")
_MEMORY = re.compile(r"\.([0-9]+)gb")
_GB = 2**30


def devices(allocation: Mapping[str, Any], gpus: int, model: str) -> tuple[DeviceView, ...]:
    """Return the devices of a number of GPUs of a model, divided as `gpu_allocation` says. Raises ReportedError."""
    states = [GpuState(index, f"GPU-{index}", f"0000:{index:02x}:00.0", model, MODELS[model]) for index in range(gpus)]
    wanted = from_policy(allocation, states)
    if wanted.missing:
        missing = ", ".join(wanted.missing)
        raise ReportedError(f"gpu_allocation.mig_layout: {missing}: no such GPU among {gpus}: give more with --gpus")
    found: list[DeviceView] = []
    for state in states:
        wish = wanted.wishes.get(state.uuid)
        found += [_whole(state)] if wish is None or not wish.mig else _parts(state, wish.slots)
    return tuple(found)


def _whole(state: GpuState) -> DeviceView:
    size = _SIZE.search(state.model)
    memory = int(size[1]) * _GB if size else 0
    return DeviceView(state.uuid, state.uuid, state.index, None, None, None, None, FULL, memory, 1.0, state.model)


def _parts(state: GpuState, slots: tuple[Slot, ...]) -> list[DeviceView]:
    starts = place(slots, state.profiles)
    if starts is None:
        text = ", ".join(slot.profile for slot in slots)
        raise ReportedError(f"gpu_allocation: {text}: do not fit on one {state.model}: `ds01 mig plan` says what fits")
    found = []
    for index, (start, slot) in enumerate(sorted(zip(starts, slots, strict=True))):
        shape, size = state.profiles[slot.profile], _MEMORY.search(slot.profile)
        found.append(
            DeviceView(
                f"MIG-{state.index}-{start}",
                state.uuid,
                state.index,
                index,
                index,
                0,
                Placement(start, shape.memory),
                slot.profile,
                int(size[1]) * _GB if size else 0,
                shape.compute / COMPUTE_SLICES,
                state.model,
            )
        )
    return found
