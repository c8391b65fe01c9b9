"""What is seen, what the ledger says, and what there is to correct between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ds01.gpu.health import GpuHealth
from ds01.gpu.model import Device, Inventory
from ds01.ledger.rows import Claim, Lease, ObjectKind, Occupant, OwnedObject

from .containers import SeenContainer


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process on a device: of a container, or of the host."""

    device: str
    pid: int
    start_ticks: int | None
    container_id: str | None
    uid: int | None
    name: str


@dataclass(frozen=True, slots=True)
class SeenObject:
    """A volume or network that carries its owner in its name."""

    kind: ObjectKind
    id: str
    name: str
    uid: int


@dataclass(frozen=True)
class Observation:
    """What was seen. Ledger and engine change meanwhile, so it says what was known before looking, and when that was.

    `inventory` and `processes` are None when NVML cannot be asked: then nothing follows about devices.
    A GPU that is not in `health` was not judged.
    """

    at: int
    containers: tuple[SeenContainer, ...] = ()
    objects: tuple[SeenObject, ...] = ()
    inventory: Inventory | None = None
    health: tuple[GpuHealth, ...] = ()
    processes: tuple[SeenProcess, ...] | None = None
    specs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    known: frozenset[tuple[ObjectKind, str]] = frozenset()
    bound: frozenset[str] = frozenset()
    nvml_trouble: str = ""

    @property
    def running(self) -> frozenset[str]:
        """Tokens of the containers that run."""
        return frozenset(container.token for container in self.containers if container.running and container.token)


@dataclass(frozen=True)
class Books:
    """What the ledger says. `began`: when it first knew everything on this host, None: not yet."""

    devices: tuple[Device, ...]
    gone: frozenset[str]
    claims: Mapping[str, Claim]
    leases: tuple[Lease, ...]
    occupants: tuple[Occupant, ...]
    objects: tuple[OwnedObject, ...]
    unverified: str | None = None
    began: int | None = None


@dataclass(frozen=True, slots=True)
class RestoreClaim:
    """A container has a token that the ledger does not know."""

    token: str
    container: SeenContainer


@dataclass(frozen=True, slots=True)
class RestoreLease:
    """A container runs with a device that its claim does not hold in the ledger."""

    token: str
    device: str


@dataclass(frozen=True, slots=True)
class BindClaim:
    """A container was made for a claim, and whoever made it ended before saying so."""

    token: str
    container: SeenContainer


@dataclass(frozen=True, slots=True)
class CloseClaim:
    """The container of a claim is gone."""

    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoteStart:
    """The container of a claim runs, and the ledger does not know."""

    token: str


@dataclass(frozen=True, slots=True)
class NoteStop:
    """The container of a claim does not run any more."""

    token: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """A lease is of no use: its device is gone, or another's container runs with it."""

    lease: Lease
    reason: str


@dataclass(frozen=True, slots=True)
class Occupy:
    """Somebody uses a device without a lease."""

    occupant: Occupant


@dataclass(frozen=True, slots=True)
class Vacate:
    """Somebody does not use it any more."""

    occupant: Occupant


@dataclass(frozen=True, slots=True)
class NoteObject:
    """The engine has something that the ledger does not know."""

    kind: ObjectKind
    id: str
    name: str
    uid: int | None
    how: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class RenameContainer:
    """A container, or its claim, has another name in the ledger than at the engine."""

    container: SeenContainer
    before: str


@dataclass(frozen=True, slots=True)
class ForgetObject:
    """The ledger has something that the engine does not."""

    kind: ObjectKind
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two that use one device; one of them must not. Reported, never resolved by force."""

    device: str
    who: tuple[str, ...]
    text: str


Correction: TypeAlias = (
    RestoreClaim
    | RestoreLease
    | BindClaim
    | CloseClaim
    | NoteStart
    | NoteStop
    | ReleaseLease
    | Occupy
    | Vacate
    | NoteObject
    | RenameContainer
    | ForgetObject
    | Contradiction
)


def as_line(correction: Correction) -> str:
    """Return a correction as one line for people."""
    match correction:
        case RestoreClaim(container=container):
            return f"container {container.name}: its GPU claim is restored from its labels"
        case RestoreLease(token=token, device=device):
            return f"claim {token[:8]}: its container runs with {device}, so it holds it"
        case BindClaim(container=container):
            return f"container {container.name}: tied to its GPU claim"
        case CloseClaim(token=token, reason=reason):
            return f"claim {token[:8]}: closed: {reason}"
        case NoteStart(token=token):
            return f"claim {token[:8]}: its container runs"
        case NoteStop(token=token, reason=reason):
            return f"claim {token[:8]}: stopped: {reason}"
        case ReleaseLease(lease=lease, reason=reason):
            return f"claim {lease.token[:8]}: gives up {lease.device}: {reason}"
        case Occupy(occupant=occupant):
            return f"{occupant.kind} {occupant.name} uses {occupant.device} without a lease"
        case Vacate(occupant=occupant):
            return f"{occupant.kind} {occupant.name} does not use {occupant.device} any more"
        case NoteObject(kind=kind, name=name, uid=uid):
            return f"{kind} {name}: {'nobody' if uid is None else f'uid {uid}'}'s"
        case RenameContainer(container=container, before=before):
            return f"container {container.name}: was called {before}"
        case ForgetObject(kind=kind, name=name):
            return f"{kind} {name}: gone"
        case Contradiction(text=text):
            return f"contradiction: {text}"
