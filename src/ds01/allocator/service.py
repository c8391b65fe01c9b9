"""The allocator: every step in one transaction of the ledger, so that nobody can decide on a picture that is over.

Events are written after the transaction; they tell what is true, and a slow disk for them keeps nobody waiting.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ds01 import events
from ds01.allocator import answers, grants, picture, reservations
from ds01.allocator.answers import Allocation, Queued
from ds01.allocator.decide import decide
from ds01.allocator.model import Refusal
from ds01.allocator.queue import NEWCOMER, Waiting, ahead_of
from ds01.allocator.request import Request
from ds01.cdi.spec import CdiError
from ds01.engine.owners import short
from ds01.ledger import LedgerError, leases, waiting
from ds01.ledger.specs import LeasedSpecs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ds01.allocator.answers import Fact
    from ds01.allocator.model import DeviceView, Person, Snapshot
    from ds01.allocator.people import People
    from ds01.allocator.reservations import Notice
    from ds01.cdi.files import SpecFiles
    from ds01.ledger import Ledger, Transaction
    from ds01.ledger.rows import Claim, Lease
    from ds01.problems import ReportedError

WAITING_MAX = 10
"""Requests of one person in the queue: more is a script that went wrong."""


@dataclass
class _Step:
    """A transaction, its events, the claims that need new specs by it, and which of these have none afterwards."""

    tx: Transaction
    facts: list[Fact]
    changed: set[str]
    without: dict[str, ReportedError] = field(default_factory=dict)


class Allocator:
    """Decides and writes down who holds what. Not for use by two threads at once, as the ledger it works on."""

    def __init__(
        self, ledger: Ledger, people: People, specs: SpecFiles | None, *, record: Callable[..., Any] = events.record
    ) -> None:
        """Work on a ledger with the limits of one policy.

        Args:
            ledger: Who holds what.
            people: Who may what.
            specs: The CDI specs of its claims; None for a ledger that no engine works by.
            record: Takes the events.
        """
        self._leased = LeasedSpecs(ledger, specs)
        self.people = people
        self._record = record

    def allocate(
        self,
        person: Person,
        request: Request,
        *,
        token: str | None = None,
        unused: bool = False,
        wait_s: int | None = None,
        dry_run: bool = False,
    ) -> Allocation | Queued | Refusal:
        """Give devices to somebody, or say why not. Never raises for what the ledger cannot do.

        Args:
            person: Who asks.
            request: For what.
            token: A claim of the person, to ask again without getting more; unknown ones are opened.
            unused: The claim must be known and have no container yet.
            wait_s: Stand in the queue at most this long when nothing is free.
            dry_run: Only say what would be.

        Returns:
            A grant lasts `PENDING_MS` until it is bound to a container. Its note says why that could not start now.
        """
        if request.count == 0:
            return Allocation("", ())
        try:
            with self._step(dry_run=dry_run) as step:
                answer: Allocation | Queued | Refusal = self._allocate(
                    step.tx, step.facts, person, request, token, unused=unused
                )
                if isinstance(answer, Refusal) and answer.may_wait and wait_s is not None:
                    answer = self._wait(step, person, request, wait_s, None)
                if isinstance(answer, Refusal):
                    step.facts.append(answers.refused(person, answer, request))
                elif isinstance(answer, Allocation):
                    step.changed.add(answer.token)
        except (LedgerError, CdiError) as error:
            answer = answers.internal(error)
            self._record(**answers.refused(person, answer, request))
        if isinstance(answer, Allocation) and answer.token in step.without:
            return replace(answer, note=f"its container cannot start yet: {step.without[answer.token]}")
        return answer

    def bind(self, token: str, container_id: str, container_name: str) -> Allocation:
        """Tie a claim to the container that was made for it. Again is no change. Raises LedgerError."""
        with self.change() as (tx, _):
            claim = leases.claim(tx, token)
            unused = self._owner(tx, claim).limits.created_container_timeout
            expires = None if unused is None else tx.now + unused * 1000
            leases.bind(tx, token, container_id, container_name, expires=expires)
            return Allocation(token, self._devices(tx, token), expires)

    def start(
        self, token: str, *, person: Person | None = None, wait_s: int | None = None, dry_run: bool = False
    ) -> Allocation | Queued | Refusal:
        """Let the container of a claim run: with what it holds, or with other devices that its request allows.

        Everything is looked at again: quotas, reservations, health. Never raises for what the ledger cannot do.

        Args:
            token: The claim.
            person: Its owner, where that was looked up; None: as the ledger knows them.
            wait_s: Stand in the queue at most this long when nothing is free; `attend` tells when it is served.
            dry_run: Only say what would be.
        """
        try:
            with self._step(dry_run=dry_run) as step:
                _keep_name(step.tx, person)
                answer: Allocation | Queued | Refusal = self._start(step.tx, step.facts, token)
                if isinstance(answer, Refusal) and grants.tidy(step.tx, self.people, step.facts):
                    answer = self._start(step.tx, step.facts, token)
                if isinstance(answer, Refusal) and answer.may_wait and wait_s is not None:
                    claim = leases.claim(step.tx, token)
                    owner, request = self._owner(step.tx, claim), _request(claim, leases.leases_of(step.tx, token))
                    answer = self._wait(step, owner, request, wait_s, token)
                if isinstance(answer, Refusal) and answer.kind != "internal":
                    step.facts.append(answers.refused_start(leases.claim(step.tx, token), answer))
                elif isinstance(answer, Allocation):
                    # Also without a change: whoever made it may have been killed before the spec was written.
                    step.changed.add(token)
        except (LedgerError, CdiError) as error:
            return answers.internal(error)
        # The reconciler sees that nothing runs, and notes the stop.
        return answers.internal(step.without[token]) if token in step.without else answer

    def stop(self, token: str, reason: str = "its container stopped", *, dry_run: bool = False) -> list[Lease]:
        """Note that the container of a claim does not run; its devices are held as the policy says. Raises LedgerError.

        Returns:
            The leases that are held or ended now.
        """
        with self.change(dry_run=dry_run) as (tx, facts):
            hold = self._owner(tx, leases.claim(tx, token)).limits.gpu_hold_after_stop
            changed = leases.stop(tx, token, hold_ms=None if hold is None else hold * 1000, reason=reason)
            self._ended(tx, facts, changed)
            return changed

    def close(self, token: str, reason: str = "its container was removed") -> list[Lease]:
        """End a claim with all it holds. Again is no change. Raises LedgerError."""
        with self.change() as (tx, facts):
            ended = leases.close_claim(tx, token, reason)
            self._ended(tx, facts, ended)
            return ended

    def release(self, token: str, reason: str, *, dry_run: bool = False) -> list[Lease] | Refusal:
        """Give back what a claim holds without running. A running container keeps its devices. Raises LedgerError."""
        with self.change(dry_run=dry_run) as (tx, facts):
            claim, held = leases.claim(tx, token), leases.leases_of(tx, token)
            if any(lease.state == "running" for lease in held):
                name = short(claim.container_name or token)
                text = f"{name} runs on it; two containers would share the GPU"
                return Refusal("permission", "gpu.running", text, f"stop {name} first", who=claim.user)
            ended = [leases.release(tx, lease.id, reason) for lease in held]
            if claim.container_id is None:
                leases.close_claim(tx, token, reason)
            self._ended(tx, facts, ended)
            return ended

    def expire(self) -> list[Lease]:
        """End what is over, serve the queue. For a timer and after each change of the devices. Raises LedgerError."""
        with self.change() as (tx, facts):
            return grants.tidy(tx, self.people, facts)

    def attend(self, number: int, lasts_s: int) -> Allocation | Queued | Refusal:
        """Say how it stands with a request in the queue, and let it wait so long from now. Raises LedgerError.

        Whoever asks again and again keeps it there; when they are gone, it is soon.
        """
        with self.change() as (tx, facts):
            grants.tidy(tx, self.people, facts)
            row = waiting.request(tx, number)
            if row is not None and row.state == "waiting":
                waiting.prolong(tx, number, tx.now + lasts_s * 1000)
                return next(place for _, place in grants.places(tx, self.people) if place.number == number)
            if row is not None and row.state == "granted" and row.token is not None:
                return Allocation(row.token, self._devices(tx, row.token))
            why = "is not known" if row is None else f"waits no more: {row.reason}"
            return Refusal("capacity", "gpu.queue", f"request {number} {why}", "ask again", possible=False)

    def abandon(self, number: int, reason: str = "whoever asked is gone") -> None:
        """Take a request out of the queue, with what it got meanwhile. Raises LedgerError."""
        if self.cancel(number, reason):
            return
        with self.change() as (tx, facts):
            self._ended(tx, facts, grants.give_back(tx, number, reason))

    def cancel(self, number: int, reason: str = "cancelled") -> bool:
        """Take a request out of the queue. Returns whether it waited. Raises LedgerError."""
        with self.change() as (tx, facts):
            fact = grants.cancel(tx, number, reason)
            if fact is None:
                return False
            facts.append(fact)
            # Devices may have been kept for it.
            grants.serve_queue(tx, self.people, facts)
            return True

    def turn_reservations(self) -> list[Notice]:
        """Begin and end reservations, as the clock and the policy say; then the rest of `expire`. Raises LedgerError.

        Returns:
            Who holds what is reserved for another: to be warned, and when it is due, to be stopped.
        """
        with self.change() as (tx, facts):
            found = reservations.turn(tx, self.people, facts)
            grants.tidy(tx, self.people, facts)
            return found

    @contextmanager
    def change(self, *, dry_run: bool = False) -> Iterator[tuple[Transaction, list[Fact]]]:
        """Change the ledger in the body; CDI specs and events follow when it was committed.

        Raises:
            LedgerError: Nothing was changed.
            CdiError: The spec of a lease that ends could not be removed; nothing was changed.
        """
        with self._step(dry_run=dry_run) as step:
            yield step.tx, step.facts

    @contextmanager
    def _step(self, *, dry_run: bool) -> Iterator[_Step]:
        with self._leased.change(keep=not dry_run) as (tx, changed):
            step = _Step(tx, [], changed)
            yield step
        if dry_run:
            return
        # Of the others that have none the reconciler tells, and tries again; their containers do not start meanwhile.
        step.without.update(self._leased.write(changed))
        for fact in step.facts:
            self._record(**fact)

    def _allocate(
        self, tx: Transaction, facts: list[Fact], person: Person, request: Request, token: str | None, *, unused: bool
    ) -> Allocation | Refusal:
        tx.require_verified()
        _keep_name(tx, person)
        known = None if token is None else leases.find_claim(tx, token)
        if unused and (known is None or known.container_id is not None or known.uid != person.uid):
            text = f"GPU claim {str(token)[:64]} is not one of yours that waits for its container"
            return Refusal("permission", "gpu.claim", text, "ask for GPUs by --gpus", possible=False)
        if known is not None:
            return self._again(tx, person, known)
        grants.tidy(tx, self.people, facts)
        answer = decide(request, person, self._as_found_by(tx, person, request))
        if isinstance(answer, Refusal):
            return answer
        token = grants.give(tx, person, request, answer, token=token, lasts_ms=grants.PENDING_MS)
        facts.append(answers.leased(person, token, answer.devices, request, answer.note))
        return Allocation(token, answer.devices, tx.now + grants.PENDING_MS, answer.note)

    def _again(self, tx: Transaction, person: Person, known: Claim) -> Allocation | Refusal:
        if known.uid != person.uid:
            text = f"GPU claim {known.token} is not yours"
            return Refusal("permission", "gpu.claim", text, "ask without a token", possible=False)
        if known.state == "closed":
            text = f"GPU claim {known.token} is over"
            return Refusal("capacity", "gpu.claim", text, "create the container again", possible=False)
        held = leases.leases_of(tx, known.token)
        if not held:
            text = f"GPU claim {known.token} holds nothing now"
            fix = f"start {short(known.container_name or 'its container')}: that asks for devices again"
            return Refusal("capacity", "gpu.claim", text, fix, possible=False)
        ends = [lease.expires for lease in held if lease.expires is not None]
        return Allocation(known.token, self._devices(tx, known.token), min(ends, default=None))

    def _as_found_by(self, tx: Transaction, person: Person, request: Request) -> Snapshot:
        """Return the picture for somebody who comes now: those who wait and come first are before them."""
        snapshot = picture.snapshot(tx, self.people)
        entries = picture.queue(tx, self.people)
        if not entries:
            return snapshot
        newcomer = Waiting(NEWCOMER, person, request, tx.now, picture.recent_hours(tx, person.uid))
        return ahead_of(newcomer, entries, snapshot)

    def _wait(self, step: _Step, person: Person, request: Request, wait_s: int, token: str | None) -> Queued | Refusal:
        tx = step.tx
        waits = sum(entry.person.uid == person.uid for entry in picture.queue(tx, self.people))
        if waits >= WAITING_MAX:
            text = f"{person.user} has {waits} requests waiting already"
            fix = "cancel some: `ds01 gpu queue` lists them"
            return Refusal("quota", "gpu.queue", text, fix, waits, waits + 1, WAITING_MAX, person.user)
        number = grants.enqueue(tx, person, request, wait_s * 1000, token)
        place = next(place for _, place in grants.places(tx, self.people) if place.number == number)
        step.facts.append(
            {
                "type": "gpu.queue",
                "actor": answers.actor(person),
                "subject": {"kind": "queue", "id": str(number), "name": str(request)},
                "decision": "allowed",
                "reason": f"place {place.position}: {place.why}",
            }
        )
        return place

    def _start(self, tx: Transaction, facts: list[Fact], token: str) -> Allocation | Refusal:
        tx.require_verified()
        claim, held = leases.claim(tx, token), leases.leases_of(tx, token)
        if claim.state == "closed" or claim.container_id is None:
            text = f"GPU claim {token} has no container"
            return Refusal("internal", "gpu.claim", text, "create the container again", possible=False)
        if held and all(lease.state == "running" for lease in held):
            # A restart: from now on it runs, whatever is seen of its end just before.
            leases.start(tx, token)
            return Allocation(token, self._devices(tx, token))
        person, request = self._owner(tx, claim), _request(claim, held)
        found = grants.usable_again(self._as_found_by(tx, person, request), token, leases.formerly(tx, token))
        answer = decide(request, person, found)
        if isinstance(answer, Refusal):
            return answer
        kept = {device.uuid for device in answer.devices}
        taken = "another device took its place at a start"
        lost = [leases.release(tx, lease.id, taken) for lease in held if lease.device not in kept]
        new = [device for device in answer.devices if device.uuid not in {lease.device for lease in held}]
        for device in new:
            leases.grant(tx, token, device.uuid, expires=tx.now)
        leases.bind(tx, token, claim.container_id, claim.container_name or "")
        leases.start(tx, token)
        facts += [grants.released(lease) for lease in lost]
        if new:
            facts.append(answers.leased(person, token, new, request, "at the start of its container"))
        return Allocation(token, answer.devices, None, answer.note)

    def _ended(self, tx: Transaction, facts: list[Fact], changed: list[Lease]) -> None:
        facts += [grants.released(lease) for lease in changed if lease.state == "released"]
        grants.serve_queue(tx, self.people, facts)

    def _owner(self, tx: Transaction, claim: Claim) -> Person:
        return self.people.known(claim.uid, claim.user, claim.group_name, tx.now)

    def _devices(self, tx: Transaction, token: str) -> tuple[DeviceView, ...]:
        found = picture.snapshot(tx, self.people).devices
        return tuple(device for device in found if device.holder and device.holder.token == token)


def _keep_name(tx: Transaction, person: Person | None) -> None:
    """Somebody may have another login or group since; the limits of today count, also for what they have."""
    if person is not None:
        leases.keep_name(tx, uid=person.uid, user=person.user, group_name=person.group)


def _request(claim: Claim, held: list[Lease]) -> Request:
    """Return what a claim is for; `all`, or what nobody knows any more, is as many as it holds.

    Names mean the devices that were given for them: a reboot or another layout may have given them others.
    """
    request = Request.stored(claim.request) or Request(count=len(held) or 1)
    if request.devices and len(request.devices) == len(held):
        return replace(request, devices=tuple(lease.device for lease in held))
    return replace(request, count=len(held)) if request.count is None and held else request
