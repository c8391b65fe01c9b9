"""What people do: ask for devices, give them back, leave the queue, reserve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ds01.api.call import bad
from ds01.api.desk import now_ms
from ds01.api.errors import BAD, FORBIDDEN, NOT_THERE, error, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01.allocator.answers import Allocation, Queued
    from ds01.allocator.model import Person, Refusal, Snapshot
    from ds01.allocator.request import Request
    from ds01.api.call import Call
    from ds01.api.desk import Desk
    from ds01.ledger.rows import Lease

_TOKEN: Final = re.compile(r"[a-z0-9]{16,64}")
_NUMBER_MAX: Final = 2**63 - 1
_LONGEST_MS: Final = 100 * 366 * 24 * 3600 * 1000
"""A hundred years: what ends later was not meant."""
_REASON_MAX: Final = 200


def allocate(desk: Desk, call: Call) -> Any:
    """Ask for devices, and stand in the queue for them if nothing is free and `wait_s` is given."""
    from ds01.allocator.model import Refusal  # noqa: PLC0415 - most questions need no allocator

    person, request = desk.subject(call), _request(call)
    token, wait = call.value("token", str), call.value("wait_s", int)
    if token is not None and not _TOKEN.fullmatch(token):
        raise bad("token", token, "write it as an earlier answer gave it: 16 to 64 of a-z and 0-9")
    if wait is not None and wait <= 0:
        raise bad("wait_s", wait, "write seconds above zero")
    dry_run = call.value("dry_run", bool, default=False)
    answer = desk.allocator.allocate(person, request, token=token, wait_s=wait, dry_run=dry_run)
    if isinstance(answer, Refusal):
        raise refused(answer)
    return answer_data(answer)


def answer_data(given: Allocation | Queued) -> dict[str, Any]:
    """Return what the allocator gave, or where it waits, as JSON shows it."""
    from ds01.allocator.answers import Queued  # noqa: PLC0415 - most questions need no allocator

    if isinstance(given, Queued):
        return {"queued": given.number, "position": given.position, "expected": given.expected, "why": given.why}
    devices = [{"id": d.id, "uuid": d.uuid, "profile": d.profile} for d in given.devices]
    return {"token": given.token or None, "devices": devices, "expires": given.expires, "note": given.note}


def why(desk: Desk, call: Call) -> Any:
    """Say what a request would get now, or why not; gives nothing."""
    from ds01.allocator import picture  # noqa: PLC0415 - most questions need no allocator
    from ds01.allocator.model import Refusal  # noqa: PLC0415 - as above

    person, request = desk.subject(call), _request(call)
    answer = desk.allocator.allocate(person, request, dry_run=True)
    with desk.ledger.read() as view:
        found = picture.snapshot(view, desk.people)
    return {
        "user": person.user,
        "group": person.group,
        "request": str(request),
        "refused": answer.as_dict() if isinstance(answer, Refusal) else None,
        "would_get": [] if isinstance(answer, Refusal) else [d.id for d in getattr(answer, "devices", ())],
        "devices": _obstacles(found, person, request),
    }


def _obstacles(snapshot: Snapshot, person: Person, request: Request) -> dict[str, str | None]:
    """Return for each device that matches a request what keeps it from a person."""
    from ds01.allocator.blockers import blocker, divided, matches  # noqa: PLC0415 - as its caller's

    parents, found = divided(snapshot), {}
    for device in snapshot.devices:
        if matches(device, request) and device.state != "gone":
            block = blocker(device, request, person, snapshot, parents)
            found[device.id] = None if block is None else block.text
    return found


def _request(call: Call) -> Request:
    from ds01.allocator.request import BadRequest, Request  # noqa: PLC0415 - most questions need no allocator

    try:
        return Request.from_dict(call.value("request", dict, default={}))
    except BadRequest as problem:
        raise error(BAD, f"request: {problem}", "api.value") from problem


def release(desk: Desk, call: Call) -> Any:
    """Give back the devices of a container that does not run."""
    from ds01.allocator.model import Refusal  # noqa: PLC0415 - most questions need no allocator
    from ds01.allocator.picture import device_names  # noqa: PLC0415 - as above

    asker = call.asker
    reason = call.query.get("reason", f"released by {asker.user}")[:_REASON_MAX]
    with desk.ledger.read() as view:
        token, names = desk.token(view, call.names[0], None if asker.admin else asker.uid), device_names(view)
    answer = desk.allocator.release(token, reason, dry_run=call.flag("dry_run"))
    if isinstance(answer, Refusal):
        raise refused(answer)
    return ended_data(answer, names)


def ended_data(ended: list[Lease], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return as data what became of leases, with the names that their devices have for people."""
    return [
        {
            "device": names.get(one.device, one.device),
            "state": one.state,
            "hold_until": one.hold_until if one.state == "held" else None,
        }
        for one in ended
    ]


