"""What a decision is made from, and what can come out of it.

Plain values without behaviour of their own. Times are UTC milliseconds since 1970, durations seconds, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ds01.gpu.model import FULL, Device

Kind: TypeAlias = Literal["quota", "permission", "reservation", "capacity", "unhealthy", "internal"]
DeviceState: TypeAlias = Literal["ok", "unhealthy", "draining", "gone"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one person may hold; the names are those of the policy, None is unlimited."""

    max_mig_instances: int | None = None
    max_gpu_equivalents: float | None = None
    max_gpus_per_container: int | None = None
    allow_full_gpu: bool = False
    group_equivalents: float | None = None
    """`groups.<g>.group_aggregate.max_gpu_equivalents`: of all members together."""
    gpu_hold_after_stop: int | None = 0
    container_hold_after_stop: int | None = None
    created_container_timeout: int | None = None
    max_runtime: int | None = None
    sigterm_grace: int = 60
    priority: int = 10


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who asks. `origins` names for each limit the part of the policy that set it."""

    uid: int
    user: str
    group: str
    limits: Limits
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holder:
    """The lease on a device. `frees_at` is when it ends at the latest, None when nobody can know."""

    token: str
    uid: int
    user: str
    group: str
    priority: int
    state: str
    container: str | None = None
    frees_at: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceView(Device):
    """One device as a decision sees it. `foreign` says who uses it without a lease."""

    state: DeviceState = "ok"
    reason: str | None = None
    foreign: str | None = None
    holder: Holder | None = None

    @property
    def full(self) -> bool:
        """Whether this is a whole GPU."""
        return self.profile == FULL


@dataclass(frozen=True, slots=True)
class Booking:
    """Devices kept for one person or one group from `starts` until `ends`."""

    id: int
    user: str | None
    group: str | None
    starts: int
    ends: int
    devices: tuple[str, ...]
    reason: str | None = None

    def is_for(self, person: Person) -> bool:
        """Tell whether somebody may use the devices in the window."""
        return self.user == person.user if self.user is not None else self.group == person.group

    @property
    def whose(self) -> str:
        """Who has it, for people."""
        return self.user if self.user is not None else f"group {self.group}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision looks at.

    `withheld` are free devices that people who wait already come first for; `preferred` the devices that a container
    had before, which it gets again if it can.
    """

    now: int
    devices: tuple[DeviceView, ...]
    bookings: tuple[Booking, ...] = ()
    strategy: str = "least_allocated"
    withheld: Mapping[str, str] = field(default_factory=dict)
    preferred: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """The devices somebody gets; none for a container without GPU."""

    devices: tuple[DeviceView, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not. `possible` says whether waiting can ever help; only then may a capacity refusal wait."""

    kind: Kind
    rule: str
    message: str
    fix: str
    current: float | str | None = None
    requested: float | str | None = None
    limit: float | str | None = None
    who: str | None = None
    """Who could help."""
    frees_at: int | None = None
    """When something suitable frees up, if that is known."""
    possible: bool = True

    @property
    def may_wait(self) -> bool:
        """Whether the request may stand in the queue."""
        return self.kind == "capacity" and self.possible

    def as_dict(self) -> dict[str, Any]:
        """Return the refusal in the shape of the API's errors."""
        return {
            "message": self.message,
            "kind": self.kind,
            "rule": self.rule,
            "current": self.current,
            "requested": self.requested,
            "limit": self.limit,
            "fix": self.fix,
            "who": self.who,
            "frees_at": self.frees_at,
            "possible": self.possible,
        }
