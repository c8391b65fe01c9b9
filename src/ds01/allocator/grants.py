"""Grants and the queue, as steps of an open transaction of the ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from ds01.allocator import answers, picture
from ds01.allocator.blockers import runtime_s
from ds01.allocator.queue import Waiting, forecast, ordered, serve
from ds01.engine.owners import short
from ds01.ledger import leases, lifecycle, waiting

if TYPE_CHECKING:
    from ds01.allocator.answers import Fact
    from ds01.allocator.model import Grant, Person, Snapshot
    from ds01.allocator.people import People
    from ds01.allocator.request import Request
    from ds01.ledger import Transaction, View
    from ds01.ledger.rows import Lease

PENDING_MS = 300_000
"""A grant ends if no container came for it: creating one takes seconds, on a busy disk a minute."""
OFFER_MS = 900_000
"""What somebody waited for is kept this long: time to read the message and start the container."""


def give(tx: Transaction, person: Person, request: Request, grant: Grant, *, token: str | None, lasts_ms: int) -> str:
    """Give these devices to a claim, which is opened if it is not known, and return its token. Raises LedgerError."""
    if token is None or leases.find_claim(tx, token) is None:
        kept = replace(request, runtime=runtime_s(request, person))
        claim = leases.open_claim(
            tx,
            uid=person.uid,
            user=person.user,
            group_name=person.group,
            priority=person.limits.priority,
            request=json.dumps(kept.as_dict()),
            token=token,
        )
        token = claim.token
    for device in grant.devices:
        leases.grant(tx, token, device.uuid, expires=tx.now + lasts_ms)
    return token


def tidy(tx: Transaction, people: People, facts: list[Fact]) -> list[Lease]:
    """End what is over and give what is free to those who wait. Returns the leases that ended."""
    ended = leases.expire(tx)
    facts += [released(lease) for lease in ended]
    for row in waiting.waiting(tx):
        if row.expires is not None and row.expires <= tx.now:
            waiting.end_wait(tx, row.id, "expired", reason="nothing was free in time")
            facts.append(_left(row.uid, row.user, row.id, "refused", "nothing was free in time"))
    serve_queue(tx, people, facts)
    return ended


def serve_queue(tx: Transaction, people: People, facts: list[Fact]) -> None:
    """Give what is free to those who wait."""
    for row in waiting.waiting(tx):
        if row.token is not None and leases.leases_of(tx, row.token):
            # Somebody else started its container meanwhile.
            waiting.end_wait(tx, row.id, "granted")
    entries = picture.queue(tx, people)
    if not entries:
        return
    for entry, grant in serve(entries, picture.snapshot(tx, people)).granted:
        token = give(tx, entry.person, entry.request, grant, token=entry.token, lasts_ms=OFFER_MS)
        waiting.end_wait(tx, entry.number, "granted", token=token)
        facts.append(answers.leased(entry.person, token, grant.devices, entry.request, "was next in the queue"))
        claim = leases.find_claim(tx, token)
        name = short(claim.container_name) if claim and claim.container_name else None
        text = f"kept for {name or 'you'} until {answers.instant(tx.now + OFFER_MS)}: you were next in the queue"
        fix = f"Start {name}." if name else f"Claim {token}: create its container by then."
        lifecycle.tell(tx, entry.person.uid, "warning", f"GPU {answers.ids(grant.devices)}", f"{text}. {fix}")


def places(view: View, people: People) -> list[tuple[Waiting, answers.Queued]]:
    """Return everybody who waits, the next one first."""
    entries = picture.queue(view, people)
    if not entries:
        return []
    expected = forecast(entries, picture.snapshot(view, people))
    return [
        (entry, answers.Queued(entry.number, place, expected[entry.number], entry.why(view.now)))
        for place, entry in enumerate(ordered(entries, view.now), 1)
    ]


def enqueue(tx: Transaction, person: Person, request: Request, wait_ms: int, token: str | None) -> int:
    """Let a request wait, for the claim of `token` or for a new one; returns its number."""
    for row in waiting.waiting(tx):
        if token is not None and row.token == token:
            return row.id
    return waiting.enqueue(
        tx,
        uid=person.uid,
        user=person.user,
        group_name=person.group,
        priority=person.limits.priority,
        request=json.dumps(request.as_dict()),
        expires=tx.now + wait_ms,
        token=token,
    )


def released(lease: Lease) -> Fact:
    """Return the event of the end of a lease."""
    return {
        "type": "gpu.release",
        "subject": {"kind": "gpu", "id": lease.token, "gpu": lease.device},
        "decision": "changed",
        "reason": lease.reason,
    }


def _left(uid: int, user: str, number: int, decision: str, reason: str) -> Fact:
    return {
        "type": "gpu.queue",
        "actor": {"uid": uid, "user": user, "via": "allocator"},
        "subject": {"kind": "queue", "id": str(number)},
        "decision": decision,
        "reason": reason,
    }


def cancel(tx: Transaction, number: int, reason: str) -> Fact | None:
    """Take a request out of the queue; None if it did not wait."""
    row = waiting.request(tx, number)
    if row is None or not waiting.end_wait(tx, number, "cancelled", reason=reason):
        return None
    return _left(row.uid, row.user, number, "changed", reason)


def give_back(tx: Transaction, number: int, reason: str) -> list[Lease]:
    """End what a request got that waited, unless its container has it. Returns the leases that ended."""
    row = waiting.request(tx, number)
    if row is None or row.state != "granted" or row.token is None:
        return []
    if leases.claim(tx, row.token).container_id is None:
        return leases.close_claim(tx, row.token, reason)
    held = leases.leases_of(tx, row.token)
    return [leases.release(tx, lease.id, reason) for lease in held if lease.state == "pending"]


def usable_again(snapshot: Snapshot, token: str, before: frozenset[str]) -> Snapshot:
    """Return the snapshot as a container that starts again finds it.

    What it holds is free for it; that, or else what it had `before`, is preferred.
    """
    own = frozenset(device.uuid for device in snapshot.devices if device.holder and device.holder.token == token)
    devices = tuple(replace(d, holder=None) if d.uuid in own else d for d in snapshot.devices)
    return replace(snapshot, devices=devices, preferred=own or before)
