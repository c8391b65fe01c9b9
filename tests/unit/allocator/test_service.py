"""The life of claims on a real ledger: GPU 0 is whole, GPU 1 has three MIG devices 2g.20gb."""

from dataclasses import replace
from pathlib import Path

import pytest

from ds01.allocator.answers import Allocation, Queued
from ds01.allocator.model import Refusal
from ds01.allocator.people import People
from ds01.allocator.request import Request
from ds01.allocator.service import WAITING_MAX
from ds01.ledger import Ledger, LedgerConflictError
from ds01.ledger.devices import devices, mark, occupy, take_inventory, vacate
from ds01.ledger.leases import adopt, bind, leases_of, live, open_claim
from ds01.ledger.lifecycle import notices
from ds01.ledger.rows import Occupant
from ds01.policy import load_policy
from ds01.reconcile.apply import take_devices
from tests.unit.allocator.conftest import Desk
from tests.unit.ledger.machine import Time, device, machine

MINUTE = 60_000
HOUR = 60 * MINUTE
TOKEN = "a" * 32


def given(answer: Allocation | Queued | Refusal) -> Allocation:
    assert isinstance(answer, Allocation), answer
    return answer


def refused(answer: object, kind: str) -> Refusal:
    assert isinstance(answer, Refusal), answer
    assert answer.kind == kind
    return answer


def ids(answer: Allocation | Queued | Refusal) -> list[str]:
    return [found.id for found in given(answer).devices]


def states(ledger: Ledger, token: str) -> list[str]:
    with ledger.read() as view:
        return [lease.state for lease in leases_of(view, token)]


def running(desk: Desk, name: str, request: Request, container: str) -> Allocation:
    allocation = given(desk.allocator.allocate(desk.who(name), request))
    desk.allocator.bind(allocation.token, container, f"{container}._.1")
    return given(desk.allocator.start(allocation.token))


def test_from_request_to_removal(desk: Desk, ledger: Ledger):
    allocation = given(desk.allocator.allocate(desk.who("alice"), Request()))
    assert ids(allocation) == ["1:0"]
    token = allocation.token
    assert states(ledger, token) == ["pending"]
    desk.allocator.bind(token, "c1", "job._.1001")
    assert states(ledger, token) == ["bound"]
    assert ids(desk.allocator.start(token)) == ["1:0"]
    assert states(ledger, token) == ["running"]
    desk.allocator.stop(token)
    assert states(ledger, token) == ["held"]
    assert ids(desk.allocator.start(token)) == ["1:0"]
    desk.allocator.stop(token)
    desk.allocator.close(token)
    assert states(ledger, token) == []
    assert [(fact["type"], fact["decision"]) for fact in desk.facts] == [
        ("gpu.lease", "allowed"),
        ("gpu.release", "changed"),
    ]


NULLS = """
default_group: student
groups: {student: {members: [alice], max_mig_instances: 1, aggregate: , policies: }}
defaults:
gpu_allocation:
policies:
user_overrides:
exemptions:
storage:
monitoring:
"""


def test_sections_that_say_nothing_grant_as_if_they_were_not_there(ledger: Ledger, time: Time, tmp_path: Path):
    (tmp_path / "policy.yaml").write_text(NULLS)
    desk = Desk(ledger, People(load_policy(tmp_path / "policy.yaml").policy.tables), time)
    assert ids(running(desk, "alice", Request(), "c1")) == ["1:0"]
    refused(desk.allocator.allocate(desk.who("alice"), Request()), "quota")


def test_every_step_may_be_taken_twice(desk: Desk, ledger: Ledger):
    who = desk.who("alice")
    first = given(desk.allocator.allocate(who, Request(), token=TOKEN))
    again = given(desk.allocator.allocate(who, Request(), token=TOKEN))
    assert (again.token, ids(again), again.expires) == (first.token, ids(first), first.expires)
    for _ in range(2):
        desk.allocator.bind(TOKEN, "c1", "job")
    for _ in range(2):
        assert ids(desk.allocator.start(TOKEN)) == ["1:0"]
    for _ in range(2):
        desk.allocator.stop(TOKEN)
    assert states(ledger, TOKEN) == ["held"]
    for _ in range(2):
        desk.allocator.close(TOKEN)
    with ledger.read() as view:
        assert live(view) == []


