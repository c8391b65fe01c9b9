"""A lab host whose engine is behind the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01.policy import load_policy
from lab import testhost
from tests.integration.gateway.commands_host import AD, HOME, Commands, equip
from tests.integration.gateway.gateway_host import CODE, MAIN, POLICY, SETTING, GatewayHost, install_units
from tests.integration.gateway.gpu_host import GpuHost
from tests.integration.gateway.raw_requests import IMAGE


@pytest.fixture(autouse=True)
def _tidy(gateway: GatewayHost) -> Iterator[None]:
    """Every test finds an empty engine, but for everybody's own bridge: the next one may need it at once."""
    yield
    gateway.host.sh(
        # A container that goes by itself meanwhile is an error to the engine, and nothing that keeps the rest.
        "set +e; docker rm -fv $(docker ps -aq); docker volume rm -f $(docker volume ls -q);"
        "docker network prune -f --filter label!=ds01.default",
        check=False,
    )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHost]:
    """One for each file: what a file's tests install, configure or break, no other file meets."""
    policy: Path = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    with testhost.fresh() as host:
        host.run("mkdir", "-p", CODE, "/run/gw")
        host.copy("src/ds01", f"{CODE}/")
        host.write(f"{CODE}/tables.json", json.dumps(load_policy(policy).policy.tables))
        host.write(f"{CODE}/main.py", MAIN)
        install_units(host)
        host.sh(SETTING)
        yield GatewayHost(host)


@pytest.fixture
def victim(gateway: GatewayHost) -> str:
    """The id of a container of bob's, who has a volume and a network besides."""
    gateway.host.sh("install -d -o bob -g bob -m 700 /srv/people/bob; install -d -o alice -g alice /srv/people/alice")
    gateway.run("bob", "docker", "run", "-d", "--name", "victim", "-v", "secret:/s", IMAGE, "sleep", "999")
    gateway.run("bob", "docker", "network", "create", "private")
    found: str = gateway.inspect(f"victim._.{gateway.uid['bob']}")["Id"]
    return found


@pytest.fixture(scope="module")
def equipped(gateway: GatewayHost) -> GatewayHost:
    """The host with people's commands on it."""
    equip(gateway)
    return gateway


@pytest.fixture
def do(equipped: GatewayHost) -> Commands:
    """What people type there; their homes are empty."""
    commands = Commands(equipped)
    homes = f"{HOME} /srv/people/{AD}"
    equipped.host.sh(f"find {homes} -mindepth 1 -delete; docker rmi {' '.join(commands.tags())}", check=False)
    return commands


@pytest.fixture
def all_free(lab: GpuHost) -> Iterator[None]:
    """Every test finds all devices free; `lab` is the file's host with GPUs."""
    yield
    lab.host.sh("docker rm -fv $(docker ps -aq)", check=False)
    lab.root("[allocator().close(token) for token in tokens()]")