def leave_queue(desk: Desk, call: Call) -> Any:
    """Take a request out of the queue."""
    from ds01.ledger import waiting  # noqa: PLC0415 - most questions need no queue

    number, asker = number_of(call), call.asker
    with desk.ledger.read() as view:
        row = waiting.request(view, number)
    mine = row is not None and (asker.admin or row.uid == asker.uid)
    if not mine or not desk.allocator.cancel(number, f"cancelled by {asker.user}"):
        text = f"{number}: no such request waits"
        raise error(NOT_THERE, text, "gpu.queue", "`ds01 gpu queue` lists them")
    return {"cancelled": number}


def reserve(desk: Desk, call: Call) -> Any:
    """Keep devices for a person or a group in a window; for administrators."""
    from ds01.allocator import reservations  # noqa: PLC0415 - most questions need no allocator
    from ds01.allocator.model import Refusal  # noqa: PLC0415 - as above

    if not call.asker.admin:
        fix = "ask an administrator: reservations are in the policy, or made with `ds01 gpu reserve`"
        raise error(FORBIDDEN, "only administrators reserve devices", "reservations", fix)
    wish = _wish(desk, call)
    person = None if wish.user is None else desk.person(wish.user)
    answer: tuple[int, tuple[Any, ...]] | Refusal
    with desk.allocator.change(dry_run=call.value("dry_run", bool, default=False)) as (tx, facts):
        answer = reservations.reserve(tx, desk.people, wish, person=person, created_by=call.asker.user, facts=facts)
    if isinstance(answer, Refusal):
        raise refused(answer)
    number, chosen = answer
    return {
        "number": number,
        "for": wish.whose,
        "devices": [device.id for device in chosen],
        "starts": wish.starts,
        "ends": wish.ends,
    }


def _wish(desk: Desk, call: Call) -> Any:
    from ds01.allocator.reservations import Wish  # noqa: PLC0415 - as its caller's

    user, group = call.value("user", str), call.value("group", str)
    if (user is None) == (group is None):
        raise error(BAD, "for whom?", "api.value", "name either a user or a group")
    if group is not None and group not in desk.groups:
        raise bad("group", group, f"there are {', '.join(desk.groups)}")
    starts, ends = call.value("starts", int, default=now_ms()), call.value("ends", int, default=0)
    if ends <= starts:
        raise error(BAD, "it would last no time", "api.value", "it ends later than it begins")
    if ends <= now_ms():
        raise error(BAD, "it would be over already", "api.value", "check when it begins and ends (times are UTC)")
    if ends - now_ms() > _LONGEST_MS:
        raise error(BAD, "it would end in more than a hundred years", "api.value", "check when it begins and ends")
    devices: list[Any] = call.value("devices", list, default=[])
    count = call.value("count", int, default=len(devices) or 1)
    if not all(isinstance(name, str) for name in devices):
        raise bad("devices", devices, "write names, like 0:1 or a UUID")
    if devices and count != len(devices):
        raise bad("count", count, f"name as many devices, or none (named: {len(devices)})")
    if count < 1:
        raise bad("count", count, "write a number above zero")
    reason = call.value("reason", str)
    return Wish(user, group, starts, ends, tuple(devices), count, reason and reason[:_REASON_MAX])


def cancel_reservation(desk: Desk, call: Call) -> Any:
    """End a reservation of one's own; administrators, anybody's. Those of the policy end there."""
    from ds01.allocator import reservations  # noqa: PLC0415 - most questions need no allocator
    from ds01.ledger import waiting  # noqa: PLC0415 - as above

    number, asker = number_of(call), call.asker
    reason = call.query.get("reason", f"cancelled by {asker.user}")[:_REASON_MAX]
    with desk.allocator.change(dry_run=call.flag("dry_run")) as (tx, facts):
        mine = asker.admin or any(row.id == number and row.user == asker.user for row in waiting.reservations(tx))
        done = mine and reservations.cancel(tx, number, reason, facts)
    if not done:
        text = f"{number}: no such reservation of `ds01 gpu reserve`"
        fix = "`ds01 reservation list` shows them; those of the policy are ended in the policy"
        raise error(NOT_THERE, text, "reservations", fix)
    return {"cancelled": number}


def number_of(call: Call) -> int:
    """Return the number that a path names. Raises ApiError."""
    text = call.names[0]
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:20]) <= _NUMBER_MAX:
        raise bad("number", text, "write the number that the list shows")
    return int(text)
