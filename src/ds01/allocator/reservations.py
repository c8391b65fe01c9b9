"""Devices kept for somebody in a window: chosen when it is made, announced before it starts, given up if nobody comes.

Reservations come from the policy and from `ds01 gpu reserve`. The quotas of the person count in the window as well: who
shall have more then gets an override that ends with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ds01.allocator import picture
from ds01.allocator.answers import Fact, instant
from ds01.allocator.blockers import divided, names
from ds01.allocator.choice import EPSILON
from ds01.allocator.model import DeviceView, Refusal
from ds01.ledger import leases, lifecycle, waiting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01.allocator.model import Booking, Holder, Person, Snapshot
    from ds01.allocator.people import People
    from ds01.ledger import Transaction
    from ds01.ledger.rows import Reservation

NOTICE_MS = 2 * 3600 * 1000
"""Whoever holds a device that is reserved for another hears of it this long before: time to save and to move on."""
NO_SHOW_MS = 1800 * 1000
"""Somebody who used none of the reserved devices this long after the start has given them up."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A reservation as it is asked for: `devices` by index or UUID, or any `gpus` of them. Times are UTC ms."""

    user: str | None
    group: str | None
    starts: int
    ends: int
    devices: tuple[str, ...] = ()
    gpus: int = 1
    reason: str | None = None

    def stored(self) -> str:
        """Return what the ledger keeps of it."""
        return json.dumps({"devices": list(self.devices), "gpus": self.gpus})

    @property
    def whose(self) -> str:
        """Who it is for."""
        return self.user if self.user is not None else f"group {self.group}"


_Identity: TypeAlias = "tuple[str | None, str, int, int, str]"


class Notice(NamedTuple):
    """Somebody holds a device that is reserved for another. `due`: the window has begun, the holder must go.

    `told` is when the holder heard of it first, in UTC milliseconds.
    """

    booking: Booking
    device: DeviceView
    holder: Holder
    due: bool
    told: int | None = None


def reserve(
    tx: Transaction, people: People, wish: Wish, *, person: Person | None, created_by: str, facts: list[Fact]
) -> tuple[int, tuple[DeviceView, ...]] | Refusal:
    """Note a reservation; returns its number and devices. `person` is None for a group."""
    snapshot = picture.snapshot(tx, people)
    chosen = choose(wish, person, snapshot, picture.bookings(tx))
    if isinstance(chosen, Refusal):
        return chosen
    group = person.group if person is not None else str(wish.group)
    number = _insert(tx, wish, person, group, chosen, source="command", created_by=created_by)
    facts.append(_fact(number, wish.whose, "allowed", wish.reason))
    return number, chosen


def choose(
    wish: Wish, person: Person | None, snapshot: Snapshot, bookings: Iterable[Booking]
) -> tuple[DeviceView, ...] | Refusal:
    """Return the devices of a reservation, or why it cannot be."""
    parents = divided(snapshot)
    there = [d for d in snapshot.devices if d.state != "gone" and not (d.full and d.gpu_uuid in parents)]
    overlapping = [other for other in bookings if other.starts < wish.ends and wish.starts < other.ends]
    taken = {uuid: other for other in overlapping for uuid in other.devices}
    if wish.devices:
        chosen = [device for device in there if any(names(device, name) for name in wish.devices)]
        unknown = [name for name in wish.devices if not any(names(device, name) for device in there)]
        if unknown:
            known = ", ".join(device.id for device in there) or "none"
            text = f"there is no device {', '.join(unknown)}"
            return Refusal("capacity", "gpu.device", text, f"choose one of {known}", possible=False)
        conflicts = [device for device in chosen if device.uuid in taken]
        if conflicts:
            return _conflict(conflicts[0].id, taken[conflicts[0].uuid])
    else:
        able = person is None or person.limits.allow_full_gpu
        usable = [device for device in there if able or not device.full]
        free = [device for device in usable if device.uuid not in taken]
        chosen = sorted(free, key=lambda device: _preference(device, wish))[: wish.gpus]
        if len(chosen) < wish.gpus:
            if len(usable) >= wish.gpus:
                are = "is" if len(free) == 1 else "are"
                return _conflict(f"only {len(free)} of the {len(usable)} devices {are} free then", overlapping[0])
            kind = "" if able else " besides full GPUs"
            text = f"{wish.gpus} devices asked for, this server has {len(usable)}{kind}"
            return Refusal("capacity", "gpu.count", text, f"ask for at most {len(usable)}", possible=False)
    return (None if person is None else _beyond(person, chosen)) or tuple(chosen)


