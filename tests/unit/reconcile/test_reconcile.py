"""What is seen corrects leases, owners and devices."""

import dataclasses
from pathlib import Path

import pytest

from ds01.cdi.spec import CdiError
from ds01.gpu.health import Finding, GpuHealth
from ds01.gpu.xid import State
from ds01.ledger import devices as table
from ds01.ledger import leases
from ds01.ledger.objects import find
from ds01.policy.problems import PolicyError
from ds01.problems import Problem
from ds01.reconcile.apply import reconcile
from ds01.reconcile.containers import ALL
from ds01.reconcile.model import Observation, SeenObject, SeenProcess
from tests.unit.ledger.machine import IDS, claim_for, device, machine
from tests.unit.reconcile.world import MINUTE, World


def test_what_agrees_stays(world: World) -> None:
    world.lease("work._.1000", IDS[0])
    world.look()
    assert world.look().lines == []
    assert world.states() == {IDS[0]: "running"}


def test_a_device_whose_spec_cannot_be_removed_is_not_given_back(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.containers.clear()
    spec = world.specs.live / f"ds01.io-gpu-{token}.json"
    spec.unlink()
    spec.mkdir()
    with pytest.raises(CdiError, match=token):
        world.look()
    assert world.states() == {IDS[0]: "running"}
    spec.rmdir()
    world.look()
    assert world.live() == []


def test_a_container_that_vanished_gives_its_device_back(world: World, event_log: Path) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.containers.clear()
    world.look()
    assert world.live() == []
    assert world.specs.given() == {}
    assert world.specs.given() == {}, "a container with this token could start on somebody else's device"
    assert "its container is gone" in event_log.read_text()
    with world.ledger.read() as view:
        assert leases.claim(view, token).state == "closed"


def test_a_container_made_while_we_look_is_not_taken_for_gone(world: World) -> None:
    before = world.see()
    world.lease("work._.1000", IDS[0])
    world.look(before)
    assert world.states() == {IDS[0]: "running"}


def test_a_start_that_is_under_way_is_not_taken_for_a_stop(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    identity = world.add("work._.1000", token=token, running=False)
    world.look()
    assert world.states() == {IDS[0]: "running"}
    world.time.spend(2 * MINUTE)
    world.look()
    assert world.states() == {IDS[0]: "held"}
    assert world.specs.given() == {token: (IDS[0],)}
    world.containers[identity] = world.containers[identity]
    world.time.spend(10 * MINUTE)
    world.look()
    assert world.states() == {}
    assert world.specs.given() == {}
    with world.ledger.read() as view:
        assert leases.claim(view, token).state == "open", "it may be started again"


def test_a_start_after_the_look_is_not_taken_for_a_stop(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.add("work._.1000", token=token, running=False)
    before = dataclasses.replace(world.see(), at=world.time.wall - 50)
    world.look(before)
    assert world.states() == {IDS[0]: "running"}
    # A start hours after the look is none: the clock was set back since.
    world.look(dataclasses.replace(before, at=world.time.wall - 120 * MINUTE))
    assert world.states() == {IDS[0]: "held"}


def test_an_end_after_the_start_is_noted_at_once(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.time.spend(1000)
    identity = world.add("work._.1000", token=token, running=False)
    for ended in (-2000, 0):
        seen = world.containers[identity]
        world.containers[identity] = dataclasses.replace(seen, finished=world.time.wall + ended)
        world.look()
        assert world.states() == {IDS[0]: "running" if ended else "held"}


def test_a_start_that_nobody_noted_is_noted(world: World) -> None:
    world.lease("work._.1000", IDS[0], running=False)
    world.add("work._.1000", token=world.live()[0].token)
    world.look()
    assert world.states() == {IDS[0]: "running"}


def test_a_container_whose_maker_was_killed_is_bound(world: World) -> None:
    with world.ledger.transaction() as tx:
        token = claim_for(tx).token
        leases.grant(tx, token, IDS[0], expires=tx.now + MINUTE)
    identity = world.add("work._.1000", token=token, running=False)
    world.look()
    world.time.spend(5 * MINUTE)
    world.look()
    with world.ledger.read() as view:
        assert leases.claim(view, token).container_id == identity
    assert world.states() == {IDS[0]: "bound"}
    world.time.spend(30 * MINUTE)
    world.look()
    assert world.states() == {}, "it was never started"


def test_without_nvml_nobody_is_taken_for_gone(world: World) -> None:
    world.processes = [SeenProcess(IDS[2], 4711, 99, None, 1005, "python")]
    world.look()
    blind = Observation(at=world.time.wall, known=world.see().known)
    world.look(blind)
    assert world.foreign() == {IDS[2]: 1}
    with world.ledger.read() as view:
        assert len(table.devices(view)) == len(IDS)


@pytest.mark.parametrize("answers", [True, False])
def test_a_gpu_that_is_not_well_is_granted_to_nobody_and_its_work_goes_on(
    world: World, event_log: Path, answers: bool
) -> None:
    world.lease("work._.1000", IDS[1])
    whole = world.inventory
    with world.ledger.transaction() as tx:
        table.mark(tx, IDS[3], "draining", "a fan is loud")
    # A driver that gave a GPU up does not always tell its UUID.
    sick = GpuHealth(1, whole.devices[1].gpu_uuid if answers else None, (Finding(State.UNHEALTHY, "lost", "reboot"),))
    world.health = (GpuHealth(0, whole.devices[0].gpu_uuid, (Finding(State.DEGRADED, "warm", "cool it"),)), sick)
    world.look()
    ill = ("unhealthy", "lost")
    assert world.devices() == {
        IDS[0]: ("ok", None),
        IDS[1]: ill,
        IDS[2]: ill,
        IDS[3]: ("draining", "a fan is loud"),
    }
    assert world.states() == {IDS[1]: "running"}
    assert len([line for line in event_log.read_text().splitlines() if '"health.fail"' in line]) == 2
    world.health = ()
    assert world.look().lines == []
    world.health = tuple(GpuHealth(number, whole.devices[number].gpu_uuid, ()) for number in (0, 1))
    world.look()
    assert world.devices()[IDS[1]] == world.devices()[IDS[2]] == ("ok", None)
    assert world.look().lines == []


def test_what_a_running_container_holds_stays_what_it_is(world: World) -> None:
    world.lease("work._.1000", IDS[1])
    anew = tuple(dataclasses.replace(device(1, number), uuid=f"MIG-anew-{number}") for number in range(3))
    world.inventory = machine((device(0),), anew)
    assert any("which is gone" in problem for problem in world.look().problems)
    assert world.states() == {IDS[1]: "running"}


def test_owners_are_noted_and_forgotten(world: World, event_log: Path) -> None:
    world.add("course", names=())
    world.objects = [SeenObject("volume", "data._.1000", "data._.1000", 1000)]
    world.look()
    with world.ledger.read() as view:
        found = find(view, "container", "course-id")
        assert found is not None
        assert (found.uid, found.legacy) == (1000, False)
        assert find(view, "volume", "data._.1000") is not None
    assert "container.adopt" in event_log.read_text()
    world.containers.clear()
    world.objects = []
    world.look()
    with world.ledger.read() as view:
        assert find(view, "container", "course-id") is None
        assert find(view, "volume", "data._.1000") is None


def test_a_container_that_got_another_name_is_found_by_it(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.look()
    (identity,) = world.containers
    world.containers[identity] = dataclasses.replace(world.containers[identity], name="other._.1000")
    assert "container other._.1000: was called work._.1000" in world.look().lines
    # What held a device before the ledger followed names: the row is right, the claim is not.
    with world.ledger.transaction() as tx:
        tx.change("UPDATE claims SET container_name = 'work._.1000'")
    world.look()
    with world.ledger.read() as view:
        found = find(view, "container", identity)
        assert found is not None
        assert (found.name, found.uid, leases.claim(view, token).container_name) == (
            "other._.1000", 1000, "other._.1000",
        )  # fmt: skip
    assert world.look().lines == []


def test_a_rehearsal_changes_nothing(world: World, event_log: Path) -> None:
    world.lease("work._.1000", IDS[0])
    world.look()
    world.add("aime", names=(ALL,))
    del world.containers["work._.1000-id"]
    before = (world.states(), world.specs.given(), event_log.read_text())
    outcome = world.look(dry_run=True)
    assert (world.states(), world.specs.given(), event_log.read_text()) == before
    assert outcome.lines == world.look().lines


def test_a_broken_policy_keeps_only_what_it_decides_on_as_it_was(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    world.add("work._.1000", token=token, running=False)
    world.add("zz", names=("1:2",))

    def broken(_: object) -> int:
        raise PolicyError([Problem("groups", "null", "a section", "mend it")])

    world.time.spend(2 * MINUTE)
    outcome = reconcile(
        world.ledger, world.see(), world.specs, hold_of=broken, unused_of=broken, group_of=lambda _: ("student", 1)
    )
    assert any("mend it" in problem for problem in outcome.problems)
    assert world.states() == {IDS[0]: "running"}
    assert world.foreign() == {IDS[3]: 1}
    world.look()
    assert world.states() == {IDS[0]: "held"}
