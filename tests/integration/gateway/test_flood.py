"""A loop that connects without end shuts out the one who runs it, for a while, and nobody else."""

from __future__ import annotations

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost
from tests.integration.gateway.gpu_host import until

FLOOD = f"""
import os, socket, time
end = time.monotonic() + 300
os.fork()
while time.monotonic() < end:
    try:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect("{SOCKET}")
    except OSError:
        pass
    finally:
        sock.close()
"""
# A new connection for each question, from as many at once as anybody may have; each waits for its answer.
PATIENT = f"""
import selectors, socket, time
QUESTION = b"GET /_ping HTTP/1.1\\r\\nHost: d\\r\\nConnection: close\\r\\n\\r\\n"
ready = selectors.DefaultSelector()
def ask():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("{SOCKET}")
    sock.sendall(QUESTION)
    ready.register(sock, selectors.EVENT_READ)
answered, end = 0, time.monotonic() + 5
for _ in range(200):
    ask()
while time.monotonic() < end:
    for key, _ in ready.select(1):
        answered += key.fileobj.recv(1000).startswith(b"HTTP/1.1 200 ")
        ready.unregister(key.fileobj)
        key.fileobj.close()
        ask()
print(answered)
"""
# So many that all of them stay in the backlog until the gateway takes them.
MANY = f"""
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (4500, 4500))
held = []
for _ in range(4000):
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    held.append(sock)
    try:
        sock.connect("{SOCKET}")
    except OSError:
        pass
"""
ASK = "docker ps -q"
STAYS_S, LONGEST_S = 10, 80
"""How long somebody is shut out the first time; each time soon afterwards it is twice that, up to the second."""


def fill(gateway: GatewayHost, user: str) -> None:
    """Let somebody fill the backlog while the gateway stands still, so that all is there when it looks."""
    gateway.host.sh(f"kill -STOP {gateway.main_pid()}")
    try:
        gateway.sh(user, f"python3 -c '{MANY}'")
    finally:
        gateway.host.sh(f"kill -CONT {gateway.main_pid()}")


def events(gateway: GatewayHost) -> list[tuple[int, str]]:
    return [
        (event["details"]["uid"], event["actor"]["user"])
        for event in gateway.events("gateway.refuse")
        if event["rule"] == "gateway.flood"
    ]


def is_open(gateway: GatewayHost) -> bool:
    return gateway.host.sh(f"stat -c %A:%a {SOCKET}; python3 -c 'import os; print(os.listxattr(\"{SOCKET}\"))'") == (
        "srw-rw-rw-:666\n[]\n"
    )


@pytest.mark.parametrize("user", ["carol", "root"])
def test_an_administrator_is_not_shut_out(gateway: GatewayHost, user: str):
    fill(gateway, user)
    assert until(lambda: gateway.sh(user, f"docker -H unix://{SOCKET} ps -q") == "")
    assert is_open(gateway)
    assert events(gateway) == []


def test_one_who_floods_is_shut_out_and_others_go_on(gateway: GatewayHost):
    flooding = gateway.start("alice", f"exec python3 -c '{FLOOD}'")
    alice = gateway.uid["alice"]
    try:
        assert until(lambda: (alice, "alice") in events(gateway))
        assert until(lambda: "permission denied" in gateway.sh("alice", ASK))
        asked = [
            gateway.run(user, "docker", "-H", f"unix://{SOCKET}", "ps", "-q", check=False).returncode
            for user in ("bob", "root") * 4
        ]
        # Whenever she is let in again and goes on, there is a moment in which the backlog may be full.
        assert asked.count(0) >= len(asked) - 1
        # What clients and checks see of the socket stays as it is.
        assert gateway.host.sh(f"stat -c %a {SOCKET}") == "666\n"
    finally:
        gateway.host.sh("pkill -KILL -u alice python3")
        flooding.wait()
    assert until(lambda: gateway.sh("alice", ASK) == "", 2 * LONGEST_S)
    assert is_open(gateway)
    assert f"uid {alice} had more than" in gateway.host.sh("journalctl -u gw -o cat")


def test_one_who_waits_for_answers_may_connect_as_often_as_they_come(gateway: GatewayHost):
    answered = int(gateway.sh("bob", f"python3 -c '{PATIENT}'"))
    assert answered > 200
    assert gateway.sh("bob", ASK) == ""
    assert [uid for uid, _ in events(gateway)].count(gateway.uid["bob"]) == 0


def test_one_who_has_thousands_waiting_is_shut_out(gateway: GatewayHost):
    fill(gateway, "bob")
    assert until(lambda: "permission denied" in gateway.sh("bob", ASK), STAYS_S)
    assert until(lambda: gateway.sh("bob", ASK) == "", 2 * STAYS_S)


@pytest.mark.parametrize("command", ["reload gw.service", "restart gw.service", "kill --signal=KILL gw.service"])
def test_another_process_begins_with_nobody_shut_out(gateway: GatewayHost, command: str):
    fill(gateway, "bob")
    assert until(lambda: not is_open(gateway))
    before = gateway.main_pid()
    gateway.host.sh(f"systemctl {command}")
    assert until(lambda: gateway.main_pid() not in {0, before} and is_open(gateway))
    assert gateway.sh("bob", ASK) == ""
