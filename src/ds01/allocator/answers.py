"""What the allocator answers, and the events that tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from ds01.allocator.model import DeviceView, Person, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01.allocator.request import Request
    from ds01.ledger.rows import Claim
    from ds01.problems import ReportedError

Fact: TypeAlias = "dict[str, Any]"
"""Arguments of `ds01.events.record`, written after the transaction that made them true."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """Devices of a claim. `token` is empty for a container without GPU; `expires` ends a lease nobody came for."""

    token: str
    devices: tuple[DeviceView, ...]
    expires: int | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """A request that waits. `expected` is when it is served at the latest, None if nobody can know."""

    number: int
    position: int
    expected: int | None
    why: str


def instant(moment: int | None) -> str:
    """Return a time for people, in UTC."""
    return "unknown" if moment is None else datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def internal(error: ReportedError) -> Refusal:
    """Return the refusal where ledger or CDI specs cannot be used: without them nothing is granted or started."""
    text, _, fix = str(error).rpartition(": ")
    return Refusal("internal", "gpu.ledger", text or str(error), fix, who="an administrator")


def actor(person: Person) -> Mapping[str, Any]:
    """Return a person as events name them."""
    return {"uid": person.uid, "user": person.user, "via": "allocator"}


def ids(devices: Iterable[DeviceView]) -> str:
    """Return the names of devices, for people."""
    return ",".join(device.id for device in devices)


def leased(person: Person, token: str, devices: Iterable[DeviceView], request: Request, note: str | None) -> Fact:
    """Return the event of a grant."""
    return {
        "type": "gpu.lease",
        "actor": actor(person),
        "subject": {"kind": "gpu", "id": token, "gpu": ids(devices)},
        "decision": "allowed",
        "reason": note,
        "details": {"request": str(request)},
    }


def refused(person: Person, refusal: Refusal, request: Request) -> Fact:
    """Return the event of a refusal."""
    return _refused(actor(person), {"kind": "gpu", "name": str(request)}, refusal)


def refused_start(claim: Claim, refusal: Refusal) -> Fact:
    """Return the event of a container that may not start."""
    who = {"uid": claim.uid, "user": claim.user, "via": "allocator"}
    return _refused(who, {"kind": "gpu", "name": claim.container_name, "id": claim.token}, refusal)


def _refused(who: Mapping[str, Any], subject: Mapping[str, Any], refusal: Refusal) -> Fact:
    return {
        "type": "gpu.lease",
        "actor": who,
        "subject": subject,
        "decision": "failed" if refusal.kind == "internal" else "refused",
        "rule": refusal.rule,
        "reason": refusal.message,
        "fix": refusal.fix,
        "details": {key: value for key, value in refusal.as_dict().items() if key not in {"message", "rule", "fix"}},
    }
