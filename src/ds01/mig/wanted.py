"""What each GPU of a host shall be: from the policy, or from a configuration file of mig-parted.

A wish is found for GPUs that are named or meant; every other GPU is left alone. Nothing here touches a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ds01.mig.model import GpuState, Wish
from ds01.mig_geometry import Slot, is_gpu, uniform


class Wanted(NamedTuple):
    """What was asked for."""

    wishes: dict[str, Wish]
    """By the UUID of the GPU."""
    missing: tuple[str, ...] = ()
    """Names of GPUs that are not there."""
    complete: bool = False
    """Whether it speaks for the whole host: a GPU without a wish is then nobody's business any more."""


def from_policy(allocation: Mapping[str, Any], states: Sequence[GpuState]) -> Wanted:
    """Return what the section `gpu_allocation` asks for, given as plain data.

    A GPU in `mig_layout` gets exactly that; the others are divided by `mig_profile` if there is one and they can be.
    """
    if not allocation["enable_mig"]:
        return Wanted({}, complete=True)
    profile = allocation["mig_profile"]
    wishes: dict[str, Wish] = {}
    if profile:
        wishes = {
            state.uuid: Wish(mig=True, slots=uniform(profile, state.profiles), source="gpu_allocation.mig_profile")
            for state in states
            if state.profiles or state.problem
        }
    missing = []
    for name, instances in allocation["mig_layout"].items():
        state = next((gpu for gpu in states if is_gpu(name, gpu.index, gpu.uuid, gpu.pci_address)), None)
        if state is None:
            missing.append(name)
            continue
        slots = tuple(Slot(instance["profile"], instance["start"]) for instance in instances)
        wishes[state.uuid] = Wish(mig=bool(slots), slots=slots, source=f"gpu_allocation.mig_layout.{name}")
    return Wanted(wishes, tuple(missing), complete=True)
