"""`/ds01/v1` as two people, an administrator, and from within a container."""

from __future__ import annotations

import itertools
import json
import select
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.gateway.gateway_host import CODE, SOCKET, GatewayHost

LEDGER = "/var/lib/gw-ledger.db"
# Two instances of one GPU, as the reconciler would note them.
DEVICES = f"""
import sys; sys.path.insert(0, "{CODE}")
from pathlib import Path
from ds01.gpu.model import Device, Gpu, Inventory, Placement
from ds01.ledger import Ledger
from ds01.ledger.devices import take_inventory
part = lambda n: Device(f"MIG-{{n}}", "GPU-0", 0, n, n + 1, 0, Placement(n, 1), "1g.10gb", 10 << 30, 1 / 7, "A100")
gpu = Gpu(index=0, uuid="GPU-0", model="A100", pci_address="0000:01:00.0", memory_bytes=80 << 30, mig_capable=True,
          mig_enabled=True, mig_pending=True, devices=(part(0), part(1)))
with Ledger(Path("{LEDGER}")).transaction() as tx:
    take_inventory(tx, Inventory((gpu,)))
    tx.set_verified()
"""
CURL = f"curl -s --max-time 120 --unix-socket {SOCKET} -H 'Content-Type: application/json' -w '\\n%{{http_code}}'"


