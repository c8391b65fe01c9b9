"""Make the corrections: one transaction of the ledger, and the CDI specs that follow from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ds01 import events
from ds01.cdi.files import SpecFiles
from ds01.cdi.spec import CdiError
from ds01.ledger import DeviceTakenError, Ledger, LedgerConflictError, Transaction, View, leases, objects, usage
from ds01.ledger import devices as table
from ds01.ledger.rows import Claim, Lease
from ds01.ledger.specs import LeasedSpecs, held
from ds01.policy.problems import PolicyError

from .containers import SeenContainer
from .devices import judge_devices, take_devices
from .diff import diff
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
    as_line,
)

HoldOf: TypeAlias = Callable[[Claim], "int | None"]
"""How many milliseconds a person's devices are kept after a stop; None: until the container is removed."""
UnusedOf: TypeAlias = Callable[[Claim], "int | None"]
"""How many milliseconds the devices of a container that was never started are kept; None: until it is removed."""
GroupOf: TypeAlias = Callable[[SeenContainer], "tuple[str, int]"]
"""Group and priority of the owner of a container whose claim is restored."""

_REPORTED: Final = "reported contradictions"
_BEGAN: Final = "began"


@dataclass
class Outcome:
    """What was corrected, or would be, and what could not be."""

    corrections: list[Correction] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def reconcile(
    ledger: Ledger,
    seen: Observation,
    specs: SpecFiles,
    *,
    hold_of: HoldOf,
    unused_of: UnusedOf,
    group_of: GroupOf,
    dry_run: bool = False,
) -> Outcome:
    """Correct the ledger and the specs by what was seen.

    Args:
        ledger: To correct.
        seen: By `observe`, a moment ago.
        specs: To make what the leases say.
        hold_of: How long devices are kept after a stop.
        unused_of: How long they are kept for a container that whoever made it could not announce any more.
        group_of: Whose group a restored claim counts for.
        dry_run: Only say what would be done.

    Raises:
        LedgerError: Nothing was changed.
        CdiError: A spec could not be removed; nothing else was changed.
    """
    outcome = Outcome()
    run = _Run(seen, outcome, hold_of, unused_of, group_of)
    leased = LeasedSpecs(ledger, specs)
    with leased.change(keep=not dry_run) as (tx, _):
        run.all(tx)
        if not dry_run:
            # Also those of claims that the ledger lost: what they name can be granted from now on.
            specs.narrow({**run.unrestored, **held(tx)})
    if dry_run:
        return outcome
    try:
        outcome.problems += map(str, leased.write_all(run.unrestored))
    except CdiError as error:
        outcome.problems.append(str(error))
    ledger.checkpoint()
    for event in run.events:
        events.record(actor=events.this_process("reconcile"), **event)
    return outcome


def read_books(view: View, tokens: frozenset[str]) -> Books:
    """Return what the ledger says; of closed claims only those of these tokens."""
    rows = table.devices(view, gone=True)
    claims = {claim.token: claim for claim in leases.open_claims(view)}
    for token in tokens - set(claims):
        known = view.row(Claim, "SELECT * FROM claims WHERE token = ?", (token,))
        if known is not None:
            claims[token] = known
    began = view.value("SELECT value FROM meta WHERE key = ?", (_BEGAN,))
    return Books(
        devices=tuple(row.device for row in rows if row.state != "gone"),
        gone=frozenset(row.uuid for row in rows if row.state == "gone"),
        claims=claims,
        leases=tuple(view.rows(Lease, "SELECT * FROM leases WHERE state <> 'released' ORDER BY id")),
        occupants=tuple(table.occupants(view)),
        objects=tuple(objects.listing(view)),
        unverified=view.value("SELECT value FROM meta WHERE key = 'unverified'"),
        began=None if began is None else int(began),
    )


