"""Each kind of person meets their limit, and the kernel is who stops them."""

import time

# Exit status of a container whose process the kernel killed: 128 + SIGKILL.
_KILLED = 137
_MEGABYTE = 1024 * 1024
# Forks until the kernel says no. The shell that is told so ends, its children stay: the limit is held, not only met.
_FORK_BOMB = "(while :; do sleep 600 & done); exec sleep 600"


def _touch(megabytes: int) -> str:
    return f"dd if=/dev/zero of=/dev/null bs={megabytes}M count=1"


def _hold(megabytes: int) -> str:
    # dd fills its buffer, then waits for a reader that never reads.
    return f"dd if=/dev/zero bs={megabytes}M count=2 | sleep 600"


def test_an_admin_has_no_memory_limit(containers):
    assert containers.run("erin", _touch(500)).rc == 0


def test_two_containers_of_one_person_share_one_limit(containers, slices):
    containers.start("alice", _hold(80))
    _wait(lambda: slices.memory(slices.name("alice")) > 80 * _MEGABYTE)
    assert containers.run("bob", _touch(150)).rc == 0
    assert containers.run("alice", _touch(150)).rc == _KILLED


def test_a_fork_bomb_stops_at_the_limit_and_the_host_stays_alive(host, containers, slices):
    unit = slices.name("alice")
    bomb = containers.start("alice", _FORK_BOMB)
    _wait(lambda: "can't fork" in host.run("docker logs %s", bomb).stderr)
    assert slices.tasks_max(unit) == 200
    assert 190 < slices.tasks(unit) <= 200
    assert containers.run("bob", "echo still here").stdout == "still here\n"
    assert host.run("systemctl is-active docker.service").rc == 0


# Who competes does so on one CPU: one process cannot use two, however fair the kernel is.
def test_two_students_who_compete_get_the_same_however_many_processes_they_have(containers, slices):
    containers.start("alice", _spin(4), on_cpus="0")
    containers.start("mary-ann", _spin(1), on_cpus="0")
    alice, mary_ann = _cpus(8, slices, "alice", "mary-ann")
    assert 0.7 < alice / mary_ann < 1.4


def test_the_group_as_a_whole_stays_below_its_limit(containers, slices):
    for user in ("alice", "mary-ann", "bob"):
        containers.start(user, _spin(2))
    # 0.6 CPUs, and what one period of the scheduler may add.
    assert sum(_cpus(5, slices, "alice", "mary-ann", "bob")) < 0.6 * 1.15


def test_one_person_alone_stays_below_their_own_limit(containers, slices):
    containers.start("alice", _spin(4))
    (alice,) = _cpus(4, slices, "alice")
    assert alice < 0.5 * 1.15


def test_a_higher_priority_gets_more_under_contention(containers, slices):
    containers.start("alice", _spin(2), on_cpus="0")
    containers.start("bob", _spin(2), on_cpus="0")
    alice, bob = _cpus(8, slices, "alice", "bob")
    assert bob > 1.3 * alice


def _spin(processes: int) -> str:
    return "while :; do :; done & " * processes + "wait"


def _cpus(seconds: float, slices, *users: str) -> list[float]:
    """How many CPUs each person's slice used, on average over at least so many seconds."""
    units = [slices.name(user) for user in users]
    # The first second belongs to starting up.
    time.sleep(1)
    begun, before = slices.cpu_used(*units)
    time.sleep(seconds)
    ended, after = slices.cpu_used(*units)
    return [(now - then) / (ended - begun) for then, now in zip(before, after, strict=True)]


def _wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