def test_claim_of_somebody_else_is_not_given(desk: Desk):
    given(desk.allocator.allocate(desk.who("alice"), Request(), token=TOKEN))
    refused(desk.allocator.allocate(desk.who("bob"), Request(), token=TOKEN), "permission")
    desk.allocator.close(TOKEN)
    refused(desk.allocator.allocate(desk.who("alice"), Request(), token=TOKEN), "capacity")


def test_no_gpu_needs_no_ledger(desk: Desk, path):
    path.unlink()
    assert given(desk.allocator.allocate(desk.who("alice"), Request(count=0))) == Allocation("", ())


def test_dry_run_changes_nothing(desk: Desk, ledger: Ledger):
    assert ids(desk.allocator.allocate(desk.who("alice"), Request(), dry_run=True)) == ["1:0"]
    with ledger.read() as view:
        assert live(view) == []
    assert desk.facts == []


def test_grant_that_nobody_came_for_ends(desk: Desk, time: Time):
    token = given(desk.allocator.allocate(desk.who("alice"), Request())).token
    time.spend(5 * MINUTE - 1)
    assert desk.allocator.expire() == []
    time.spend(1)
    assert [lease.token for lease in desk.allocator.expire()] == [token]
    with pytest.raises(LedgerConflictError):
        desk.allocator.bind(token, "c1", "late")


def test_expired_grants_need_no_timer(desk: Desk, time: Time):
    for _ in range(2):
        given(desk.allocator.allocate(desk.who("alice"), Request(profile="2g.20gb")))
    time.spend(HOUR)
    assert len(ids(desk.allocator.allocate(desk.who("alice"), Request(count=2)))) == 2


def test_container_never_started_gives_back_and_may_start_later(desk: Desk, time: Time):
    token = given(desk.allocator.allocate(desk.who("alice"), Request())).token
    desk.allocator.bind(token, "c1", "job")
    time.spend(30 * MINUTE)
    assert [lease.token for lease in desk.allocator.expire()] == [token]
    assert ids(desk.allocator.start(token)) == ["1:0"]


@pytest.mark.parametrize(("name", "kept"), [("alice", ["held"]), ("carol", []), ("gina", ["held"])])
def test_hold_after_stop(desk: Desk, ledger: Ledger, time: Time, name: str, kept: list[str]):
    token = running(desk, name, Request(), "c1").token
    desk.allocator.stop(token)
    assert states(ledger, token) == kept
    time.spend(15 * MINUTE)
    desk.allocator.expire()
    # Fifteen minutes, at once, and never.
    assert states(ledger, token) == (kept if name == "gina" else [])


def test_start_finds_an_equal_device_when_its_own_was_given_away(desk: Desk, ledger: Ledger, time: Time):
    token = running(desk, "alice", Request.named(["1:1"]), "c1").token
    other = running(desk, "bob", Request(), "c2").token
    desk.allocator.stop(other)
    time.spend(16 * MINUTE)
    given(desk.allocator.allocate(desk.who("gina"), Request.named(["1:0"])))
    assert ids(desk.allocator.start(other)) == ["1:2"]
    assert states(ledger, token) == ["running"]


def test_start_gets_its_own_device_again_if_it_is_free(desk: Desk, time: Time):
    token = running(desk, "alice", Request(), "c0").token
    second = running(desk, "bob", Request(), "c1")
    desk.allocator.stop(second.token)
    desk.allocator.stop(token)
    time.spend(HOUR)
    desk.allocator.expire()
    assert ids(desk.allocator.start(second.token)) == ids(second) == ["1:1"]


def test_named_device_is_never_replaced(desk: Desk, time: Time):
    token = running(desk, "alice", Request.named(["1:1"]), "c1").token
    desk.allocator.stop(token)
    time.spend(16 * MINUTE)
    given(desk.allocator.allocate(desk.who("bob"), Request.named(["1:1"])))
    assert "bob" in refused(desk.allocator.start(token), "capacity").message


@pytest.mark.parametrize("state", ["unhealthy", "draining", "gone"])
def test_start_leaves_a_device_that_cannot_be_used(desk: Desk, ledger: Ledger, state):
    token = running(desk, "alice", Request(), "c1").token
    desk.allocator.stop(token)
    with ledger.transaction() as tx:
        mark(tx, "MIG-1-0", state, "Xid 79")
    assert ids(desk.allocator.start(token)) == ["1:1"]
    with ledger.read() as view:
        assert [lease.device for lease in live(view)] == ["MIG-1-1"]


def test_running_container_keeps_a_drained_device(desk: Desk, ledger: Ledger):
    token = running(desk, "alice", Request(), "c1").token
    with ledger.transaction() as tx:
        mark(tx, "MIG-1-0", "draining", "repair")
    assert ids(desk.allocator.start(token)) == ["1:0"]


