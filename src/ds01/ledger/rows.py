"""What is in the ledger, as values. Field names are column names; times are UTC milliseconds."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from ds01.gpu.model import Device, Placement

DeviceState: TypeAlias = Literal["ok", "unhealthy", "draining", "gone"]
LeaseState: TypeAlias = Literal["pending", "bound", "running", "held", "released"]
ObjectKind: TypeAlias = Literal["container", "volume", "network", "image"]
OccupantKind: TypeAlias = Literal["container", "process"]
UsageKind: TypeAlias = Literal["running", "held"]


class DeviceRow(NamedTuple):
    """A GPU or MIG device. `foreign_use` counts who uses it without a lease."""

    uuid: str
    gpu_uuid: str
    gpu_index: int
    mig_index: int | None
    gi: int | None
    ci: int | None
    start: int | None
    size: int | None
    profile: str
    memory: int
    weight: float
    model: str
    state: DeviceState
    reason: str | None
    foreign_use: int = 0

    @property
    def id(self) -> str:
        """What people call it now: `0`, or `0:1`."""
        return self.device.id

    @property
    def device(self) -> Device:
        """The device as the rest of DS01 knows it."""
        return Device(
            uuid=self.uuid,
            gpu_uuid=self.gpu_uuid,
            gpu_index=self.gpu_index,
            mig_index=self.mig_index,
            gi_id=self.gi,
            ci_id=self.ci,
            placement=None if self.start is None or self.size is None else Placement(self.start, self.size),
            profile=self.profile,
            memory_bytes=self.memory,
            weight=self.weight,
            model=self.model,
        )


class Occupant(NamedTuple):
    """A container or process that uses a device without a lease. `legacy`: it was there before DS01."""

    kind: OccupantKind
    id: str
    device: str
    name: str
    uid: int | None
    since: int
    legacy: bool


class Claim(NamedTuple):
    """A container's right to GPUs, for its life."""

    token: str
    uid: int
    user: str
    group_name: str
    priority: int
    request: str
    container_id: str | None
    container_name: str | None
    created: int
    state: Literal["open", "closed"]
    closed: int | None


class Lease(NamedTuple):
    """A device of a claim. `hold_until` of a held one is None when the hold never ends."""

    id: int
    token: str
    device: str
    state: LeaseState
    created: int
    expires: int | None
    started: int | None
    stopped: int | None
    hold_until: int | None
    released: int | None
    reason: str | None


class Given(NamedTuple):
    """A device, and the claim that holds it."""

    token: str
    device: str


class LiveLease(NamedTuple):
    """A lease that keeps its device from others, and whose it is."""

    id: int
    token: str
    device: str
    state: LeaseState
    expires: int | None
    started: int | None
    hold_until: int | None
    uid: int
    user: str
    group_name: str
    priority: int
    request: str
    container_id: str | None
    container_name: str | None


class OwnedObject(NamedTuple):
    """An object of the engine; uid None is nobody's."""

    kind: ObjectKind
    engine_id: str
    name: str
    uid: int | None
    created: int
    removed: int | None
    legacy: bool


class Waiting(NamedTuple):
    """A request in the queue, or one that was."""

    id: int
    uid: int
    user: str
    group_name: str
    priority: int
    request: str
    created: int
    expires: int | None
    state: Literal["waiting", "granted", "cancelled", "expired"]
    token: str | None
    ended: int | None
    reason: str | None


class Reservation(NamedTuple):
    """Devices for a person in a window, or for everybody in a group: then `user` is None.

    `request` says what; the devices are chosen before it starts. `uid` is None until a name service knows the person.
    """

    id: int
    uid: int | None
    user: str | None
    group_name: str
    request: str
    starts: int
    ends: int
    state: Literal["planned", "active", "done", "cancelled", "missed"]
    source: Literal["policy", "command"]
    reason: str | None
    created_by: str
    created: int


class UsageInterval(NamedTuple):
    """A stretch in which a lease kept a device; open while `closed_at` is None. `gpu_ms` is its true length."""

    id: int
    lease: int
    device: str
    uid: int
    user: str
    group_name: str
    weight: float
    kind: UsageKind
    opened_at: int
    opened_boot: str
    opened_boot_ms: int
    closed_at: int | None
    gpu_ms: int | None
