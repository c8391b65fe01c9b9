"""When engine or gateway are away, people are told so, nobody gets past, and what runs goes on running."""

from __future__ import annotations

import pytest

_ENGINE = "docker --host unix:///run/ds01/engine/docker.sock"


@pytest.fixture
def alice(host):
    """Run a command as alice, who has a container."""

    def run(command: str):
        return host.run("su --login alice --command %s", command)

    assert run("docker run --detach --name work ds01-lab/base sleep 1000").rc == 0
    name = f"work._.{host.user('alice').uid}"
    started = f"{_ENGINE} inspect --format '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {name}"
    before = host.check_output(started)
    yield run
    assert host.check_output(started) == before
    assert run("docker exec work echo alive").stdout == "alive\n"
    run("docker rm --force work")


def test_the_engine_restarts(host, alice):
    host.check_output("systemctl restart docker.service")
    assert alice("docker ps --format {{.Names}}").stdout == "work\n"


def test_the_engine_is_stopped(host, alice):
    host.check_output("systemctl stop docker.socket docker.service")
    try:
        refused = alice("docker run --rm ds01-lab/base true")
    finally:
        host.check_output("systemctl start docker.socket docker.service")
    assert refused.rc == 125
    assert "the container engine does not answer" in refused.stderr


def test_the_gateway_is_killed(host, alice):
    host.check_output("kill -KILL $(systemctl show --property=MainPID --value ds01-gateway.service)")
    assert alice("docker ps --format {{.Names}}").stdout == "work\n"


def test_the_gateway_cannot_start(host, alice):
    python = "/opt/ds01/current/bin/python"
    host.check_output("mv %s %s.away", python, python)
    try:
        host.check_output("kill -KILL $(systemctl show --property=MainPID --value ds01-gateway.service)")
        refused = alice("timeout 120 docker ps")
        assert (refused.rc, refused.stdout) == (1, "")
        assert host.run(f"{_ENGINE} ps").rc == 0
    finally:
        host.check_output("mv %s.away %s", python, python)
    host.check_output("timeout 120 sh -c 'until docker ps; do sleep 0.5; done'")


@pytest.mark.usefixtures("alice")
def test_the_gateway_is_stopped(host):
    host.check_output("systemctl stop ds01-gateway.socket")
    try:
        # With a terminal the wrapper says what that means.
        refused = host.run("script --quiet --return --command 'su --login alice --command docker\\ ps' /dev/null")
        assert host.run(f"{_ENGINE} ps").rc == 0
        assert not host.file("/run/docker.sock").exists
    finally:
        host.check_output("systemctl start ds01-gateway.socket ds01-gateway.service")
    assert refused.rc == 1
    assert "gateway on this server is stopped" in refused.stdout
    assert "Cannot connect to the Docker daemon" in refused.stdout