def test_start_after_a_new_layout(desk: Desk, ledger: Ledger):
    token = running(desk, "alice", Request(), "c1").token
    desk.allocator.stop(token)
    with ledger.transaction() as tx:
        take_inventory(tx, machine((device(0),), (device(1, 5),)))
    assert ids(desk.allocator.start(token)) == ["1:5"]


def test_start_looks_at_quotas_again(desk: Desk, desk_with):
    token = running(desk, "alice", Request(count=2), "c1").token
    desk.allocator.stop(token)
    stricter = desk_with(groups={"student": {"max_mig_instances": 1, "members": ["alice"]}})
    assert refused(stricter.allocator.start(token), "quota").rule == "max_mig_instances"


@pytest.mark.parametrize(
    "label",
    ["{}", "null", "2", '"all"', "[1]", '{"count": -1}', '{"colour": "red"}', '{"count": 1.5}', '{"devices": [1]}'],
)
def test_rebuilt_claim_with_any_label_keeps_what_it_holds(desk: Desk, ledger: Ledger, label: str):
    with ledger.transaction() as tx:
        open_claim(tx, uid=1001, user="alice", group_name="student", priority=10, request=label, token=TOKEN)
        bind(tx, TOKEN, "c1", "job._.1001")
        for uuid in ("MIG-1-1", "MIG-1-2"):
            adopt(tx, TOKEN, uuid)
    assert ids(desk.allocator.allocate(desk.who("bob"), Request())) == ["1:0"]
    assert ids(desk.allocator.start(TOKEN)) == ["1:1", "1:2"]
    desk.allocator.stop(TOKEN)
    assert ids(desk.allocator.start(TOKEN)) == ["1:1", "1:2"]


def test_claim_without_container_does_not_start(desk: Desk):
    token = given(desk.allocator.allocate(desk.who("alice"), Request())).token
    refused(desk.allocator.start(token), "internal")
    refused(desk.allocator.start("b" * 32), "internal")


def test_release_takes_nothing_from_a_running_container(desk: Desk, ledger: Ledger):
    token = running(desk, "alice", Request(), "c1").token
    refused(desk.allocator.release(token, "asked"), "permission")
    desk.allocator.stop(token)
    assert desk.allocator.release(token, "asked", dry_run=True)
    assert states(ledger, token) == ["held"]
    assert desk.allocator.release(token, "asked")
    assert states(ledger, token) == []


def test_foreign_use_blocks_until_it_ends(desk: Desk, ledger: Ledger):
    stranger = [Occupant("process", "42", f"MIG-1-{mig}", "python3", None, 0, legacy=False) for mig in range(3)]
    with ledger.transaction() as tx:
        for one in stranger:
            occupy(tx, one)
    answer = refused(desk.allocator.allocate(desk.who("alice"), Request()), "capacity")
    assert "outside of leases" in answer.message
    with ledger.transaction() as tx:
        vacate(tx, stranger)
    assert ids(desk.allocator.allocate(desk.who("alice"), Request())) == ["1:0"]


def test_ledger_that_cannot_be_used_grants_nothing(desk: Desk, path):
    path.unlink()
    answer = refused(desk.allocator.allocate(desk.who("alice"), Request()), "internal")
    assert answer.fix
    assert not answer.may_wait
    refused(desk.allocator.start(TOKEN), "internal")
    assert desk.facts[0]["decision"] == "failed"


def test_unverified_ledger_grants_nothing(desk: Desk, ledger: Ledger):
    with ledger.transaction() as tx:
        tx.set_unverified("restored from a backup")
    refused(desk.allocator.allocate(desk.who("alice"), Request()), "internal")


def full_house(desk: Desk) -> list[str]:
    """Everybody else has all MIG devices."""
    return [running(desk, name, Request(), f"c-{name}").token for name in ("alice", "bob", "gina")]


