"""The gateway beside the engine itself, the same requests in turns in one run, on a lab host.

The table is the result. What people notice must not be far away from the engine: ratios are asserted loosely, since the
gateway, the engine and the client share the same few processors here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab import testhost
from tests.integration.gateway.conftest import gateway
from tests.integration.gateway.gateway_host import CODE, GatewayHost

__all__ = ["gateway"]

IMAGE = "ds01-lab/base"
TARGETS = {
    "_ping, keep-alive": "0.4 ms added",
    "docker ps": "ratio 1.05",
    "docker run --rm": "ratio 1.05",
    "docker run --rm, alike": "ratio 1.05",
    "exec, 1 GiB out": "ratio 1.11",
    "logs, 16 MiB": "ratio 1.11",
    "archive, 1 GiB out": "ratio 1.25",
}
"""At most so much, on a machine that has nothing else to do: streams at 0.9 of the engine's speed, archives at 0.8.

`alike` asks the engine for the very container that the gateway makes, with its limits and its owner's own network: what
is left is what the gateway takes. The row above it has what the engine takes for these as well.
"""

MEASURE = """
import subprocess, statistics, json
PING = b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
LIST = b"GET /containers/json?all=1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"
def timed(action, runs):
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        action()
        times.append((time.perf_counter() - begun) * 1000)
    return times
def cli(path, *arguments):
    environment = {**os.environ, "DOCKER_HOST": "unix://" + path}
    return lambda: subprocess.run(["docker", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
def asking(sock, request):
    sock.sendall(request)
    data = b""
    while not data.endswith(b"OK"):
        data += sock.recv(4096)
def run(path, *flags):
    return cli(path, "run", "--rm", *flags, "ds01-lab/base", "true")
def actions(path):
    plain = path == "/run/docker.sock"
    kept = connect(path)
    def fresh():
        sock = connect(path)
        asking(sock, PING)
        sock.close()
    def listing():
        sock = connect(path)
        sock.sendall(LIST)
        while sock.recv(1 << 18):
            pass
    return {
        "_ping, keep-alive": (lambda: asking(kept, PING), 400),
        "_ping, new connection": (fresh, 200),
        "list of 200 containers": (listing, 20),
        "docker ps": (cli(path, "ps"), 80),
        "docker run --rm": (run(path), 24),
        "docker run --rm, alike": (run(path, *(alike if plain else ())), 24),
        "exec, 1 GiB out": (cli(path, "exec", box, "dd", "if=/dev/zero", "bs=64k", "count=16k"), 8),
        "logs, 16 MiB": (cli(path, "logs", talker), 8),
        "archive, 1 GiB out": (cli(path, "cp", box + ":/tmp/big", "-"), 8),
    }
def main(ids, ours, flags):
    global box, talker, alike
    box, talker = ids
    alike = flags
    sides = {path: actions(path) for path in ("/run/docker.sock", ours)}
    found = {}
    for name in sides["/run/docker.sock"]:
        times = {path: [] for path in sides}
        for turn in range(8):
            for path in sides:
                action, runs = sides[path][name]
                times[path] += timed(action, max(1, runs // 8))
        found[name] = [statistics.median(times[path]) for path in sides]
    return found
"""
CREATE = """
def main(uid, image):
    body = b'{"Image":"%b","Cmd":["true"]}' % image.encode()
    head = "POST /containers/create?name=n%d._.%d HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
    made = 0
    for number in range(197):
        raw = (head % (number, uid)).encode() + b"Connection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        made += talk(raw + body, "/run/docker.sock", 60).startswith("HTTP/1.1 201")
    return made
"""
TUNNELS = """
def main(pid):
    def rss():
        with open(f"/proc/{pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    before, held = rss(), []
    head = b"Host: x\\r\\nConnection: Upgrade\\r\\nUpgrade: tcp\\r\\nContent-Length: 0\\r\\n\\r\\n"
    for _ in range(200):
        held.append(connect())
        held[-1].sendall(b"POST /containers/box/attach?stream=1&stdout=1 HTTP/1.1\\r\\n" + head)
        assert b"101" in held[-1].recv(4096)
    return (rss() - before) / 1024
"""


@pytest.fixture(scope="session")
def lab_host() -> Iterator[testhost.LabHost]:
    with testhost.fresh() as host:
        yield host


def flags_of(container: dict[str, Any]) -> list[str]:
    """What `docker run` must be told for a container like this one, which was made by the gateway."""
    host = container["HostConfig"]
    flags = {
        "network": host["NetworkMode"],
        "network-alias": "alike",
        "cgroup-parent": host["CgroupParent"],
        "cgroupns": host["CgroupnsMode"],
        "ipc": host["IpcMode"],
        "cpus": host["NanoCpus"] / 1e9,
        "memory": host["Memory"],
        "memory-swap": host["MemorySwap"],
        "pids-limit": host["PidsLimit"],
        "shm-size": host["ShmSize"],
    }
    several = {
        "cap-drop": host["CapDrop"],
        "log-opt": [f"{name}={value}" for name, value in host["LogConfig"]["Config"].items()],
        "device-read-bps": [f"{disk['Path']}:{disk['Rate']}" for disk in host["BlkioDeviceReadBps"] or ()],
        "device-write-bps": [f"{disk['Path']}:{disk['Rate']}" for disk in host["BlkioDeviceWriteBps"] or ()],
    }
    return [f"--{name}={value}" for name, value in flags.items()] + [
        f"--{name}={value}" for name, values in several.items() for value in values
    ]


def test_gateway(gateway: GatewayHost) -> None:
    uid = gateway.uid["alice"]
    gateway.run("alice", "docker", "run", "-d", "--name", "box", IMAGE, "sleep", "999")
    gateway.run("alice", "docker", "run", "--name", "talker", IMAGE, "sh", "-c", f"yes {'0' * 1023} | head -c 16m")
    gateway.run("alice", "docker", "exec", "box", "sh", "-c", "head -c 1024m /dev/zero >/tmp/big")
    made = [gateway.inspect(f"{name}._.{uid}") for name in ("box", "talker")]
    # Far more than anybody may have: made past the gateway, with a name that is its owner's.
    assert gateway.python("root", CREATE, uid=uid, image=IMAGE) == 197
    gateway.host.sh(
        f"sed -i 's/\\(max_containers_per_user.: \\)20/\\1999/' {CODE}/tables.json; systemctl restart gw.service"
    )
    # Only root reaches both; on the socket of a person it is that person.
    gateway.run("alice", "docker", "create", "-v", "/var/run/docker.sock:/x", IMAGE)
    ours = f"/run/gw/users/{uid}/docker.sock"
    found: dict[str, Any] = gateway.python(
        "root", MEASURE, ids=[item["Id"] for item in made], ours=ours, flags=flags_of(made[0])
    )
    grown = gateway.python("alice", TUNNELS, pid=gateway.main_pid())
    print(f"\n  {'median':24}{'engine':>12}{'gateway':>12}{'ratio':>8}{'added':>12}   target")
    for name, (engine, through) in found.items():
        added = through - engine
        row = f"  {name:24}{engine:9.2f} ms{through:9.2f} ms{through / engine:8.2f}{added:9.2f} ms"
        print(f"{row}   {TARGETS.get(name, '')}")
    print(f"  200 idle tunnels: {grown:.1f} MiB more")
    assert found["docker ps"][1] < found["docker ps"][0] * 2
    assert found["docker run --rm"][1] < found["docker run --rm"][0] * 2
    assert found["exec, 1 GiB out"][1] < found["exec, 1 GiB out"][0] * 3
    assert grown < 30