def _preference(device: DeviceView, wish: Wish) -> tuple[Any, ...]:
    """Order devices for a reservation: sound ones, MIG devices, those that nobody else will have to leave."""
    holder = device.holder
    leaves = (
        holder is not None and holder.user != wish.user and not (holder.frees_at and holder.frees_at <= wish.starts)
    )
    mig_index = -1 if device.mig_index is None else device.mig_index
    return device.state != "ok", device.full, leaves, device.gpu_index, mig_index


def _conflict(what: str, other: Booking) -> Refusal:
    when = f"{instant(other.starts)} to {instant(other.ends)}"
    text = f"{what}: reserved for {other.whose} from {when}"
    return Refusal(
        "reservation", "reservations", text, "choose another device or time", who=other.whose, frees_at=other.ends
    )


def _beyond(person: Person, chosen: list[DeviceView]) -> Refusal | None:
    """Return the quota that a person could not keep with these devices."""
    weight = sum(device.weight for device in chosen)
    most, share = person.limits.max_mig_instances, person.limits.max_gpu_equivalents
    fix = "reserve less, or give the person an override for that time"
    if any(device.full for device in chosen) and not person.limits.allow_full_gpu:
        text = f"{person.user} may not use full GPUs"
        return Refusal("permission", "allow_full_gpu", text, fix, possible=False)
    if most is not None and len(chosen) > most:
        text = f"{person.user} may hold {most} devices, not {len(chosen)}"
        return Refusal("quota", "max_mig_instances", text, fix, 0, len(chosen), most, possible=False)
    if share is not None and weight > share + EPSILON:
        text = f"{person.user} may hold {share:g} GPU equivalents, not {weight:.2f}"
        return Refusal("quota", "max_gpu_equivalents", text, fix, 0, round(weight, 3), share, possible=False)
    return None


def turn(tx: Transaction, people: People, facts: list[Fact]) -> list[Notice]:
    """Take in what the policy says, begin and end windows, give up no-shows.

    Returns:
        Who must hear that a device is reserved for another; each is in the events once.
    """
    _follow_policy(tx, people, facts)
    for row in waiting.reservations(tx):
        if row.ends <= tx.now:
            _move(tx, row, "done", None, facts)
        elif row.state == "planned" and row.starts <= tx.now:
            _move(tx, row, "active", None, facts)
        elif row.state == "active" and row.starts + NO_SHOW_MS <= tx.now and _is_no_show(tx, row):
            _move(tx, row, "missed", "nobody came", facts)
        else:
            _choose_again(tx, people, row)
    if not people.allocation["respect_reservations"]:
        return []
    snapshot = picture.snapshot(tx, people)
    found = []
    for notice in notices(snapshot):
        if _is_new(tx, notice):
            fact = _announcement(notice)
            facts.append(fact)
            name = notice.holder.container or notice.device.id
            lifecycle.tell(tx, notice.holder.uid, "warning", name, f"{fact['reason']}: {fact['fix']}")
        found.append(notice._replace(told=_told(tx, notice)))
    return found


def _is_no_show(tx: Transaction, row: Reservation) -> bool:
    """Tell whether nobody came although the devices were free: not while somebody else still runs on one."""
    chosen = waiting.chosen(tx, row.id)
    return not waiting.used(tx, row.id) and not any(lease.device in chosen for lease in leases.live(tx))


def notices(snapshot: Snapshot) -> Iterable[Notice]:
    """Yield each device that somebody holds and another has reserved from now on or soon."""
    for device in snapshot.devices:
        holder = device.holder
        for booking in snapshot.bookings if holder else ():
            if holder is None or device.uuid not in booking.devices or booking.ends <= snapshot.now:
                continue
            theirs = booking.user == holder.user if booking.user is not None else booking.group == holder.group
            ends_before = holder.frees_at is not None and holder.frees_at <= booking.starts
            if not theirs and not ends_before and booking.starts - NOTICE_MS <= snapshot.now:
                yield Notice(booking, device, holder, booking.starts <= snapshot.now)


def cancel(tx: Transaction, number: int, reason: str, facts: list[Fact]) -> bool:
    """End a reservation of `ds01 gpu reserve`. Returns whether there was one."""
    row = next((row for row in waiting.reservations(tx) if row.id == number and row.source == "command"), None)
    return row is not None and _move(tx, row, "cancelled", reason, facts)


