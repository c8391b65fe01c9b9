"""Containers that wait for a device at their start, and people whose names change: GPU 1 has three MIG devices."""

from __future__ import annotations

import pytest

from ds01.allocator.answers import Allocation, Queued
from ds01.allocator.model import Person, Refusal
from ds01.allocator.request import Request
from ds01.ledger import Ledger
from ds01.ledger.leases import claim, leases_of
from ds01.ledger.waiting import waiting
from tests.unit.allocator.conftest import Desk
from tests.unit.ledger.machine import Time

MINUTE = 60_000
MIG = Request(profile="2g.20gb")


def granted(answer: Allocation | Queued | Refusal) -> Allocation:
    assert isinstance(answer, Allocation), answer
    return answer


def queued(answer: Allocation | Queued | Refusal) -> Queued:
    assert isinstance(answer, Queued), answer
    return answer


def runs(desk: Desk, name: str, request: Request = MIG) -> str:
    token = granted(desk.allocator.allocate(desk.who(name), request)).token
    desk.allocator.bind(token, f"c-{token}", f"{name}-{token[:4]}")
    granted(desk.allocator.start(token))
    return token


@pytest.fixture
def full(desk: Desk) -> tuple[str, list[str]]:
    """Alice's container lost its device to others, who have all there are: her claim, and theirs."""
    lost = runs(desk, "alice")
    desk.allocator.stop(lost)
    desk.allocator.release(lost, "given away")
    return lost, [runs(desk, "carol"), runs(desk, "bob"), runs(desk, "bob")]


def test_a_start_waits_in_the_queue_for_its_own_claim(desk: Desk, ledger: Ledger, full: tuple[str, list[str]]):
    lost, others = full
    assert isinstance(desk.allocator.start(lost), Refusal)
    place = queued(desk.allocator.start(lost, wait_s=120))
    assert queued(desk.allocator.start(lost, wait_s=120)).number == place.number, "a second client waits with the first"
    assert queued(desk.allocator.attend(place.number, 120)).position == 1
    desk.allocator.close(others[1])
    served = granted(desk.allocator.attend(place.number, 120))
    assert served.token == lost
    started = granted(desk.allocator.start(lost))
    assert [one.uuid for one in started.devices] == [one.uuid for one in served.devices]
    with ledger.read() as view:
        assert [lease.state for lease in leases_of(view, lost)] == ["running"]
        assert waiting(view) == []


def test_whoever_does_not_ask_again_is_out_of_the_queue(desk: Desk, time: Time, full: tuple[str, list[str]]):
    place = queued(desk.allocator.start(full[0], wait_s=120))
    time.spend(119_000)
    queued(desk.allocator.attend(place.number, 120))
    time.spend(119_000)
    queued(desk.allocator.attend(place.number, 120))
    time.spend(121_000)
    answer = desk.allocator.attend(place.number, 120)
    assert isinstance(answer, Refusal)
    assert not answer.may_wait


@pytest.mark.parametrize("served", [False, True])
def test_who_goes_away_leaves_nothing(desk: Desk, ledger: Ledger, full: tuple[str, list[str]], *, served: bool):
    lost, others = full
    mine = queued(desk.allocator.start(lost, wait_s=120))
    made = queued(desk.allocator.allocate(desk.who("gina"), MIG, wait_s=120))
    if served:
        desk.allocator.close(others[0])
        desk.allocator.close(others[1])
        token = granted(desk.allocator.attend(made.number, 120)).token
    for number in (mine.number, made.number):
        desk.allocator.abandon(number)
        desk.allocator.abandon(number)
    with ledger.read() as view:
        assert waiting(view) == []
        assert leases_of(view, lost) == []
        assert claim(view, lost).state == "open"
        if served:
            assert claim(view, token).state == "closed"


def test_the_end_of_a_container_ends_its_wait(desk: Desk, ledger: Ledger, full: tuple[str, list[str]]):
    lost, others = full
    queued(desk.allocator.start(lost, wait_s=120))
    desk.allocator.close(lost)
    desk.allocator.close(others[0])
    with ledger.read() as view:
        assert waiting(view) == []
        assert leases_of(view, lost) == []


def test_a_container_that_was_started_otherwise_gets_nothing_twice(
    desk: Desk, ledger: Ledger, full: tuple[str, list[str]]
):
    lost, others = full
    place = queued(desk.allocator.start(lost, wait_s=3600))
    desk.allocator.close(others[0])
    granted(desk.allocator.start(lost))
    desk.allocator.close(others[1])
    assert granted(desk.allocator.attend(place.number, 120)).token == lost
    with ledger.read() as view:
        assert len(leases_of(view, lost)) == 1


def test_a_restart_is_noted_as_a_start(desk: Desk, ledger: Ledger, time: Time):
    token = runs(desk, "alice")
    time.spend(10 * MINUTE)
    granted(desk.allocator.start(token))
    with ledger.read() as view:
        assert [lease.started for lease in leases_of(view, token)] == [time.wall]


def test_a_claim_that_lost_its_devices_says_so(desk: Desk, full: tuple[str, list[str]]):
    answer = desk.allocator.allocate(desk.who("alice"), MIG, token=full[0])
    assert isinstance(answer, Refusal)
    assert "holds nothing" in answer.message
    assert "start" in answer.fix


def test_only_ones_own_grant_without_a_container_is_taken(desk: Desk, full: tuple[str, list[str]]):
    desk.allocator.close(full[1][0])
    token = granted(desk.allocator.allocate(desk.who("alice"), MIG)).token
    take = desk.allocator.allocate
    assert granted(take(desk.who("alice"), MIG, token=token, unused=True)).token == token
    for name, wanted in (("bob", token), ("alice", full[0]), ("alice", "f" * 32)):
        answer = take(desk.who(name), MIG, token=wanted, unused=True)
        assert isinstance(answer, Refusal), wanted
        assert answer.kind == "permission"


def test_somebody_with_another_login_has_the_limits_of_that(desk: Desk, ledger: Ledger, time: Time):
    """Alice becomes Carol in the directory; her uid stays."""
    token = runs(desk, "alice")
    desk.allocator.stop(token)
    renamed: Person = desk.people.person(desk.who("alice").uid, "carol", time.wall)
    granted(desk.allocator.start(token, person=renamed))
    with ledger.read() as view:
        assert (claim(view, token).user, claim(view, token).group_name) == ("carol", "faculty")
    # Carol's devices are not held after a stop.
    assert [lease.state for lease in desk.allocator.stop(token)] == ["released"]
