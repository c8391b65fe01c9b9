"""Whoever uses a device, with a lease or without one."""

import json
from pathlib import Path

import pytest

from ds01.reconcile.containers import ALL
from ds01.reconcile.model import SeenProcess
from tests.unit.ledger.machine import IDS
from tests.unit.reconcile.world import MINUTE, World


@pytest.mark.parametrize(
    ("names", "used"),
    [
        ((ALL,), set(IDS)),
        (("0",), {IDS[0]}),
        (("1",), set(IDS[1:])),
        (("1:2", "GPU-0"), {IDS[3], IDS[0]}),
        (("mig-gpu-1/3/0",), {IDS[1]}),
        (("7",), set()),
    ],
)
def test_whoever_uses_a_gpu_without_a_lease_blocks_it(world: World, names: tuple[str, ...], used: set[str]) -> None:
    world.add("aime", names=names)
    world.add("aime2", names=names)
    world.look()
    assert world.foreign() == dict.fromkeys(used, 2), "they may overlap"
    assert world.look().lines == []
    world.add("aime", names=names, running=False)
    del world.containers["aime2-id"]
    world.look()
    assert world.foreign() == {}


def test_a_host_process_blocks_its_device(world: World, event_log: Path) -> None:
    world.processes = [SeenProcess(IDS[2], 4711, 99, None, 1005, "python")]
    world.look()
    assert world.foreign() == {IDS[2]: 1}
    assert "python uses" in event_log.read_text()
    world.processes = []
    world.look()
    assert world.foreign() == {}


def test_a_process_on_its_own_containers_device_is_no_occupant(world: World) -> None:
    world.lease("work._.1000", IDS[0])
    world.processes = [SeenProcess(IDS[0], 10, 1, "work._.1000-id", 1000, "python")]
    world.look()
    assert world.foreign() == {}
    world.processes = [SeenProcess(IDS[1], 10, 1, "work._.1000-id", 1000, "python")]
    world.look()
    assert world.foreign() == {IDS[1]: 1}


def test_two_on_one_device_are_reported_once_and_loudly(world: World, event_log: Path) -> None:
    world.lease("work._.1000", IDS[0])
    world.add("aime", names=(ALL,))
    first = world.look()
    assert first.problems == ["device 0 is used by aime and work._.1000 at once"]
    assert world.look().problems == first.problems
    told = [json.loads(line) for line in event_log.read_text().splitlines()]
    loud = [event for event in told if event["decision"] == "failed"]
    assert [event["details"]["who"] for event in loud] == [["aime", "work._.1000"]]
    assert world.states() == {IDS[0]: "running"}, "nobody is disturbed"


def test_a_device_is_kept_until_the_last_process_of_a_stopped_container_is_gone(world: World) -> None:
    """What the kernel cannot end at once still has the memory of the GPU."""
    token = world.lease("work._.1000", IDS[0])
    stopped = world.add("work._.1000", token=token, running=False)
    world.processes = [SeenProcess(IDS[0], 4711, 1, stopped, 1000, "python")]
    world.time.spend(2 * MINUTE)
    for _ in range(2):
        world.look()
        assert world.states() == {IDS[0]: "running"}
        assert world.foreign() == {}
    world.processes.clear()
    world.look()
    assert world.states() == {IDS[0]: "held"}


def test_a_process_that_outlives_the_hold_keeps_the_device_from_others(world: World) -> None:
    token = world.lease("work._.1000", IDS[0])
    stopped = world.add("work._.1000", token=token, running=False)
    world.time.spend(2 * MINUTE)
    world.look()
    assert world.states() == {IDS[0]: "held"}
    world.processes = [SeenProcess(IDS[0], 4711, 1, stopped, 1000, "python")]
    world.time.spend(11 * MINUTE)
    world.look()
    assert world.states() == {}
    assert world.foreign() == {IDS[0]: 1}