def call(gateway: GatewayHost, user: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    sent = "" if body is None else f"--data-binary '{json.dumps(body)}'"
    said = gateway.sh(user, f"{CURL} -X {method} {sent} 'http://x/ds01/v1/{path}'")
    content, _, status = said.rpartition("\n")
    return int(status), json.loads(content)


@pytest.fixture(scope="module", autouse=True)
def _devices(gateway: GatewayHost) -> None:
    gateway.host.run("python3", "-c", DEVICES)


def test_everybody_is_who_the_socket_says(gateway: GatewayHost):
    status, me = call(gateway, "alice", "GET", "me")
    assert (status, me) == (
        200,
        {"uid": gateway.uid["alice"], "user": "alice", "group": "student", "group_from": "members", "admin": False,
         "via": "docker.sock"},
    )  # fmt: skip
    assert call(gateway, "carol", "GET", "me")[1]["admin"]
    # Others are shown to administrators only.
    for path in ("limits?user=bob", "usage?user=bob", "leases?user=bob", "events?user=bob"):
        status, said = call(gateway, "alice", "GET", path)
        assert (status, said["rule"], said["message"]) == (403, "api.user", "bob is not you"), path
        assert set(said) == {"message", "rule", "current", "requested", "limit", "fix"}
        assert call(gateway, "carol", "GET", path)[0] == 200, path
    assert call(gateway, "carol", "GET", "limits?user=nobody-of-that-name")[0] == 404


def test_in_a_container_it_answers_as_its_owner(gateway: GatewayHost):
    gateway.host.sh(
        "cd /; tar -ch usr/bin/curl $(ldd /usr/bin/curl | grep -o '/lib[^ ]*' | sed 's,^/,,') |"
        " docker import - ds01-lab/curl"
    )
    for inside in ("0", str(gateway.uid["carol"])):
        said = gateway.sh(
            "alice",
            f"docker run --rm -u {inside} -v /var/run/docker.sock:/var/run/docker.sock ds01-lab/curl"
            " /usr/bin/curl -s --unix-socket /var/run/docker.sock http://x/ds01/v1/me",
        )
        me = json.loads(said)
        assert (me["user"], me["admin"], me["via"]) == ("alice", False, "user-socket")


def test_devices_are_asked_for_shown_and_given_back(gateway: GatewayHost):
    status, given = call(gateway, "alice", "POST", "leases", {"request": {"count": 1}})
    assert status == 200, given
    token = given["token"]
    # Everybody sees who holds it; what it is for is the holder's and the administrator's business.
    for user, shown in (("alice", token), ("bob", None), ("carol", token)):
        device = call(gateway, user, "GET", "status")[1]["devices"][0]
        assert (device["holder"]["user"], device["holder"]["token"]) == ("alice", shown)
    assert [device["id"] for device in call(gateway, "alice", "GET", "leases")[1]] == ["0:0"]
    assert call(gateway, "bob", "GET", "leases")[1] == []
    # The quota of the other one, the queue and its end.
    status, said = call(gateway, "bob", "POST", "gpus/why", {"request": {"count": 1}})
    assert (status, said["devices"]) == (200, {"0:0": "alice holds 0:0", "0:1": None})
    assert call(gateway, "bob", "POST", "leases", {"request": {"count": 1}})[0] == 200
    status, said = call(gateway, "bob", "POST", "leases", {"request": {"count": 1}, "wait_s": 600})
    assert (status, said.get("position")) == (200, 1), said
    assert call(gateway, "alice", "GET", "queue")[1][0]["user"] == "bob"
    # What is another one's is not there.
    assert call(gateway, "alice", "DELETE", f"queue/{said['queued']}")[0] == 404
    assert call(gateway, "bob", "DELETE", f"leases/{token}")[0] == 404
    assert call(gateway, "bob", "DELETE", f"queue/{said['queued']}")[0] == 200
    assert call(gateway, "alice", "DELETE", f"leases/{token}")[1][0]["state"] == "released"
    for one in call(gateway, "bob", "GET", "leases")[1]:
        assert call(gateway, "carol", "DELETE", f"leases/{one['holder']['token']}")[0] == 200
    assert gateway.events("gateway.admin")[-1]["actor"]["user"] == "carol"
    assert all(device["holder"] is None for device in call(gateway, "bob", "GET", "gpus")[1])


def test_only_administrators_reserve_and_people_end_what_is_theirs(gateway: GatewayHost):
    wish = {"user": "alice", "starts": 4_070_908_800_000, "ends": 4_070_912_400_000, "devices": ["0:1"]}
    status, said = call(gateway, "alice", "POST", "reservations", wish)
    assert (status, said["rule"]) == (403, "reservations")
    status, made = call(gateway, "carol", "POST", "reservations", wish)
    assert (status, made["devices"]) == (200, ["0:1"])
    assert call(gateway, "bob", "DELETE", f"reservations/{made['number']}")[0] == 404
    assert call(gateway, "bob", "GET", "reservations")[1][0]["user"] == "alice"
    assert call(gateway, "alice", "DELETE", f"reservations/{made['number']}")[0] == 200


def test_events_are_ones_own_and_are_followed(gateway: GatewayHost):
    gateway.sh("bob", "docker run --rm -v /etc:/x ds01-lab/base true")
    refused = next(e for e in reversed(gateway.events("gateway.refuse")) if e["actor"]["user"] == "bob")
    assert refused["id"] in {e["id"] for e in call(gateway, "bob", "GET", "events")[1]["events"]}
    assert refused["id"] in {e["id"] for e in call(gateway, "carol", "GET", "events")[1]["events"]}
    assert refused["id"] not in {e["id"] for e in call(gateway, "alice", "GET", "events")[1]["events"]}
    assert call(gateway, "bob", "GET", f"events/{refused['id']}")[1]["reason"] == refused["reason"]
    assert call(gateway, "alice", "GET", f"events/{refused['id']}")[0] == 404
    follower = gateway.start("alice", f"exec curl -sN --unix-socket {SOCKET} 'http://x/ds01/v1/events?follow=1'")
    try:
        assert follower.stdout is not None
        # Nobody says when it begins to listen; the same refusal is recorded once a minute only.
        for number in itertools.count():
            for user in ("bob", "alice"):
                gateway.sh(user, f"docker run --rm --name n{number} -v /root:/{user} ds01-lab/base true")
            if select.select([follower.stdout], [], [], 1)[0]:
                break
            assert number < 60
        # The first that comes is one's own: what happened to the other one before it does not.
        assert json.loads(follower.stdout.readline())["actor"]["user"] == "alice"
    finally:
        follower.kill()
        follower.wait()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404), ("POST", "me", 404), ("DELETE", "queue/x", 400), ("DELETE", "queue/0", 400),
        ("GET", "me?x=1", 400), ("GET", "limits?user=a&user=b", 400), ("GET", "events?type=x", 400),
        ("GET", "events?since=never", 400), ("GET", "events?limit=1001", 400), ("GET", "containers/none/why", 404),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_shape_of_the_api(gateway: GatewayHost, method: str, path: str, status: int):
    code, said = call(gateway, "alice", method, path)
    assert (code, set(said)) == (status, {"message", "rule", "current", "requested", "limit", "fix"})
    assert said["message"]


