"""Compose where it does more than make containers, and what it says of what is not offered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
SLEEPS: dict[str, Any] = {"image": IMAGE, "command": "sleep 999", "stop_signal": "KILL"}


def bring(gateway: GatewayHost, user: str, **files: str) -> None:
    """Put files into somebody's project."""
    place = f"/srv/people/{user}"
    gateway.host.sh(f"install -d -o {user} -g {user} {place} {place}/lab")
    for name, text in files.items():
        gateway.run(user, "sh", "-c", f"cat >{place}/lab/{name.replace('_', '.')}", stdin=text.encode())


WATCHED = {"web": SLEEPS | {"build": ".", "image": "watched", "develop": {"watch": [
    {"action": "sync", "path": "./src", "target": "/synced"}]}}}  # fmt: skip


def test_watch_brings_what_changes_into_the_container(gateway: GatewayHost):
    bring(
        gateway, "alice", compose_yaml=json.dumps({"services": WATCHED}), Dockerfile=f"FROM {IMAGE}\n",
    )  # fmt: skip
    said = gateway.sh("alice", """
    cd /srv/people/alice/lab; mkdir -p src; timeout 120 docker compose watch >log 2>&1 & watching=$!
    for turn in $(seq 200); do
      # Until the watch is there nothing is seen, so each turn changes it again.
      echo version $turn >src/page; sleep 0.3
      docker compose exec -T web cat /synced/page 2>/dev/null && break
    done
    kill $watching; cat log; docker compose down -t 0 --rmi local""")  # fmt: skip
    assert "\nversion " in f"\n{said}", said


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        ({"volumes": ["/etc:/x"]}, "/etc cannot be bound into a container"),
        ({"build": {"context": ".", "network": "host"}}, "a build uses the default network"),
    ],
)
def test_what_is_not_offered_is_said_by_compose(gateway: GatewayHost, service: dict[str, Any], reason: str):
    bring(
        gateway, "alice", compose_yaml=json.dumps({"services": {"web": SLEEPS | service}}),
        Dockerfile=f"FROM {IMAGE}\nRUN true\n",
    )  # fmt: skip
    said = gateway.sh(
        "alice", "cd /srv/people/alice/lab; docker compose up -d --build; echo code $?; docker compose ps -q"
    )
    assert reason in said
    assert "\ncode 0" not in said