def _follow_policy(tx: Transaction, people: People, facts: list[Fact]) -> None:
    """Make the reservations of source `policy` those of the policy."""
    known: dict[_Identity, list[Reservation]] = {}
    # What nobody came for is not made again, though the policy still has it.
    for row in (*waiting.reservations(tx), *waiting.missed(tx)):
        if row.source == "policy":
            known.setdefault(_identity(row), []).append(row)
    for entry in people.reservations:
        wish = Wish(
            entry["user"],
            entry["group"],
            entry["start"],
            entry["end"],
            tuple(entry["devices"]),
            entry["gpus"],
            entry["reason"],
        )
        identity = (wish.user, wish.whose, wish.starts, wish.ends, wish.stored())
        # Two entries that are alike are two reservations.
        if rows := known.get(identity):
            rows.pop(0)
            continue
        if wish.ends <= tx.now:
            continue
        chosen = choose(wish, None, picture.snapshot(tx, people), picture.bookings(tx))
        group = wish.group if wish.group is not None else people.group(str(wish.user))
        devices = () if isinstance(chosen, Refusal) else chosen
        number = _insert(tx, wish, None, group, devices, source="policy", created_by="policy")
        why = chosen.message if isinstance(chosen, Refusal) else None
        facts.append(_fact(number, wish.whose, "failed" if why else "allowed", why))
    for row in chain.from_iterable(known.values()):
        if row.state != "missed":
            _move(tx, row, "cancelled", "no longer in the policy", facts)


def _identity(row: Reservation) -> _Identity:
    return row.user, row.user or f"group {row.group_name}", row.starts, row.ends, row.request


def _choose_again(tx: Transaction, people: People, row: Reservation) -> None:
    """Replace devices that are gone, or that could not be found before."""
    asked = json.loads(row.request)
    snapshot = picture.snapshot(tx, people)
    there = {device.uuid for device in snapshot.devices if device.state != "gone"}
    now = waiting.chosen(tx, row.id)
    if len(there & set(now)) >= (len(asked["devices"]) or asked["gpus"]):
        return
    group = None if row.user is not None else row.group_name
    wish = Wish(row.user, group, row.starts, row.ends, tuple(asked["devices"]), asked["gpus"])
    others = [booking for booking in picture.bookings(tx) if booking.id != row.id]
    chosen = choose(wish, None, snapshot, others)
    if not isinstance(chosen, Refusal):
        waiting.choose(tx, row.id, [device.uuid for device in chosen])


def _insert(
    tx: Transaction,
    wish: Wish,
    person: Person | None,
    group: str,
    chosen: Iterable[DeviceView],
    *,
    source: Literal["policy", "command"],
    created_by: str,
) -> int:
    return waiting.reserve(
        tx,
        uid=None if person is None else person.uid,
        user=wish.user,
        group_name=group,
        request=wish.stored(),
        starts=wish.starts,
        ends=wish.ends,
        source=source,
        created_by=created_by,
        devices=[device.uuid for device in chosen],
        reason=wish.reason,
    )


def _move(
    tx: Transaction,
    row: Reservation,
    state: Literal["active", "done", "cancelled", "missed"],
    reason: str | None,
    facts: list[Fact],
) -> bool:
    if state != "active":
        tx.change("DELETE FROM meta WHERE key GLOB ?", (f"notice {row.id} *",))
    facts.append(
        _fact(row.id, row.user or f"group {row.group_name}", "changed", f"{state}: {reason}" if reason else state)
    )
    return waiting.set_reservation(tx, row.id, state, reason)


def _is_new(tx: Transaction, notice: Notice) -> bool:
    """Tell whether somebody was not told yet, and note that they are now."""
    key = f"{_key(notice)} {int(notice.due)}"
    return bool(tx.change("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, str(tx.now))))


def _told(tx: Transaction, notice: Notice) -> int:
    return int(tx.value("SELECT min(CAST(value AS INTEGER)) FROM meta WHERE key GLOB ?", (f"{_key(notice)} [01]",)))


def _key(notice: Notice) -> str:
    return f"notice {notice.booking.id} {notice.holder.token} {notice.device.uuid}"


def _fact(number: int, whose: str, decision: str, reason: str | None) -> Fact:
    subject = {"kind": "reservation", "id": str(number), "name": whose}
    return {"type": "gpu.reserve", "subject": subject, "decision": decision, "reason": reason}


def _announcement(notice: Notice) -> Fact:
    booking, holder = notice.booking, notice.holder
    when = "since" if notice.due else "from"
    text = f"{notice.device.id} of {holder.user} is reserved for {booking.whose} {when} {instant(booking.starts)}"
    return {
        "type": "gpu.reserve",
        "actor": {"uid": holder.uid, "user": holder.user, "via": "allocator"},
        "subject": {"kind": "gpu", "name": holder.container, "id": holder.token, "gpu": notice.device.id},
        "decision": "warned",
        "rule": "reservations",
        "reason": text,
        "fix": "save your work and stop the container",
    }
