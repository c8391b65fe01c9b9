"""A GPU's MIG side through NVML: what the driver offers, what is there, and the four steps that change it.

Handles are asked for anew each time: the layout may have changed meanwhile, and a mode change may reset the GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.mig.model import Compute, Placed
from ds01.mig_geometry import Shape

# NVML_GPU_INSTANCE_PROFILE_COUNT and NVML_COMPUTE_INSTANCE_PROFILE_COUNT (nvml.h 13.3): asking for one that a driver
# does not know is answered "not supported" or "invalid argument".
_GI_PROFILES: Final = range(0x12)
_CI_PROFILES: Final = range(0x9)
_SHARED_ENGINES: Final = 0
_INVALID_ARGUMENT: Final = 2
# No GPU has more instances, or more placements of a profile.
_MOST: Final = 16
_PREFIX: Final = "MIG "


class _Profile(NamedTuple):
    """What the driver says of a profile of GPU instances."""

    id: int
    shape: Shape


class RawInstance(NamedTuple):
    """A GPU instance as the driver has it."""

    gi_id: int
    placed: Placed
    compute: Compute


class Card:
    """The MIG side of one GPU, by its UUID."""

    def __init__(self, session: Session, uuid: str) -> None:
        """Take the GPU of that UUID; NVML is asked later."""
        self._session = session
        self._uuid = uuid
        self._profiles: dict[str, _Profile] | None = None

    def shapes(self) -> dict[str, Shape]:
        """Return what instances the driver offers and where, by profile name; small ones first.

        Nothing if the GPU has no MIG, or the driver tells only in MIG mode. Raises NvmlError.
        """
        shapes = {name: profile.shape for name, profile in self._known().items()}
        return dict(sorted(shapes.items(), key=lambda item: (item[1].memory, item[1].compute, item[0])))

    def instances(self) -> list[RawInstance]:
        """Return all GPU instances. Raises NvmlError."""
        found = []
        for name, profile in self._known().items():
            for instance in self._list("nvmlDeviceGetGpuInstances", self._gpu(), profile.id, "c_nvmlGpuInstance_t"):
                info = self._call("nvmlGpuInstanceGetInfo", instance)
                compute = self._compute(instance, profile.shape.compute)
                found.append(RawInstance(info.id, Placed(info.placement.start, name), compute))
        return sorted(found, key=lambda item: item.placed)

    def set_mode(self, *, on: bool) -> bool:
        """Switch MIG on or off. Raises NvmlError.

        Returns:
            True if that holds now, False if only after a reset, because somebody has the GPU open.
        """
        try:
            self._call("nvmlDeviceSetMigMode", self._gpu(), int(on))
        except NvmlError as error:
            if error.kind is not Kind.IN_USE:
                raise
        self._profiles = None
        return bool(self._call("nvmlDeviceGetMigMode", self._gpu())[0]) is on

    def create(self, placed: Placed) -> None:
        """Make an instance at its place, ready for use. Raises NvmlError."""
        profile = self._profile(placed)
        place = self._session.api.c_nvmlGpuInstancePlacement_t(placed.start, profile.shape.memory)
        made = self._call("nvmlDeviceCreateGpuInstanceWithPlacement", self._gpu(), profile.id, ctypes.byref(place))
        self._fill(made, profile.shape.compute)

    def complete(self, gi_id: int, placed: Placed) -> None:
        """Give an instance the compute instance that it lacks. Raises NvmlError."""
        self._fill(self._instance(gi_id), self._profile(placed).shape.compute)

    def destroy(self, gi_id: int) -> None:
        """Remove an instance that nobody uses.

        Raises:
            NvmlError: It is still there as it was; of kind IN_USE if somebody uses it.
        """
        instance = self._instance(gi_id)
        removed: list[int] = []
        try:
            for compute, profile_id in self._compute_instances(instance):
                self._call("nvmlComputeInstanceDestroy", compute)
                removed.append(profile_id)
            self._call("nvmlGpuInstanceDestroy", instance)
        except NvmlError:
            for profile_id in removed:
                self._call("nvmlGpuInstanceCreateComputeInstance", instance, profile_id)
            raise

    def _known(self) -> dict[str, _Profile]:
        if self._profiles is None:
            self._profiles = dict(self._ask_profiles())
        return self._profiles

    def _profile(self, placed: Placed) -> _Profile:
        """Return what the driver says of a profile, which without MIG mode was only assumed by the model."""
        known = self._known()
        if placed.profile not in known:
            text = f"the driver offers no {placed.profile}, but {', '.join(known) or 'nothing'}"
            raise NvmlError(Kind.NOT_SUPPORTED, "nvmlDeviceGetGpuInstanceProfileInfo", text)
        return known[placed.profile]

    def _ask_profiles(self) -> Iterator[tuple[str, _Profile]]:
        gpu = self._gpu()
        for number in _GI_PROFILES:
            info = self._ask("nvmlDeviceGetGpuInstanceProfileInfo", gpu, number)
            if info is None:
                continue
            places = self._list(
                "nvmlDeviceGetGpuInstancePossiblePlacements", gpu, info.id, "c_nvmlGpuInstancePlacement_t"
            )
            if not places:
                continue
            starts = tuple(sorted(place.start for place in places))
            shape = Shape(info.sliceCount, places[0].size, starts, info.instanceCount)
            yield info.name.removeprefix(_PREFIX), _Profile(info.id, shape)

    def _compute(self, instance: Any, slices: int) -> Compute:
        """Say what compute instances an instance of so many slices has."""
        sizes = dict(self._compute_profiles(instance))
        found = [sizes[profile_id] for _, profile_id in self._compute_instances(instance)]
        if not found:
            return Compute.NONE
        return Compute.WHOLE if found == [slices] else Compute.OTHER

    def _compute_instances(self, instance: Any) -> list[tuple[Any, int]]:
        """Return all compute instances of an instance, each with the id of its profile."""
        function, structure = "nvmlGpuInstanceGetComputeInstances", "c_nvmlComputeInstance_t"
        return [
            (compute, profile_id)
            for profile_id, _ in self._compute_profiles(instance)
            for compute in self._list(function, instance, profile_id, structure)
        ]

    def _compute_profiles(self, instance: Any) -> Iterator[tuple[int, int]]:
        """Give id and compute slices of each profile that compute instances of an instance may have."""
        seen = set()
        for number in _CI_PROFILES:
            info = self._ask("nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, number, _SHARED_ENGINES)
            if info is not None and info.id not in seen:
                seen.add(info.id)
                yield info.id, info.sliceCount

    def _fill(self, instance: Any, slices: int) -> None:
        profile_id = next((number for number, size in self._compute_profiles(instance) if size == slices), None)
        if profile_id is None:
            raise NvmlError(
                Kind.NOT_SUPPORTED, "nvmlGpuInstanceCreateComputeInstance", f"no profile of {slices} compute slices"
            )
        self._call("nvmlGpuInstanceCreateComputeInstance", instance, profile_id)

    def _gpu(self) -> Any:
        return self._call("nvmlDeviceGetHandleByUUID", self._uuid)

    def _instance(self, gi_id: int) -> Any:
        return self._call("nvmlDeviceGetGpuInstanceById", self._gpu(), gi_id)

    def _list(self, function: str, parent: Any, profile_id: int, structure: str) -> list[Any]:
        """Call a function that fills an array and a count."""
        array = (getattr(self._session.api, structure) * _MOST)()
        count = ctypes.c_uint(_MOST)
        try:
            self._call(function, parent, profile_id, array, ctypes.byref(count))
        except NvmlError as error:
            # Of a GPU that is not in MIG mode drivers do not tell the places.
            if error.kind is Kind.NOT_SUPPORTED:
                return []
            raise
        return list(array[: count.value])

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return self._call(function, *arguments)
        except NvmlError as error:
            if error.kind is Kind.NOT_SUPPORTED or error.code == _INVALID_ARGUMENT:
                return None
            raise

    def _call(self, function: str, *arguments: Any) -> Any:
        return self._session.call(function, *arguments)
