"""After a loss, a restore or a reboot the ledger is again what runs."""

import dataclasses
from pathlib import Path

import pytest

from ds01.cdi.files import SpecFiles
from ds01.ledger import Ledger, LedgerNotReadyError, leases, usage
from ds01.ledger import devices as table
from ds01.ledger.objects import find
from ds01.ledger.recovery import ensure
from ds01.reconcile.containers import ALL
from tests.unit.ledger.machine import IDS, Time, device, machine
from tests.unit.reconcile.world import MINUTE, World


def test_a_lost_ledger_comes_back_from_what_is_running(world: World, tmp_path: Path) -> None:
    token = world.lease("work._.1000", IDS[0], IDS[2])
    idle = world.lease("idle._.1000", IDS[1], running=False)
    for left in tmp_path.glob("ledger.db*"):
        left.unlink()
    ensure(tmp_path / "ledger.db", tmp_path / "backups")
    world.ledger.close()
    outcome = world.look()
    assert outcome.problems == []
    assert world.states() == {IDS[0]: "running", IDS[2]: "running"}
    assert world.specs.given() == {token: (IDS[0], IDS[2])}
    with world.ledger.transaction() as tx:
        assert leases.claim(tx, idle).container_name == "idle._.1000"
        tx.require_verified()
        assert find(tx, "container", "work._.1000-id") is not None
    assert world.look().lines == []


def test_a_restored_ledger_does_not_win_over_what_is_running(world: World) -> None:
    """The backup is older than the moment at which the device went from one to the other."""
    old = world.lease("old._.1000", IDS[0], running=False)
    world.add("new._.1000", token="f" * 32)
    world.specs.write("f" * 32, [IDS[0]])
    world.specs.remove(old)
    with world.ledger.transaction() as tx:
        tx.set_unverified("restored from a backup")
    outcome = world.look()
    assert outcome.problems == []
    assert [(lease.container_name, lease.state) for lease in world.live()] == [("new._.1000", "running")]


def test_a_container_of_which_nothing_says_what_it_holds_blocks_everything(world: World) -> None:
    world.add("lost._.1000", token="e" * 32)
    world.look()
    assert world.foreign() == dict.fromkeys(IDS, 1)


def test_a_device_that_is_gone_is_given_up(world: World) -> None:
    world.lease("work._.1000", IDS[1], running=False)
    world.inventory = machine((device(0),), (device(1, 2),))
    world.look()
    assert world.live() == []
    with world.ledger.read() as view:
        assert [row.uuid for row in table.devices(view)] == [IDS[0], IDS[3]]


@pytest.mark.parametrize("state", ["running", "held", "bound"])
def test_a_lease_follows_its_device_over_a_reboot(world: World, state: str) -> None:
    """The MIG devices of GPU 1 are made anew in the old places, with other UUIDs."""
    token = world.lease("work._.1000", IDS[1], running=state != "bound")
    if state == "held":
        with world.ledger.transaction() as tx:
            leases.stop(tx, token, hold_ms=None, reason="")
    anew = tuple(dataclasses.replace(device(1, number), uuid=f"MIG-anew-{number}") for number in range(3))
    world.add("work._.1000", token=token, running=False)
    world.inventory = machine((device(0),), anew)
    world.look()
    assert world.states() == {"MIG-anew-0": state}
    with world.ledger.read() as view:
        opened = [row.device for row in usage.intervals(view, since=0) if row.closed_at is None]
    assert opened == ([] if state == "bound" else ["MIG-anew-0"])


def test_a_drain_follows_its_device_over_a_reboot(world: World) -> None:
    with world.ledger.transaction() as tx:
        table.mark(tx, IDS[1], "draining", "a fan is loud")
    anew = tuple(dataclasses.replace(device(1, number), uuid=f"MIG-anew-{number}") for number in range(3))
    world.inventory = machine((device(0),), anew)
    world.look()
    assert world.devices()["MIG-anew-0"] == ("draining", "a fan is loud")
    assert world.devices()["MIG-anew-1"] == ("ok", None)


def test_time_goes_on_counting_after_a_reboot(world: World) -> None:
    world.lease("work._.1000", IDS[0])
    world.time.spend(10 * MINUTE)
    world.look()
    world.time.spend(MINUTE // 2)
    world.time.reboot(off_ms=60 * MINUTE)
    world.look()
    world.time.spend(5 * MINUTE)
    world.containers.clear()
    world.look()
    with world.ledger.read() as view:
        assert [row.gpu_ms for row in usage.intervals(view, since=0)] == [10 * MINUTE, 5 * MINUTE]


def test_what_was_there_before_is_legacy(ledger: Ledger, specs: SpecFiles, time: Time, event_log: Path) -> None:
    world = World(ledger, specs, time)
    world.add("aime", names=(ALL,))
    world.look()
    with ledger.read() as view:
        found = find(view, "container", "aime-id")
        assert found is not None
        assert found.legacy
        assert all(occupant.legacy for occupant in table.occupants(view))
    assert "container.adopt" not in event_log.read_text(), "the deployment has announced it"


def test_a_second_container_with_the_same_token_takes_nothing_from_the_first(world: World) -> None:
    """Tools that make a container again from an inspection copy its device request."""
    token = world.lease("first._.1000", IDS[0])
    copied = world.add("copy", token=token, running=False)
    world.look()
    assert world.states() == {IDS[0]: "running"}
    world.containers[copied] = dataclasses.replace(world.containers[copied], running=True)
    assert any("copy" in problem and "first" in problem for problem in world.look().problems)
    assert world.foreign() == {IDS[0]: 1}
    world.containers["first._.1000-id"] = dataclasses.replace(world.containers["first._.1000-id"], running=False)
    world.time.spend(2 * MINUTE)
    world.look()
    assert world.states() == {IDS[0]: "held"}
    # The specification goes with the first; what the copy runs with is known all the same.
    del world.containers["first._.1000-id"]
    for _ in range(3):
        world.look()
        assert world.states() == {}
        assert world.foreign() == {IDS[0]: 1}


def test_two_containers_of_an_unknown_token_do_not_keep_the_rest_from_being_corrected(world: World) -> None:
    for name in ("one._.1000", "two._.1000"):
        world.add(name, token="e" * 32)
    world.specs.write("e" * 32, [IDS[0]])
    world.add("zz", names=("1:2",))
    assert world.look().problems
    assert world.states() == {IDS[0]: "running"}
    assert world.foreign()[IDS[3]] == 1
    world.look()
    assert world.foreign()[IDS[0]] == 1


def test_while_a_claim_cannot_be_restored_nothing_is_granted(world: World) -> None:
    with world.ledger.transaction() as tx:
        tx.set_unverified("begun anew")
    identity = world.add("work._.1000", token="e" * 32)
    world.specs.write("e" * 32, [IDS[0]])
    world.containers[identity] = dataclasses.replace(world.containers[identity], request="no JSON")
    assert world.look().problems
    with world.ledger.transaction() as tx, pytest.raises(LedgerNotReadyError):
        tx.require_verified()
    world.containers[identity] = dataclasses.replace(world.containers[identity], request="{}")
    world.look()
    assert world.states() == {IDS[0]: "running"}


def test_a_container_of_which_nothing_says_what_it_runs_with_keeps_everything_for_as_long_as_it_runs(
    world: World,
) -> None:
    identity = world.add("work._.1000", token="e" * 32)
    for _ in range(3):
        world.look()
        assert world.foreign() == dict.fromkeys(IDS, 1)
    world.containers[identity] = dataclasses.replace(world.containers[identity], running=False)
    world.look()
    assert world.foreign() == {}
