"""Reservations on a real ledger: GPU 0 is whole, GPU 1 has three MIG devices."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from icalendar import Calendar

from ds01.allocator import picture, reservations
from ds01.allocator.answers import Allocation
from ds01.allocator.calendar import calendar
from ds01.allocator.model import Booking, Refusal
from ds01.allocator.request import Request
from ds01.allocator.reservations import NO_SHOW_MS, NOTICE_MS, Wish
from ds01.ledger import Ledger
from ds01.ledger.devices import take_inventory
from ds01.ledger.waiting import chosen
from ds01.ledger.waiting import reservations as rows
from tests.unit.allocator.conftest import Desk
from tests.unit.ledger.machine import START_MS, Time, device, machine

MINUTE = 60_000
HOUR = 60 * MINUTE


def wish(user: str = "bob", hours: tuple[float, float] = (5, 8), devices: tuple[str, ...] = (), gpus: int = 1) -> Wish:
    starts, ends = (START_MS + int(hour * HOUR) for hour in hours)
    return Wish(user, None, starts, ends, devices, gpus)


def reserve(desk: Desk, what: Wish) -> list[str] | Refusal:
    person = desk.who(str(what.user))
    with desk.allocator.change() as (tx, facts):
        answer = reservations.reserve(tx, desk.people, what, person=person, created_by="root", facts=facts)
    return answer if isinstance(answer, Refusal) else [found.id for found in answer[1]]


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as view:
        return [row.state for row in rows(view)]


def running(desk: Desk, name: str, request: Request, container: str) -> str:
    answer = desk.allocator.allocate(desk.who(name), request)
    assert isinstance(answer, Allocation), answer
    desk.allocator.bind(answer.token, container, container)
    assert isinstance(desk.allocator.start(answer.token), Allocation)
    return answer.token


def test_named_devices_are_reserved(desk: Desk):
    assert reserve(desk, wish(devices=("1:1",))) == ["1:1"]
    answer = reserve(desk, wish("alice", devices=("1:1",), hours=(7, 9)))
    assert isinstance(answer, Refusal)
    assert (answer.kind, answer.who) == ("reservation", "bob")
    assert "bob from 2026-" in answer.message
    assert reserve(desk, wish("alice", devices=("1:1",), hours=(8, 9))) == ["1:1"]


def test_any_devices_are_those_that_others_need_not_leave(desk: Desk):
    running(desk, "alice", Request(), "c1")
    assert reserve(desk, wish(gpus=2)) == ["1:1", "1:2"]
    answer = reserve(desk, wish("alice", gpus=2))
    assert isinstance(answer, Refusal)
    assert answer.who == "bob"


def test_quota_counts_for_reservations_too(desk: Desk):
    for what, kind in (
        (wish(gpus=3), "quota"),
        (wish(devices=("0",)), "permission"),
        (wish(devices=("9",)), "capacity"),
    ):
        answer = reserve(desk, what)
        assert isinstance(answer, Refusal)
        assert answer.kind == kind


def test_window_belongs_to_its_owner(desk: Desk, time: Time, ledger: Ledger):
    reserve(desk, wish(devices=("1:0", "1:1")))
    time.spend(5 * HOUR)
    desk.allocator.turn_reservations()
    assert states(ledger) == ["active"]
    first = desk.allocator.allocate(desk.who("alice"), Request())
    assert isinstance(first, Allocation)
    assert [found.id for found in first.devices] == ["1:2"]
    answer = desk.allocator.allocate(desk.who("gina"), Request())
    assert isinstance(answer, Refusal)
    running(desk, "bob", Request(count=2), "c1")
    time.spend(3 * HOUR)
    desk.allocator.turn_reservations()
    assert states(ledger) == []


def test_holder_is_told_before_and_at_the_start_once(desk: Desk, time: Time):
    token = running(desk, "alice", Request.named(["1:0"]), "c1")
    reserve(desk, wish(devices=("1:0",)))
    time.spend(5 * HOUR - NOTICE_MS - 1)
    assert desk.allocator.turn_reservations() == []
    time.spend(1)
    assert [notice.due for notice in desk.allocator.turn_reservations()] == [False]
    time.spend(MINUTE)
    desk.allocator.turn_reservations()
    assert [fact["subject"]["id"] for fact in desk.facts if fact["decision"] == "warned"] == [token]
    time.spend(NOTICE_MS)
    assert [(notice.due, notice.holder.user) for notice in desk.allocator.turn_reservations()] == [(True, "alice")]
    desk.allocator.turn_reservations()
    assert len([fact for fact in desk.facts if fact["decision"] == "warned"]) == 2
    # Once stopped, the device is its owner's; the earlier holder gets another one.
    desk.allocator.stop(token)
    assert isinstance(desk.allocator.start(token), Refusal)
    desk.allocator.close(token)
    running(desk, "bob", Request.named(["1:0"]), "c2")


def test_no_show_gives_the_devices_back(desk: Desk, time: Time, ledger: Ledger):
    reserve(desk, wish(devices=("1:0",)))
    time.spend(5 * HOUR)
    desk.allocator.turn_reservations()
    time.spend(NO_SHOW_MS)
    desk.allocator.turn_reservations()
    assert states(ledger) == []
    assert desk.facts[-1]["reason"] == "missed: nobody came"
    assert isinstance(desk.allocator.allocate(desk.who("alice"), Request.named(["1:0"])), Allocation)


def test_whoever_came_is_no_no_show(desk: Desk, time: Time, ledger: Ledger):
    reserve(desk, wish(devices=("1:0",)))
    time.spend(5 * HOUR)
    desk.allocator.turn_reservations()
    token = running(desk, "bob", Request(), "c1")
    time.spend(MINUTE)
    desk.allocator.close(token)
    time.spend(NO_SHOW_MS)
    desk.allocator.turn_reservations()
    assert states(ledger) == ["active"]


def test_new_layout_gets_other_devices(desk: Desk, ledger: Ledger):
    reserve(desk, wish(gpus=2))
    with ledger.transaction() as tx:
        take_inventory(tx, machine((device(0),), (device(1, 4), device(1, 5))))
    desk.allocator.turn_reservations()
    with ledger.read() as view:
        assert chosen(view, 1) == ["MIG-1-4", "MIG-1-5"]


POLICY = {"user": "bob", "start": "2099-01-01T08:00Z", "end": "2099-01-02T08:00Z", "devices": ["1:1"]}


def test_policy_is_followed(desk_with, ledger: Ledger):
    for sections, expected in (
        ({"reservations": [POLICY, {**POLICY, "user": None, "group": "faculty", "devices": [], "gpus": 2}]}, 2),
        ({"reservations": [POLICY]}, 1),
        ({"reservations": []}, 0),
    ):
        desk = desk_with(**sections)
        for _ in range(2):
            desk.allocator.turn_reservations()
        assert len(states(ledger)) == expected
        with ledger.read() as view:
            bookings = picture.bookings(view)
        taken = [uuid for booking in bookings for uuid in booking.devices]
        assert len(set(taken)) == len(taken)
        assert not expected or "MIG-1-1" in taken


def test_alike_entries_of_the_policy_are_as_many_reservations_as_there_are_entries(desk_with, ledger: Ledger):
    entry = {**POLICY, "devices": []}
    for count in (2, 3, 1):
        desk = desk_with(reservations=[entry] * count)
        for _ in range(3):
            desk.allocator.turn_reservations()
        assert states(ledger) == ["planned"] * count
        with ledger.read() as view:
            taken = [uuid for booking in picture.bookings(view) for uuid in booking.devices]
        assert len(set(taken)) == count


def test_a_reservation_of_the_policy_that_nobody_came_for_stays_given_up(desk_with, ledger: Ledger, time: Time):
    start, end = (datetime.fromtimestamp((START_MS + hours * HOUR) / 1000, UTC).isoformat() for hours in (1, 8))
    desk = desk_with(reservations=[{"user": "bob", "start": start, "end": end, "devices": ["1:1"]}])
    for spent in (0, HOUR, NO_SHOW_MS):
        time.spend(spent)
        desk.allocator.turn_reservations()
    for _ in range(4):
        assert states(ledger) == []
        time.spend(MINUTE)
        desk.allocator.turn_reservations()
    assert [fact["reason"] for fact in desk.facts] == [None, "active", "missed: nobody came"]
    assert isinstance(desk.allocator.allocate(desk.who("alice"), Request.named(["1:1"])), Allocation)


def test_policy_may_switch_reservations_off(desk_with):
    desk = desk_with(gpu_allocation={"respect_reservations": False})
    reserve(desk, wish(devices=("1:0",), hours=(-1, 5)))
    assert isinstance(desk.allocator.allocate(desk.who("alice"), Request.named(["1:0"])), Allocation)
    assert desk.allocator.turn_reservations() == []


def test_cancelled_reservation_is_over(desk: Desk, ledger: Ledger):
    reserve(desk, wish(devices=("1:0",), hours=(-1, 5)))
    facts: list[dict[str, object]] = []
    with ledger.transaction() as tx:
        assert reservations.cancel(tx, 1, "not needed", facts)
        assert not reservations.cancel(tx, 1, "not needed", facts)
    assert states(ledger) == []


@pytest.mark.parametrize("reason", [None, "Thesis; chapter 3, part \\ two\nBEGIN:VEVENT", "ä" * 200])
def test_calendar_is_read_by_calendar_programs(reason: str | None):
    booking = Booking(7, "h.baker@example.org", None, START_MS, START_MS + HOUR, ("MIG-1-0", "MIG-x"), reason)
    text = calendar(
        [booking, Booking(8, None, "faculty", START_MS, START_MS + 1000, ())], {"MIG-1-0": "1:0"}, "gpu1", START_MS
    )
    assert all(len(line.encode()) <= 75 for line in text.split("\r\n"))
    events = Calendar.from_ical(text).walk("VEVENT")
    assert [str(event["SUMMARY"]) for event in events] == [
        "GPU 1:0, MIG-x: h.baker@example.org",
        "GPU not chosen yet: group faculty",
    ]
    first = events[0]
    assert (first["DTEND"].dt - first["DTSTART"].dt).total_seconds() == 3600
    assert first["DTSTART"].dt.timestamp() * 1000 == START_MS
    assert first.get("DESCRIPTION") == reason