def test_waiting_is_served_in_turn(desk: Desk, ledger: Ledger):
    tokens = full_house(desk)
    refused(desk.allocator.allocate(desk.who("alice"), Request()), "capacity")
    first = desk.allocator.allocate(desk.who("alice"), Request(), wait_s=7200)
    assert isinstance(first, Queued)
    assert (first.position, first.expected) == (1, desk.time.wall + 24 * HOUR)
    second = desk.allocator.allocate(desk.who("bob"), Request(), wait_s=7200)
    assert isinstance(second, Queued)
    assert second.position == 2
    desk.allocator.close(tokens[2])
    with ledger.read() as view:
        granted = [lease for lease in live(view) if lease.state == "pending"]
        told = [(one.uid, one.kind, one.subject, one.text) for one in notices(view, desk.who("alice").uid)]
    assert [(lease.user, lease.device) for lease in granted] == [("alice", "MIG-1-2")]
    assert desk.facts[-1]["reason"] == "was next in the queue"
    # They need not have watched it.
    ((uid, kind, subject, text),) = told
    assert (uid, kind, subject) == (desk.who("alice").uid, "warning", "GPU 1:2")
    assert "you were next in the queue" in text
    # What was granted is not taken by anybody who comes now.
    refused(desk.allocator.allocate(desk.who("gina"), Request()), "capacity")


def test_nobody_overtakes_who_waits(desk: Desk):
    for name in ("alice", "carol"):
        running(desk, name, Request(profile="2g.20gb"), f"c-{name}")
    assert isinstance(desk.allocator.allocate(desk.who("bob"), Request(count=2), wait_s=7200), Queued)
    answer = refused(desk.allocator.allocate(desk.who("alice"), Request.named(["1:2"])), "capacity")
    assert answer.message == "no suitable GPU is free: 1:2 is kept for bob, who waits and comes first"
    # Somebody of higher priority comes first.
    assert ids(desk.allocator.allocate(desk.who("carol"), Request(profile="2g.20gb"))) == ["1:2"]


def test_what_nobody_ahead_can_use_is_given(desk: Desk):
    full_house(desk)
    desk.allocator.allocate(desk.who("alice"), Request(), wait_s=7200)
    assert ids(desk.allocator.allocate(desk.who("carol"), Request(full=True))) == ["0"]


def test_cancelled_and_expired_requests_leave_the_queue(desk: Desk, time: Time, ledger: Ledger):
    tokens = full_house(desk)
    number = desk.allocator.allocate(desk.who("alice"), Request(), wait_s=7200)
    assert isinstance(number, Queued)
    assert desk.allocator.cancel(number.number)
    assert not desk.allocator.cancel(number.number)
    desk.allocator.allocate(desk.who("bob"), Request(), wait_s=60)
    time.spend(HOUR)
    desk.allocator.expire()
    assert desk.facts[-1]["reason"] == "nothing was free in time"
    desk.allocator.close(tokens[2])
    with ledger.read() as view:
        assert len(live(view)) == 2


def test_only_capacity_waits_and_not_too_often(desk: Desk):
    full_house(desk)
    refused(desk.allocator.allocate(desk.who("gina"), Request(), wait_s=60), "quota")
    refused(desk.allocator.allocate(desk.who("alice"), Request(full=True), wait_s=60), "permission")
    for _ in range(WAITING_MAX):
        assert isinstance(desk.allocator.allocate(desk.who("alice"), Request(), wait_s=60), Queued)
    refused(desk.allocator.allocate(desk.who("alice"), Request(), wait_s=60), "quota")


def test_queue_survives_a_restart(desk: Desk, desk_with, ledger: Ledger):
    tokens = full_house(desk)
    desk.allocator.allocate(desk.who("alice"), Request(), wait_s=7200)
    ledger.close()
    desk_with().allocator.close(tokens[2])
    with ledger.read() as view:
        assert [lease.user for lease in live(view) if lease.state == "pending"] == ["alice"]


def test_devices_of_the_machine_are_as_assumed(ledger: Ledger):
    with ledger.read() as view:
        assert [found.id for found in devices(view)] == ["0", "1:0", "1:1", "1:2"]


@pytest.mark.parametrize("name", ["MIG-1-1", "1:1"])
def test_a_device_asked_for_by_name_is_the_one_that_was_given_whatever_it_is_called_now(
    desk: Desk, ledger: Ledger, name: str
):
    """A reboot makes MIG devices anew, with other UUIDs and perhaps other indices, in their old places."""
    token = given(desk.allocator.allocate(desk.who("bob"), Request.named([name]))).token
    desk.allocator.bind(token, "c1", "c1")
    anew = [replace(device(1, place), uuid=f"MIG-new-{place}", mig_index=(place + 2) % 3) for place in range(3)]
    with ledger.transaction() as tx:
        take_devices(tx, machine((device(0),), tuple(anew)))
    assert [found.uuid for found in given(desk.allocator.start(token)).devices] == ["MIG-new-1"]