@pytest.mark.parametrize(
    "body", [[], {"x": 1}, {"request": []}, {"request": {"count": "1"}}, {"request": {}, "wait_s": True}, {"user": 1}]
)
def test_a_body_that_makes_no_sense_is_refused(gateway: GatewayHost, body: Any):
    assert call(gateway, "alice", "POST", "leases", body)[0] == 400


@pytest.fixture
def _no_ledger(gateway: GatewayHost) -> Iterator[None]:
    gateway.host.sh(f"mv {LEDGER} {LEDGER}.away")
    yield
    gateway.host.sh(f"mv {LEDGER}.away {LEDGER}")


@pytest.mark.usefixtures("_no_ledger")
def test_without_a_ledger_everything_else_goes_on(gateway: GatewayHost):
    status, said = call(gateway, "alice", "GET", "status")
    assert (status, said["rule"]) == (503, "gpu.ledger")
    assert "there is no ledger" in said["message"] + said["fix"]
    assert call(gateway, "alice", "GET", "me")[0] == 200
    assert call(gateway, "alice", "GET", "events")[0] == 200
    health = call(gateway, "alice", "GET", "health")[1]
    assert (health["status"], [check["status"] for check in health["checks"]]) == ("failed", ["ok", "failed", "ok"])
    assert "CONTAINER ID" in gateway.sh("alice", "docker ps")


def test_a_locked_ledger_delays_only_who_changes_it(gateway: GatewayHost):
    hold = (
        f"import sqlite3, time; db = sqlite3.connect('{LEDGER}', isolation_level=None); db.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); time.sleep(600)"
    )
    holder = gateway.start("root", f'exec python3 -c "{hold}"')
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        changing = gateway.start("alice", f"{CURL} -X POST -d '{{}}' http://x/ds01/v1/leases")
        assert call(gateway, "bob", "GET", "status")[0] == 200
        assert "CONTAINER ID" in gateway.sh("bob", "docker ps")
        content, _, status = changing.communicate(timeout=120)[0].rpartition("\n")
        assert (status, json.loads(content)["rule"]) == ("503", "gpu.ledger")
    finally:
        gateway.host.sh("pkill -f 'BEGIN IMMEDIATE'", check=False)
        holder.wait()


def test_our_client_asks_and_follows_as_whoever_runs_it(gateway: GatewayHost):
    gateway.host.sh(f"mkdir -p /srv/code; cp -r {CODE}/ds01 /srv/code/; chmod -R o+rX /srv/code")
    code = """
from ds01.api.errors import ApiError
from ds01.cli import client
print(client.ask("GET", "me")["user"], flush=True)
try:
    client.ask("GET", "usage", {"user": "bob"})
except ApiError as error:
    print(error.exit_code, error, flush=True)
print(next(client.follow_events({"since": "1h", "type": "gateway.refuse"})).decode())
"""
    gateway.sh("alice", "docker run --rm -v /etc:/x ds01-lab/base true")
    ask = f"PYTHONPATH=/srv/code DS01_SOCKET={SOCKET} timeout 120 python3 -c '{code}'"
    said = gateway.sh("alice", ask).splitlines()
    assert said[:2] == ["alice", "3 bob is not you: leave the user out: only administrators ask for others"]
    assert json.loads(said[2])["actor"]["user"] == "alice"
