"""What breaks beside the gateway closes doors, opens none, and ends nothing that was under way."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest

from tests.integration.gateway.gateway_host import CODE, GatewayHost
from tests.integration.gateway.gpu_host import until

IMAGE = "ds01-lab/base"
TABLES = f"{CODE}/tables.json"
COUNT = "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; sleep 0.1; done"
NUMBERS = "".join(f"{number}\n" for number in range(1, 31))
FRESH_S = 1.2
"""A little more than the gateway takes to look at the policy again."""


@pytest.fixture(autouse=True)
def _box(gateway: GatewayHost) -> Iterator[None]:
    gateway.run("alice", "docker", "run", "-d", "--stop-signal=KILL", "--name", "box", IMAGE, "sleep", "299")
    failed = gateway.host.sh("systemctl show -P NRestarts gw.service")
    yield
    # Nothing of this has ended the process, whatever else it did.
    assert gateway.host.sh("systemctl show -P NRestarts gw.service") == failed


def there(gateway: GatewayHost) -> list[str]:
    return gateway.host.sh("docker ps -a --format '{{.Names}}'").split()


def test_a_policy_that_breaks_stops_what_is_new_and_nothing_else(gateway: GatewayHost):
    good = gateway.host.sh(f"cat {TABLES}")
    running = gateway.start("alice", f"docker exec box sh -c '{COUNT}'")
    gateway.host.write(TABLES, good[:100])
    try:
        time.sleep(FRESH_S)
        for command in (f"run --name new {IMAGE} true", f"create {IMAGE}", "update --cpus 0.2 box"):
            said = gateway.run("alice", "docker", *command.split(), check=False)
            assert said.returncode != 0
            assert "the policy on this server cannot be used" in said.stderr
        assert there(gateway) == [f"box._.{gateway.uid['alice']}"]
        # What runs goes on, and can be used and ended; nobody is an administrator by a policy that cannot be read.
        assert gateway.sh("alice", "docker exec box echo on; docker ps --format '{{.Names}}'") == "on\nbox\n"
        assert gateway.sh("carol", "docker ps -aq") == ""
        assert running.communicate(timeout=120)[0] == NUMBERS
    finally:
        gateway.host.write(TABLES, good)
    time.sleep(FRESH_S)
    gateway.run("alice", "docker", "run", "--rm", IMAGE, "true")
    assert "box" in gateway.sh("carol", "docker ps --format '{{.Names}}'")


GPUS = ("--gpus", "all")
"""What the ledger must say yes to. Other objects carry their owner in their names."""


def test_a_locked_ledger_gives_no_gpu_and_stops_nothing_else(gateway: GatewayHost):
    lock = "import sqlite3, time; db = sqlite3.connect('/var/lib/gw-ledger.db', isolation_level=None, timeout=60)"
    hold = f"{lock}; db.execute('begin exclusive'); open('/run/gw/locked', 'w').close(); time.sleep(600)"
    gateway.host.run("systemd-run", "-q", "--unit=locker", "python3", "-c", hold)
    try:
        gateway.host.sh("timeout 60 sh -c 'until [ -e /run/gw/locked ]; do sleep 0.1; done'")
        refused = gateway.run("alice", "docker", "create", *GPUS, IMAGE, check=False)
        assert refused.returncode != 0
        assert "Error response from daemon" in refused.stderr
        gateway.run("alice", "docker", "create", "--name", "new", IMAGE)
        assert gateway.sh("alice", "docker exec box echo on; docker ps -aq | wc -l") == "on\n2\n"
        assert (
            gateway.sh("bob", "docker rm -f new; docker ps -aq")
            == "Error response from daemon: No such container: new\n"
        )
    finally:
        gateway.host.sh("systemctl stop locker")
    # What could not be written is known all the same, also to the next process.
    before = gateway.main_pid()
    gateway.host.sh("systemctl reload gw.service")
    assert until(lambda: gateway.main_pid() != before)
    assert gateway.sh("alice", "docker rm new") == "new\n"


def test_a_full_disk_gives_no_gpu_and_stops_nothing_else(gateway: GatewayHost):
    running = gateway.start("alice", f"docker exec box sh -c '{COUNT}'")
    pid = gateway.main_pid()
    before = len(gateway.events("gateway.refuse"))
    # No file of this process grows: ledger, events and anything spooled.
    gateway.host.sh(f"prlimit --pid {pid} --fsize=0:")
    try:
        refused = gateway.run("alice", "docker", "create", *GPUS, IMAGE, check=False)
        assert refused.returncode != 0
        # Streams need no disk, and a refusal that cannot be recorded is one all the same.
        assert gateway.sh("alice", "docker exec box echo on; docker ps -aq | wc -l") == "on\n1\n"
        assert "cannot be bound" in gateway.sh("alice", f"docker run --rm -v /srv:/x {IMAGE} true")
        assert "Error response" in gateway.sh("alice", f"docker save {IMAGE} | docker load")
        assert running.communicate(timeout=120)[0] == NUMBERS
    finally:
        gateway.host.sh(f"prlimit --pid {pid} --fsize=unlimited:")
    assert len(gateway.events("gateway.refuse")) == before
    gateway.run("alice", "docker", "create", "--name", "new", IMAGE)


def test_an_engine_killed_in_the_middle_of_streams_ends_only_these(gateway: GatewayHost):
    code = """