class _Run:
    """One pass: the corrections, and the events that follow once they are in the ledger."""

    def __init__(
        self, seen: Observation, outcome: Outcome, hold_of: HoldOf, unused_of: UnusedOf, group_of: GroupOf
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self.unrestored: dict[str, tuple[str, ...]] = {}
        """Devices of running containers that the ledger could not take in, by token: only their specs know of them."""
        self._seen = seen
        self._outcome = outcome
        self._hold_of = hold_of
        self._unused_of = unused_of
        self._group_of = group_of

    def all(self, tx: Transaction) -> None:
        """Correct everything."""
        if self._seen.inventory is not None:
            self._outcome.lines += take_devices(tx, self._seen.inventory, self._seen.running)
        for line, event in judge_devices(tx, self._seen.health):
            self._outcome.lines.append(line)
            self.events.append(event)
        tokens = frozenset(container.token for container in self._seen.containers if container.token)
        books = read_books(tx, tokens)
        found = diff(self._seen, books)
        # A host without GPUs has no NVML, and no need of one.
        if self._seen.nvml_trouble and books.devices:
            self._outcome.problems.append(self._seen.nvml_trouble)
        contradictions = [one for one in found if isinstance(one, Contradiction)]
        failed: list[str] = []
        for correction in found:
            if isinstance(correction, Contradiction):
                continue
            try:
                self._make(tx, correction, books)
            except DeviceTakenError:
                contradictions.append(self._taken(tx, correction))
            except (LedgerConflictError, PolicyError) as error:
                # What cannot be corrected keeps nobody from the rest; the next pass tries again.
                failed.append(f"{as_line(correction)}: {error}")
                if isinstance(correction, RestoreClaim | RestoreLease):
                    self.unrestored[correction.token] = self._seen.specs.get(correction.token, ())
            else:
                self._say(correction)
        for lease in leases.expire(tx):
            self._outcome.lines.append(f"claim {lease.token[:8]}: gives up {lease.device}: {lease.reason}")
            self._released(lease, leases.claim(tx, lease.token))
        usage.carry_over(tx)
        usage.seen(tx)
        self._report(tx, contradictions)
        self._outcome.problems += failed
        if books.unverified is not None and not failed and (self._seen.inventory is not None or not books.devices):
            tx.set_verified()
            self._outcome.lines.append(f"the ledger agrees with what is running ({books.unverified})")
        if books.began is None:
            tx.change("INSERT INTO meta VALUES (?, ?)", (_BEGAN, str(tx.now)))

    def _say(self, correction: Correction) -> None:
        self._outcome.corrections.append(correction)
        self._outcome.lines.append(as_line(correction))

    def _make(self, tx: Transaction, correction: Correction, books: Books) -> None:
        match correction:
            case RestoreClaim(token=token, container=container):
                self._restore(tx, token, container)
            case RestoreLease(token=token, device=device):
                leases.adopt(tx, token, device)
            case BindClaim(token=token, container=container):
                unused = self._unused_of(books.claims[token])
                expires = None if unused is None else tx.now + unused
                leases.bind(tx, token, container.id, container.name, expires=expires)
            case CloseClaim(token=token, reason=reason):
                for lease in leases.close_claim(tx, token, reason):
                    self._released(lease, books.claims[token])
            case NoteStart(token=token):
                leases.start(tx, token)
            case NoteStop(token=token, reason=reason):
                for lease in leases.stop(tx, token, hold_ms=self._hold_of(books.claims[token]), reason=reason):
                    self._released(lease, books.claims[token])
            case ReleaseLease(lease=lease, reason=reason):
                self._released(leases.release(tx, lease.id, reason), books.claims[lease.token])
            case Occupy(occupant=occupant):
                table.occupy(tx, occupant)
                self._foreign(correction)
            case Vacate(occupant=occupant):
                table.vacate(tx, [occupant])
                self._foreign(correction)
            case NoteObject():
                objects.note(
                    tx, correction.kind, correction.id, correction.name, correction.uid, legacy=correction.legacy
                )
                self._adopted(correction)
            case RenameContainer(container=container):
                objects.rename(tx, "container", container.id, container.name)
            case ForgetObject(kind=kind, id=identity):
                objects.remove(tx, kind, identity)
            case Contradiction():
                pass

    def _restore(self, tx: Transaction, token: str, container: SeenContainer) -> None:
        group, priority = self._group_of(container)
        leases.open_claim(
            tx,
            uid=-1 if container.uid is None else container.uid,
            user=container.user,
            group_name=container.group or group,
            priority=priority,
            request=container.request,
            token=token,
        )
        leases.bind(tx, token, container.id, container.name)

    def _taken(self, tx: Transaction, correction: Correction) -> Contradiction:
        device = correction.device if isinstance(correction, RestoreLease) else ""
        token = correction.token if isinstance(correction, RestoreLease) else ""
        holders = {lease.container_name or lease.token for lease in leases.live(tx) if lease.device == device}
        who = tuple(sorted({leases.claim(tx, token).container_name or token, *holders}))
        return Contradiction(device, who, f"{' and '.join(who)} both hold device {device}")

    def _report(self, tx: Transaction, found: list[Contradiction]) -> None:
        """Say each contradiction once, and that it is over by saying nothing more."""
        before = set(json.loads(tx.value("SELECT value FROM meta WHERE key = ?", (_REPORTED,)) or "[]"))
        texts = {one.text: one for one in found}
        for text, one in sorted(texts.items()):
            self._outcome.problems.append(text)
            if text not in before:
                self.events.append(
                    {
                        "type": "gpu.foreign",
                        "subject": {"kind": "device", "name": one.device, "gpu": one.device},
                        "decision": "failed",
                        "rule": "one-lease-per-device",
                        "reason": text,
                        "fix": "Nothing was stopped. Ask the owners which of them goes on, and stop the other.",
                        "details": {"who": list(one.who)},
                    }
                )
        if set(texts) != before:
            tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REPORTED, json.dumps(sorted(texts))))

    def _released(self, lease: Lease, claim: Claim) -> None:
        if lease.state != "released":
            return
        self.events.append(
            {
                "type": "gpu.release",
                "subject": {"kind": "lease", "name": claim.container_name, "id": str(lease.id), "gpu": lease.device},
                "decision": "changed",
                "rule": "reconcile",
                "reason": f"The lease of {claim.user} ended: {lease.reason}.",
                "details": {"uid": claim.uid, "token": claim.token},
            }
        )

    def _foreign(self, correction: Occupy | Vacate) -> None:
        occupant = correction.occupant
        begins = isinstance(correction, Occupy)
        self.events.append(
            {
                "type": "gpu.foreign",
                "subject": {
                    "kind": occupant.kind,
                    "name": occupant.name,
                    "id": occupant.id[:12],
                    "gpu": occupant.device,
                },
                "decision": "warned" if begins else "changed",
                "rule": "occupancy",
                "reason": as_line(correction) + (": nobody is granted it meanwhile." if begins else "."),
                "details": {"uid": occupant.uid, "legacy": occupant.legacy},
            }
        )

    def _adopted(self, correction: NoteObject) -> None:
        # What was there before DS01 was announced by the deployment; what carries its owner was made through us.
        if correction.kind != "container" or correction.legacy or correction.how == "uid":
            return
        known = correction.uid is not None
        self.events.append(
            {
                "type": "container.adopt",
                "subject": {"kind": "container", "name": correction.name, "id": correction.id[:12]},
                "decision": "allowed" if known else "warned",
                "rule": "adoption",
                "reason": f"belongs to uid {correction.uid} ({correction.how})"
                if known
                else "belongs to nobody that is known",
                "fix": None if known else "only administrators can use it: remove it, or make it again as its user",
                "details": {"uid": correction.uid},
            }
        )
