"""What a MIG plan is made of. Standard library only; nothing here touches a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ds01.mig_geometry import Shape, Slot


class Compute(StrEnum):
    """What the compute side of a GPU instance looks like."""

    WHOLE = "whole"
    """One compute instance as large as the GPU instance: what DS01 makes."""
    NONE = "none"
    """None at all: left by something that was stopped halfway. Nobody can be using it."""
    OTHER = "other"
    """Divided further, or only partly used: made by somebody else."""


class Holder(NamedTuple):
    """Somebody who keeps a device from being changed."""

    owner: str
    """A person, "system" for a daemon, or "unknown"."""
    what: str
    """Like "process 4711 (python train.py)" or "lease of container training"."""
    daemon: bool = False
    """A known system daemon: it holds the GPU open but no work of anybody is lost when it is stopped."""
    fix: str = ""
    """How to make it let go, if DS01 knows."""

    def __str__(self) -> str:
        """Return what people read."""
        return f"{self.owner}: {self.what}" if self.owner else self.what


class Placed(NamedTuple):
    """A profile at a place: what an instance is, whatever its ids are today."""

    start: int
    profile: str

    def __str__(self) -> str:
        """Return it as the policy file spells it."""
        return f"{self.profile}@{self.start}"


@dataclass(frozen=True, slots=True)
class Instance:
    """A GPU instance that exists."""

    placed: Placed
    gi_id: int
    compute: Compute = Compute.WHOLE
    uuid: str | None = None
    """Of its MIG device; None without one."""
    device: str = ""
    """How people name it today, like "0:1"; empty without a MIG device."""
    holders: tuple[Holder, ...] = ()
    """Of all its devices."""
    further: tuple[str, ...] = ()
    """UUIDs of its other devices, where somebody divided it further."""

    @property
    def devices(self) -> tuple[str, ...]:
        """The UUIDs of all its MIG devices."""
        return (self.uuid, *self.further) if self.uuid else ()

    @property
    def busy(self) -> bool:
        """Whether somebody would lose something if it went."""
        return bool(self.holders)


@dataclass(frozen=True, slots=True)
class GpuState:
    """A physical GPU as it is now."""

    index: int
    uuid: str
    pci_address: str
    model: str
    profiles: Mapping[str, Shape]
    """What the driver offers on it; empty: it has no MIG."""
    enabled: bool = False
    pending: bool = False
    """MIG mode after the next reset; another than `enabled` waits for one."""
    instances: tuple[Instance, ...] = ()
    holders: tuple[Holder, ...] = ()
    """Who has the GPU itself open, besides the users of its instances: all of them are in the way of a mode change."""
    pci_device_id: int = 0
    """Device id in the upper, vendor id in the lower 16 bits; what filters of mig-parted name."""
    problem: str = ""
    """Why it could not be read, or not all of it: then nothing is done to it."""

    @property
    def name(self) -> str:
        """Return how people name it."""
        return f"GPU {self.index}"


@dataclass(frozen=True, slots=True)
class Wish:
    """What one GPU shall be."""

    mig: bool
    """False: whole. True with no slots: divided, but empty."""
    slots: tuple[Slot, ...] = ()
    source: str = ""
    """Where it was asked for, for messages."""


class Verdict(StrEnum):
    """What can be done about one GPU now."""

    DONE = "done"
    """It is as wanted."""
    CHANGE = "change"
    """It can be changed now."""
    WAITS = "waits"
    """Something that somebody uses would have to go: nothing is touched until it is free."""
    RESET = "reset"
    """Only a reset of the GPU or a reboot of the host completes it."""
    IMPOSSIBLE = "impossible"
    """No such layout exists on this GPU."""
    UNKNOWN = "unknown"
    """The GPU could not be read: nothing is done to it."""


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """What happens to one GPU, in the order of the fields: mode on, destroy, complete, create, mode off."""

    state: GpuState
    wish: Wish
    verdict: Verdict
    target: tuple[Placed, ...] = ()
    """All instances that there are in the end."""
    keep: tuple[Instance, ...] = ()
    destroy: tuple[Instance, ...] = ()
    complete: tuple[Instance, ...] = ()
    """Kept instances that lack their compute instance."""
    create: tuple[Placed, ...] = ()
    mode: bool | None = None
    """MIG mode to set; None: it is right."""
    blockers: tuple[Instance, ...] = ()
    """Instances in use that are not part of the target."""
    holders: tuple[Holder, ...] = ()
    """Who has the GPU open when its mode shall change."""
    reason: str = ""
    fix: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything is done to the GPU now."""
        return self.verdict in {Verdict.CHANGE, Verdict.RESET} and bool(
            self.destroy or self.complete or self.create or self.mode is not None
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "gpu": self.state.index,
            "uuid": self.state.uuid,
            "model": self.state.model,
            "verdict": str(self.verdict),
            "mode": {None: None, True: "on", False: "off"}[self.mode],
            "target": list(map(str, self.target)) if self.wish.mig else "whole",
            "keep": list(map(_instance, self.keep)),
            "destroy": list(map(_instance, self.destroy)),
            "complete": list(map(_instance, self.complete)),
            "create": list(map(str, self.create)),
            "blockers": list(map(_instance, self.blockers)),
            "holders": [holder._asdict() for holder in self.holders],
            "reason": self.reason,
            "fix": self.fix,
        }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "device": instance.device,
        "uuid": instance.uuid,
        "instance": str(instance.placed),
        "gi": instance.gi_id,
        "holders": [holder._asdict() for holder in instance.holders],
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to all GPUs for which something was asked."""

    gpus: tuple[GpuPlan, ...]
    missing: tuple[str, ...] = ()
    """GPUs that were named and are not there."""
    unreadable: tuple[str, ...] = ()
    """GPUs that could not be read: what is missing may be one of them."""

    @property
    def changes(self) -> bool:
        """Whether anything is done now."""
        return any(gpu.changes for gpu in self.gpus)

    @property
    def done(self) -> bool:
        """Whether everything is as wanted."""
        return not self.missing and all(gpu.verdict is Verdict.DONE for gpu in self.gpus)

    def having(self, *verdicts: Verdict) -> tuple[GpuPlan, ...]:
        """Return the plans with one of these verdicts."""
        return tuple(gpu for gpu in self.gpus if gpu.verdict in verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"changes": self.changes, "missing": list(self.missing), "gpus": [gpu.as_dict() for gpu in self.gpus]}
