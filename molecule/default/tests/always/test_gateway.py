"""Members use Docker through the gateway, with their limits, and nobody gets past it."""

from __future__ import annotations

import json

import pytest

_ENGINE = "docker --host unix:///run/ds01/engine/docker.sock"
_IMAGE = "ds01-lab/base"


@pytest.fixture
def person(host):
    """Run a command as somebody who logged in."""

    def run(user: str, command: str):
        return host.run("su --login %s --command %s", user, command)

    yield run
    for user in ("alice", "bob"):
        run(user, "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force")


def test_a_student_runs_a_container_in_her_slice_with_her_limits(host, person, slices):
    assert person("alice", f"docker run --detach --name work {_IMAGE} sleep 1000").rc == 0
    uid = host.user("alice").uid
    found = json.loads(host.check_output(f"{_ENGINE} inspect work._.{uid}"))[0]
    # As lab/resource-limits.yaml says for students.
    limits = found["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"], limits["PidsLimit"]) == (100 << 20, 500_000_000, 150)
    cgroup = host.file(f"/proc/{found['State']['Pid']}/cgroup").content_string
    assert f"/ds01.slice/ds01-student.slice/{slices.name('alice')}/" in cgroup
    assert person("alice", "docker ps --format {{.Names}}").stdout == "work\n"
    assert person("bob", "docker ps --all --quiet").stdout == ""
    assert person("bob", f"docker stop {found['Id']}").rc != 0


def test_every_gpu_is_the_one_she_may_have_and_free_again_afterwards(person):
    assert person("alice", f"docker run --detach --gpus all --name gpu {_IMAGE} sleep 1000").rc == 0
    devices = person("alice", "docker exec gpu sh -c 'ls /dev | grep -c ^nvidia[0-9]'")
    assert devices.stdout == "1\n"
    held = person("alice", "ds01 status --json").stdout
    assert '"gpu"' in held
    assert person("alice", f"docker run --rm --gpus 1 {_IMAGE} true").rc == 125
    assert person("alice", "docker rm --force gpu").rc == 0
    assert person("alice", f"docker run --rm --gpus 1 {_IMAGE} true").rc == 0


def test_the_exit_status_is_the_containers(person):
    assert person("alice", "command -v docker").stdout == "/usr/local/bin/docker\n"
    assert person("alice", f"docker run --rm {_IMAGE} sh -c 'exit 7'").rc == 7


def test_clients_past_the_wrapper_know_how_to_build(host, person):
    assert person("alice", "printenv DOCKER_BUILDKIT").stdout == "0\n"
    assert host.run("grep -q '^session.*pam_env.so' /etc/pam.d/cron /etc/pam.d/sshd").rc == 0


def test_the_engine_is_for_root_alone(host, person):
    gateway, place, engine = (
        host.file(path) for path in ("/run/docker.sock", "/run/ds01/engine", "/run/ds01/engine/docker.sock")
    )
    assert (gateway.user, gateway.mode) == ("root", 0o666)
    assert (place.user, place.mode) == ("root", 0o700)
    assert (engine.user, engine.mode) == ("root", 0o600)
    assert person("alice", f"{_ENGINE} ps").rc != 0
    assert host.run("docker --context ds01-engine ps").rc == 0
    assert person("alice", "docker --context ds01-engine ps").rc != 0


def test_the_gateway_runs_and_will_at_the_next_start(host):
    for unit in ("ds01-gateway.socket", "ds01-gateway.service"):
        assert host.service(unit).is_running
        assert host.service(unit).is_enabled
