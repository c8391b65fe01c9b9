"""What to correct in the ledger, given what was seen. Pure, and the same twice gives nothing the second time."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from ds01.gpu.model import Device
from ds01.ledger.rows import Lease, Occupant

from .containers import ALL, SeenContainer
from .model import (
    BindClaim,
    Books,
    CloseClaim,
    Contradiction,
    Correction,
    ForgetObject,
    NoteObject,
    NoteStart,
    NoteStop,
    Observation,
    Occupy,
    ReleaseLease,
    RenameContainer,
    RestoreClaim,
    RestoreLease,
    Vacate,
)

START_GRACE_MS: Final = 60_000
"""How long a start that was noted may take before the engine must show it; starts take seconds, a minute is stuck."""


def diff(seen: Observation, books: Books) -> list[Correction]:
    """Return the corrections, in the order in which they are to be made."""
    present = {container.id: container for container in seen.containers}
    live = _by_token(books.leases)
    occupants = _occupants(seen, books, live)
    return [
        *_vanished(seen, books, present),
        *_useless(seen, books, live),
        *_claims(seen, books, live),
        *(Vacate(old) for old in books.occupants if _key(old) not in occupants and _can_tell(old, seen)),
        *(Occupy(new) for key, new in sorted(occupants.items()) if key not in {_key(old) for old in books.occupants}),
        *_objects(seen, books),
        *_contradictions(seen, books, live, occupants),
    ]


def reached(names: Iterable[str], devices: Iterable[Device]) -> list[str]:
    """Return the UUIDs of the devices that names as people and toolkits write them reach; a GPU is all its parts."""
    wanted = {name.strip().lower() for name in names}
    return [
        device.uuid
        for device in devices
        if wanted
        & {
            ALL,
            device.uuid.lower(),
            device.id,
            str(device.gpu_index),
            device.gpu_uuid.lower(),
            f"mig-{device.gpu_uuid}/{device.gi_id}/{device.ci_id}".lower(),
        }
    ]


def _vanished(seen: Observation, books: Books, present: dict[str, SeenContainer]) -> Iterator[Correction]:
    for token, claim in sorted(books.claims.items()):
        # Only of what existed before we looked can we say that it is gone.
        if claim.state == "open" and claim.container_id in seen.bound and claim.container_id not in present:
            yield CloseClaim(token, "its container is gone")


def _useless(seen: Observation, books: Books, live: dict[str, list[Lease]]) -> Iterator[Correction]:
    running = seen.running
    without = running - live.keys()
    for lease in books.leases:
        if lease.token in running or (lease.state == "running" and books.unverified is None):
            continue
        if lease.device in books.gone:
            yield ReleaseLease(lease, "its device is gone")
        elif books.unverified is not None and any(lease.device in seen.specs.get(token, ()) for token in without):
            yield ReleaseLease(lease, "a container runs with its device, of which the restored ledger did not know")


def _managed(container: SeenContainer, books: Books) -> bool:
    """Whether a container's devices are leases: it has a claim, or one can be restored for it.

    A copy of a container has the token, too; the claim stays that of the first one.
    """
    claim = books.claims.get(container.token or "")
    if container.token is None or claim is None:
        return container.token is not None and container.uid is not None
    return claim.state == "open" and claim.container_id in {None, container.id}


def _claims(seen: Observation, books: Books, live: dict[str, list[Lease]]) -> Iterator[Correction]:
    known = {device.uuid for device in books.devices}
    for container in seen.containers:
        token = container.token
        if token is None or not _managed(container, books):
            continue
        claim = books.claims.get(token)
        if claim is None:
            yield RestoreClaim(token, container)
        elif claim.container_id is None:
            yield BindClaim(token, container)
        held = live.get(token, [])
        if container.running:
            if not held:
                yield from (RestoreLease(token, uuid) for uuid in seen.specs.get(token, ()) if uuid in known)
            if not held or any(lease.state != "running" for lease in held):
                yield NoteStart(token)
        elif any(_stopped(lease, seen.at, container) for lease in held) and not _lingers(container, held, seen):
            yield NoteStop(token, "its container does not run")


def _stopped(lease: Lease, at: int, container: SeenContainer) -> bool:
    if lease.state != "running" or lease.started is None:
        return False
    # A start that is under way is noted before the engine knows of it, and may have been noted since we looked.
    return container.finished > lease.started or abs(at - lease.started) >= START_GRACE_MS


def _lingers(container: SeenContainer, held: list[Lease], seen: Observation) -> bool:
    """Whether a process of a container that does not run is still on its device: until it is gone, nobody else is."""
    devices = {lease.device for lease in held}
    return any(process.container_id == container.id and process.device in devices for process in seen.processes or ())


def _occupants(seen: Observation, books: Books, live: dict[str, list[Lease]]) -> dict[tuple[str, str, str], Occupant]:
    """Return who uses devices without a lease."""
    found: dict[tuple[str, str, str], Occupant] = {}
    containers = {container.id: container for container in seen.containers}

    def add(container: SeenContainer, uuid: str) -> None:
        legacy = _legacy(container, books)
        occupant = Occupant("container", container.id, uuid, container.name, container.uid, seen.at, legacy)
        found[_key(occupant)] = occupant

    for container in containers.values():
        if container.running:
            for uuid in _reached_without_lease(container, seen, books, live):
                add(container, uuid)
    for process in seen.processes or ():
        owner = containers.get(process.container_id or "")
        if owner is not None:
            if process.device not in _leased_to(owner, seen, books, live):
                add(owner, process.device)
            continue
        identity = f"{process.pid}:{process.start_ticks}"
        occupant = Occupant("process", identity, process.device, process.name, process.uid, seen.at, legacy=False)
        found[_key(occupant)] = occupant
    return found


def _leased_to(
    container: SeenContainer, seen: Observation, books: Books, live: dict[str, list[Lease]]
) -> Collection[str]:
    """Return the devices that a container holds, or that this pass restores to it."""
    if not _managed(container, books):
        return ()
    held = {lease.device for lease in live.get(container.token or "", []) if not _may_end(lease, container, seen.at)}
    if held or not container.running:
        return held
    return seen.specs.get(container.token or "", ())


def _may_end(lease: Lease, container: SeenContainer, at: int) -> bool:
    """Whether a lease may end in this pass: who is on its device then, is so without one."""
    if lease.state == "pending" and not container.running:
        # It is bound in this pass, and how long it then waits for a start is the policy's: perhaps not at all.
        return True
    ends = lease.hold_until if lease.state == "held" else lease.expires
    return ends is not None and ends <= at


def _reached_without_lease(
    container: SeenContainer, seen: Observation, books: Books, live: dict[str, list[Lease]]
) -> Iterable[str]:
    if container.token is None:
        return reached(container.names, books.devices)
    known = {device.uuid for device in books.devices}
    given = [uuid for uuid in seen.specs.get(container.token, ()) if uuid in known]
    if _managed(container, books) and (live.get(container.token) or given):
        return ()
    # Where the spec went with the claim: what it was seen with, since it can have started with nothing else.
    before = [old.device for old in books.occupants if (old.kind, old.id) == ("container", container.id)]
    # It runs with something, and nothing says with what: nobody else gets anything until it ends.
    return given or before or known


def _legacy(container: SeenContainer, books: Books) -> bool:
    return not container.ours and (books.began is None or container.created <= books.began)


def _can_tell(occupant: Occupant, seen: Observation) -> bool:
    """Whether an occupant that was not found has certainly ended; processes are known to NVML only."""
    return seen.processes is not None or (
        occupant.kind == "container" and all(container.id != occupant.id for container in seen.containers)
    )


def _objects(seen: Observation, books: Books) -> Iterator[Correction]:
    have = {(row.kind, row.engine_id): row for row in books.objects}
    there = {("container", container.id) for container in seen.containers} | {
        (row.kind, row.id) for row in seen.objects
    }
    claimed = {claim.container_id: claim.container_name for claim in books.claims.values()}
    for container in seen.containers:
        old = have.get(("container", container.id))
        if old is None:
            legacy = _legacy(container, books)
            yield NoteObject("container", container.id, container.name, container.uid, container.how, legacy)
            continue
        for before in (old.name, claimed.get(container.id) or container.name):
            if before != container.name:
                yield RenameContainer(container, before)
                break
    for row in seen.objects:
        if (row.kind, row.id) not in have:
            yield NoteObject(row.kind, row.id, row.name, row.uid, "uid")
    for key, old in have.items():
        if key in seen.known and key not in there and old.kind != "image":
            yield ForgetObject(old.kind, old.engine_id, old.name)


def _contradictions(
    seen: Observation,
    books: Books,
    live: dict[str, list[Lease]],
    occupants: dict[tuple[str, str, str], Occupant],
) -> Iterator[Correction]:
    users: dict[str, set[str]] = {}
    for container in seen.containers:
        if container.token and container.running:
            held = tuple(lease.device for lease in live.get(container.token, []))
            for uuid in {*held, *seen.specs.get(container.token, ())}:
                users.setdefault(uuid, set()).add(container.name)
    foreign: dict[str, set[str]] = {}
    for occupant in occupants.values():
        foreign.setdefault(occupant.device, set()).add(occupant.name)
    names = {device.uuid: device.id for device in books.devices}
    for uuid, who in sorted(users.items()):
        everybody = tuple(sorted(who | foreign.get(uuid, set())))
        if len(everybody) > 1:
            shown = names.get(uuid, uuid)
            yield Contradiction(uuid, everybody, f"device {shown} is used by {' and '.join(everybody)} at once")
    for lease in books.leases:
        if lease.device in books.gone and lease.token in seen.running:
            who_has = books.claims[lease.token].container_name or lease.token
            yield Contradiction(lease.device, (who_has,), f"{who_has} runs with {lease.device}, which is gone")


def _by_token(leases: Iterable[Lease]) -> dict[str, list[Lease]]:
    found: dict[str, list[Lease]] = {}
    for lease in leases:
        found.setdefault(lease.token, []).append(lease)
    return found


def _key(occupant: Occupant) -> tuple[str, str, str]:
    return occupant.kind, occupant.id, occupant.device
