"""Where containers are and what they may use, whenever the host has started: the kernel is who stops them."""

import pytest

_MEGABYTE = 1024 * 1024
# Exit status of a container whose process the kernel killed: 128 + SIGKILL.
_KILLED = 137


def test_a_name_of_a_directory_service_has_a_slice_of_its_own(containers, slices, host):
    name = containers.start("h.baker@example.org")
    unit = slices.name("h.baker@example.org")
    assert unit == r"ds01-researcher-h.baker\x40example.org.slice"
    assert f"/ds01.slice/ds01-researcher.slice/{unit}/" in _cgroup(host, name)
    assert slices.memory_max(unit) == 250 * _MEGABYTE
    assert slices.tasks_max(unit) == 300


def test_a_name_with_a_hyphen_does_not_become_a_level_of_the_hierarchy(containers, slices, host):
    name = containers.start("mary-ann")
    unit = slices.name("mary-ann")
    assert unit == r"ds01-student-mary\x2dann.slice"
    assert f"/ds01.slice/ds01-student.slice/{unit}/" in _cgroup(host, name)
    assert slices.memory_max(unit) == 200 * _MEGABYTE


@pytest.mark.parametrize(
    ("user", "within", "beyond"),
    [
        pytest.param("alice", 150, 250, id="the group's"),
        pytest.param("bob", 230, 300, id="an override"),
        pytest.param("mary-ann", 150, 250, id="an override that has expired"),
        pytest.param("h.baker@example.org", 220, 300, id="a directory service's name"),
        pytest.param("n.ito@example.org", 220, 300, id="a directory service's group"),
    ],
)
def test_memory_beyond_the_persons_limit_ends_with_137(containers, user, within, beyond):
    assert containers.run(user, _touch(within)).rc == 0
    assert containers.run(user, _touch(beyond)).rc == _KILLED


def _touch(megabytes: int) -> str:
    return f"dd if=/dev/zero of=/dev/null bs={megabytes}M count=1"


def _cgroup(host, container: str) -> str:
    pid = host.check_output("docker inspect --format {{.State.Pid}} %s", container).strip()
    return host.check_output("cat /proc/%s/cgroup", pid)
