"""The health check breaks in where nothing stops it, and says so; where the gateway stands, it does not get in."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.gateway.gateway_host import CODE, SOCKET, GatewayHost

ENGINE = "/run/docker.sock"


def check(gateway: GatewayHost, path: str) -> dict[str, Any]:
    script = (
        f"import sys; sys.path.insert(0, '{CODE}'); import dataclasses, json; from pathlib import Path; "
        "from ds01.health.gateway import check_gateway; "
        f"print(json.dumps(dataclasses.asdict(check_gateway(Path('{path}'), Path('{ENGINE}')))))"
    )
    return json.loads(gateway.host.run("python3", "-c", script).stdout)


def left(gateway: GatewayHost) -> str:
    return gateway.host.sh("docker ps -aq; docker images -q 'ds01-health/*'; docker network ls -q -f name=._.65534")


def test_the_gateway_withstands_and_nothing_is_left_behind(gateway: GatewayHost):
    gateway.run("alice", "docker", "create", "--name", "web", "ds01-lab/base", "true")
    before = left(gateway)
    found = check(gateway, SOCKET)
    assert (found["status"], found["name"]) == ("ok", "gateway"), found
    assert left(gateway) == before
    refused = [event for event in gateway.events("gateway.refuse") if event["actor"]["user"] == "nobody"]
    assert any("cannot be bound" in event["reason"] for event in refused)


def test_an_engine_without_a_gateway_is_found_out(gateway: GatewayHost):
    gateway.host.sh(f"chmod 666 {ENGINE}")
    try:
        found = check(gateway, ENGINE)
    finally:
        gateway.host.sh(f"chmod 660 {ENGINE}")
    assert found["status"] == "failed"
    for fault in (
        "does not know who asks",
        "a container with the host's root directory was made",
        "a privileged container was made",
        "outside the limits of its owner",
        "somebody else's container was seen, entered or removed",
        "the engine itself, answers nobody",
    ):
        assert fault in found["detail"], found
    assert left(gateway) == ""


def test_what_people_build_with_is_missed(gateway: GatewayHost):
    script = (
        f"import sys; sys.path.insert(0, '{CODE}'); import dataclasses, json; "
        "from ds01.health.engine import check_builders; print(json.dumps(dataclasses.asdict(check_builders())))"
    )
    assert json.loads(gateway.host.run("python3", "-c", script).stdout)["status"] == "ok"
    gone = r"s/(Package: netavark\nStatus: )install ok installed/$1deinstall ok config-files/"
    gateway.host.sh(f"cp -p /var/lib/dpkg/status /root/status; perl -0pi -e '{gone}' /var/lib/dpkg/status")
    try:
        found = json.loads(gateway.host.run("python3", "-c", script).stdout)
    finally:
        gateway.host.sh("mv /root/status /var/lib/dpkg/status")
    assert (found["status"], found["fix"]) == ("warning", "apt-get install netavark")


def test_a_gateway_that_is_gone_is_found_out(gateway: GatewayHost):
    found = check(gateway, "/run/gw/nothing.sock")
    assert found["status"] == "failed"
    assert "No such file" in found["detail"]
    assert left(gateway) == ""
