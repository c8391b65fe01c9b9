"""A member's own `docker` on a machine of its own: cgroup v2, real mounts, a kernel that names peers exactly."""

from __future__ import annotations

_MIB = 1024 * 1024


def test_a_members_container_has_her_limits_and_her_files(person):
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; touch /mine/made"
    alice = person("alice")
    done = alice.login(
        f"mkdir -p ~/mine && docker run --rm --volume ~/mine:/mine ds01-lab/base sh -c '{script}' && rm ~/mine/made"
    )
    assert done.stderr == ""
    assert [int(line) for line in done.stdout.split()] == [100 * _MIB, 100]
    outside = alice.login("docker run --rm --volume /etc:/mine ds01-lab/base true")
    assert outside.rc == 125
    assert "cannot be bound into a container" in outside.stderr


def test_a_container_is_in_the_slice_of_its_owner_and_nobody_elses_to_see(host, person):
    alice = person("alice")
    assert alice.login("docker run --detach --name work ds01-lab/base sleep 1000").rc == 0
    try:
        name = f"work._.{host.user('alice').uid}"
        pid = host.check_output("docker --context ds01-engine inspect --format '{{.State.Pid}}' %s", name)
        cgroup = host.file(f"/proc/{pid}/cgroup").content_string
        assert f"/ds01.slice/ds01-student.slice/{alice.slice}/docker-" in cgroup
        assert person("bob").login("docker ps --all --quiet").stdout == ""
    finally:
        assert alice.login("docker rm --force work").rc == 0


def test_only_root_reaches_the_engine(person):
    done = person("bob").login("docker --host unix:///run/ds01/engine/docker.sock ps")
    assert done.rc == 1
    assert "permission denied" in done.stderr.lower()
