"""The ledger is what is running, whatever happens to it."""

import json
import time

import pytest

_LEDGER = "/var/lib/ds01/ledger.db"
_CLAIM = """
import sys
from ds01.cdi.files import SpecFiles
from ds01.ledger import Ledger, leases
from ds01.ledger.devices import devices
with Ledger() as ledger:
    with ledger.transaction() as tx:
        taken = {lease.device for lease in leases.live(tx)}
        free = [row.uuid for row in devices(tx) if row.uuid not in taken and not row.foreign_use]
        claim = leases.open_claim(tx, uid=1001, user="x", group_name="student", priority=1, request="{}")
        leases.grant(tx, claim.token, free[0], expires=tx.now + 60_000)
    SpecFiles().write(claim.token, free[:1])
print(claim.token, free[0])
"""
_LIVE = """
import json
from ds01.ledger import Ledger, leases
with Ledger() as ledger, ledger.read() as view:
    print(json.dumps([[lease.container_name, lease.device, lease.state] for lease in leases.live(view)]))
"""

_INDEX = """
from ds01.ledger import Ledger
from ds01.ledger.devices import device
with Ledger() as ledger, ledger.read() as view:
    print(device(view, "{}").gpu_index)
"""


def python(host, script: str) -> str:
    return host.check_output("/opt/ds01/current/bin/python -c %s", script)


def live(host) -> list[list[str]]:
    return json.loads(python(host, _LIVE))


def wait_for(host, expected: list[list[str]]) -> None:
    deadline = time.monotonic() + 120
    while live(host) != expected and time.monotonic() < deadline:
        time.sleep(0.3)
    assert live(host) == expected


@pytest.fixture
def work(host):
    """A container with a GPU, made as the gateway makes it, by somebody who was killed right afterwards."""
    host.check_output("mkdir -p /run/cdi && nvidia-ctk cdi generate --output=/run/cdi/nvidia.yaml")
    token, device = python(host, _CLAIM).split()
    host.check_output(
        "docker run --detach --name work._.1001 --network none --device ds01.io/gpu=%s ds01-lab/base sleep 1000", token
    )
    wait_for(host, [["work._.1001", device, "running"]])
    yield token, device
    host.run("docker rm --force work._.1001 foreign")
    wait_for(host, [])


def test_what_keeps_the_ledger_runs(host):
    assert host.service("ds01-reconcile.service").is_running
    assert host.service("ds01-cdi.service").is_enabled
    ledger = host.file(_LEDGER)
    assert (ledger.user, oct(ledger.mode)) == ("root", oct(0o600))
    units = "ds01-reconcile.service ds01-cdi.service"
    assert host.run(f"systemd-analyze security --no-pager --threshold=26 {units}").rc == 0
    assert host.run("systemctl start ds01-enforce-ledger-backup.service").rc == 0
    assert host.check_output("ls /var/lib/ds01/ledger-backups | wc -l") != "0"


def test_a_lost_ledger_comes_back_and_nothing_is_stopped(host, work):
    token, device = work
    started = host.check_output("docker inspect --format '{{.State.StartedAt}}' work._.1001")
    host.check_output("rm -rf %s* /var/lib/ds01/ledger-backups", _LEDGER)
    host.check_output("ds01 enforce reconcile")
    assert live(host) == [["work._.1001", device, "running"]]
    assert host.check_output("docker inspect --format '{{.State.StartedAt}}' work._.1001") == started
    assert token in host.check_output("ls /run/cdi")
    assert "begun anew" in host.check_output("tail -n 20 /var/log/ds01/events.jsonl")


def test_whoever_uses_a_device_without_a_lease_is_reported_and_left_alone(host, work):
    _, device = work
    node = f"/dev/nvidia{python(host, _INDEX.format(device))}"
    host.check_output("docker run --detach --name foreign --network none --device %s ds01-lab/base sleep 1000", node)
    said = host.run("ds01 enforce reconcile")
    assert said.rc == 1
    assert "is used by foreign and work._.1001 at once" in said.stderr
    assert host.check_output("docker inspect --format '{{.State.Running}}' foreign") == "true"


def test_at_boot_specs_are_there_before_the_engine(host, work):
    token, _ = work
    host.check_output("rm /run/cdi/ds01.io-gpu-%s.json && systemctl restart ds01-cdi.service", token)
    assert token in host.check_output("ls /run/cdi")
    order = host.check_output("systemctl show --property=Before --value ds01-cdi.service")
    assert "docker.service" in order.split()