def main():
    waiting = connect()
    waiting.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    first = waiting.recv(4096)
    time.sleep(4)
    waiting.sendall(b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    return [first[:12].decode(), waiting.recv(4096)[:12].decode()]
"""
    streams = [
        gateway.start("alice", command)
        for command in (
            "docker exec box sh -c 'echo begun; exec sleep 600'", "docker logs -f box",
            "docker exec -i box sh -c 'echo begun; exec cat'", "docker events",
        )
    ]  # fmt: skip
    # One that begins to listen after the engine is back would listen for ever.
    while len(select.select([stream.stdout for stream in streams], [], [], 0.2)[0]) < len(streams):
        gateway.run("alice", "docker", "exec", "box", "sh", "-c", "echo logged >/proc/1/fd/1")
    gateway.host.sh("kill -9 $(systemctl show -P MainPID docker)")
    for stream in streams:
        stream.wait(timeout=120)
    gateway.host.sh("timeout 120 sh -c 'until docker ps -q 2>/dev/null; do sleep 0.2; done' >/dev/null")
    gateway.run("alice", "docker", "start", "box")
    # A connection that was open all the time is as good as before.
    assert gateway.python("alice", code) == ["HTTP/1.1 200", "HTTP/1.1 200"]
    assert gateway.sh("alice", f"docker run --rm {IMAGE} echo on") == "on\n"


def test_much_goes_through_and_little_stays(gateway: GatewayHost):
    pid = gateway.main_pid()
    before = int(gateway.host.sh(f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status"))
    # What earlier tests took is no peak of this one.
    gateway.host.sh(f"echo 5 >/proc/{pid}/clear_refs")
    # As input, output, log, archive in and archive out.
    said = gateway.sh(
        "alice",
        f"""
        head -c 150m /dev/zero | docker exec -i box sh -c 'wc -c'
        docker exec box head -c 150m /dev/zero | wc -c
        docker run --name talker {IMAGE} sh -c 'yes {"0" * 63} | head -c 3m' >/dev/null; docker logs talker | wc -c
        cd /srv/people/alice; head -c 150m /dev/zero >big; docker cp -q big box:/tmp/big; rm big
        docker cp box:/tmp/big - | tar xO | wc -c
        """,
    )
    assert said.split() == ["157286400", "157286400", "3145728", "157286400"]
    after = int(gateway.host.sh(f"awk '/VmHWM/ {{print $2}}' /proc/{pid}/status"))
    assert after - before < 20_000
