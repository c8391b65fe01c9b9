"""Networks: everybody's containers are among themselves, whatever they do not say."""

from __future__ import annotations

import json

import pytest

from tests.integration.gateway.gateway_host import CODE, GatewayHost
from tests.integration.gateway.gpu_host import until
from tests.integration.gateway.raw_requests import request, send

IMAGE = "ds01-lab/base"
SERVE = "mkdir -p /w; echo here >/w/index.html; exec busybox httpd -f -p 80 -h /w"
HERE = "$(ip route | head -n 1 | cut -d' ' -f3)"
GET = "wget -q -T {} -O - http://{}/ 2>&1"
# Seconds to wait for who must answer, and for who must not.
SURE, NEVER = 120, 2


@pytest.fixture
def address(gateway: GatewayHost) -> dict[str, str]:
    """A web server of each of two people, and where it is."""
    found = {}
    for user in ("alice", "bob"):
        gateway.run(user, "docker", "run", "-d", "--name", "web", "--stop-signal=KILL", IMAGE, "sh", "-c", SERVE)
        up = f"until {GET.format(SURE, 'localhost')} | grep -q here; do sleep 0.1; done"
        gateway.run(user, "docker", "exec", "web", "timeout", "120", "sh", "-c", up)
        row = json.loads(gateway.run(user, "docker", "inspect", "web").stdout)[0]
        assert list(row["NetworkSettings"]["Networks"]) == ["bridge"]
        found[user] = row["NetworkSettings"]["IPAddress"]
        assert found[user] == row["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] != ""
    return found


def test_containers_reach_their_owners_and_nobody_elses(gateway: GatewayHost, address: dict[str, str]):
    gateway.host.sh("mkdir -p /srv/w; echo hosts >/srv/w/index.html")
    gateway.host.sh("systemd-run -q --unit=only-here busybox httpd -f -p 127.0.0.1:8099 -h /srv/w")
    try:
        for options in ("", "--network bridge", "--network default", "--network host", "--link web:linked"):
            places = (address["alice"], address["bob"], "web", f"{HERE}:8099", "linked")
            waits = (SURE, NEVER, SURE, NEVER, SURE)
            script = "; ".join(f"echo $({GET.format(*each)})" for each in zip(waits, places, strict=True))
            said = gateway.run("alice", "docker", "run", "--rm", *options.split(), IMAGE, "sh", "-c", script).stdout
            reached = [line == "here" for line in said.splitlines()]
            assert reached == [True, False, True, False, "linked" in options], (options, said)
            assert "hosts" not in said
        # Through her own interface and her other networks neither.
        assert gateway.host.sh(f"ip -o link show ds01-{gateway.uid['alice']}")
        said = gateway.sh("alice", f"""docker network create more >/dev/null
        docker run --rm --network more {IMAGE} {GET.format(NEVER, address["bob"])}; docker network connect bridge web
        docker network rm more""")  # fmt: skip
        assert "here" not in said
        assert "already exists in network bridge" in said
    finally:
        gateway.host.sh("systemctl stop only-here")


@pytest.mark.usefixtures("address")
def test_the_own_bridge_looks_like_the_engines(gateway: GatewayHost):
    assert gateway.sh("alice", "docker network ls --format '{{.Name}} {{.Driver}}'").splitlines() == [
        "bridge bridge", "host host", "none null",
    ]  # fmt: skip
    said = gateway.sh(
        "alice", "docker network inspect bridge --format '{{.Name}} {{range .Containers}}{{.Name}} {{end}}'"
    )
    assert said == "bridge web \n"
    said = gateway.sh("alice", """docker ps --filter network=bridge --format '{{.Names}} {{.Networks}}'
    docker stop -t0 web; docker network prune -f; docker start web
    docker network rm bridge; docker network create bridge
    docker network disconnect bridge web; docker network connect --alias other bridge web""")  # fmt: skip
    assert said.startswith("web bridge\nweb\nweb\n")
    assert said.count("bridge is a pre-defined network") == 2
    assert said.count("Error") == 2
    # What is built is on it too.
    route = "ip -4 route | head -n 1"
    said = gateway.sh(
        "alice",
        f"""cd $(mktemp -d); printf 'FROM {IMAGE}\\nRUN {route} >/route\\n' >Dockerfile
    docker build -q -t routed . >/dev/null 2>&1; docker run --rm routed cat /route; docker run --rm {IMAGE} {route}""",
    )
    assert len(said.splitlines()) == 2, said
    assert len(set(said.splitlines())) == 1, said
    # If it is gone all the same, it is made again.
    gateway.host.sh(f"docker rm -f web._.{gateway.uid['bob']}; docker network rm bridge._.{gateway.uid['bob']}")
    # Until then it is the engine's that bob is shown.
    assert until(lambda: gateway.run("bob", "docker", "network", "inspect", "bridge", check=False).returncode == 0)
    gateway.run("bob", "docker", "run", "--rm", IMAGE, "true")


def test_a_new_name_is_found_and_the_old_one_not(gateway: GatewayHost):
    look = f"docker run --rm --network app {IMAGE} nslookup -type=a"
    said = gateway.sh("alice", f"""docker network create app >/dev/null
    docker create --name old --network app --network-alias db {IMAGE} sleep 99 >/dev/null
    docker rename old new; docker start new; {look} new; {look} db; {look} old""")  # fmt: skip
    assert said.count("Name:\tnew\nAddress: ") == 1, said
    assert said.count("Name:\tdb\nAddress: ") == 1
    assert "can't find old" in said
    # Sessions of one that runs are not cut for it: the name is found from its next start on.
    said = gateway.sh("alice", f"""docker rename new newer; {look} new; docker stop -t0 newer; docker start newer
    {look} newer; {look} new; docker rm -f newer""")  # fmt: skip
    assert said.count("Name:\tnew\nAddress: ") == 1, said
    assert said.count("Name:\tnewer\nAddress: ") == 1, said
    assert "can't find new:" in said, said


PING = """
import socket
icmp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
icmp.settimeout(60)
icmp.sendto(bytes([8, 0, 0xF7, 0xFF, 0, 0, 0, 0]), (sys.argv[1], 0))
print(icmp.recv(64)[0] == 0 and "answered")
"""


def test_ping_works_without_the_right_to_forge_packets(gateway: GatewayHost, address: dict[str, str]):
    # Where it wants that right, it can be had: the network is hers alone.
    ping = f"docker run --rm {{}} {IMAGE} ping -c 1 -W 60 {address['alice']}"
    assert "are you root" in gateway.sh("alice", ping.format(""))
    assert "1 packets received" in gateway.sh("alice", ping.format("--cap-add NET_RAW"))
    # As anybody in the container, without any capability.
    pid = gateway.inspect(f"web._.{gateway.uid['alice']}")["State"]["Pid"]
    inside = f"nsenter -t {pid} -n setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all"
    said = gateway.host.run(*inside.split(), "python3", "-c", f"import sys{PING}", address["alice"]).stdout
    assert said == "answered\n"


def addresses(gateway: GatewayHost) -> list[str]:
    """What the health check says of them: status, and the text."""
    look = "from ds01.health.engine import check_addresses as c; f = c(); print(f.status, f.detail, sep='|')"
    return gateway.host.run("python3", "-c", f"import sys; sys.path.insert(0, {CODE!r}); {look}").stdout.split("|")


def test_when_addresses_run_out_it_is_said(gateway: GatewayHost):
    assert addresses(gateway)[0] == "ok"
    script = "for n in $(seq {}); do docker network create n$n; done 2>&1 | grep -v '^[0-9a-f]*$'"
    try:
        assert "you have 16 networks already" in gateway.sh("alice", script.format(17))
        said = gateway.sh("bob", script.format(16)) + gateway.sh("carol", "docker create ds01-lab/base true")
        assert "this server has no addresses left for another network: remove those that you do not need" in said
        status, detail = addresses(gateway)
        assert (status, detail.strip().endswith("networks, and addresses for about 31")) == ("warning", True)
    finally:
        # Not everybody's own: the next test may need them before the gateway has seen that they are gone.
        gateway.host.sh("docker network prune -f --filter label!=ds01.default")


def test_the_engines_bridge_is_nobodys_by_its_id_either(gateway: GatewayHost):
    shared = gateway.host.sh("docker network inspect --format '{{.Id}}' bridge").strip()
    gateway.run("alice", "docker", "create", "--name", "apart", "--network", "none", IMAGE, "true")
    gateway.sh("alice", f"docker network disconnect none apart; docker network connect {shared} apart")
    assert set(gateway.inspect(f"apart._.{gateway.uid['alice']}")["NetworkSettings"]["Networks"]) == {
        f"bridge._.{gateway.uid['alice']}"
    }


def test_the_server_alone_says_how_a_container_is_joined(gateway: GatewayHost):
    """An address of one's own choice can be another's, and options of a driver are settings of its kernel side."""
    gateway.run("alice", "docker", "network", "create", "own")
    gateway.run("alice", "docker", "create", "--name", "box", IMAGE, "true")
    options = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.forwarding=1"}
    chosen = {"MacAddress": "02:42:ac:11:00:02", "DriverOpts": options}
    joined = {
        "leave": request("POST /networks/bridge/disconnect", {"Container": "box"}),
        **{name: request(f"POST /networks/{name}/connect", {"Container": "box", "EndpointConfig": chosen})
           for name in ("own", "bridge")},
    }  # fmt: skip
    assert {name: said for name, said in send(gateway, joined).items() if not said.startswith("HTTP/1.1 200 ")} == {}
    uid = gateway.uid["alice"]
    found = gateway.inspect(f"box._.{uid}")["NetworkSettings"]["Networks"]
    assert set(found) == {f"own._.{uid}", f"bridge._.{uid}"}
    assert {name: end for name, end in found.items() if end["MacAddress"] or end["DriverOpts"]} == {}
    address = {"Container": "box", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    (said,) = send(gateway, {"": request("POST /networks/own/connect", address)}).values()
    assert "the server gives the addresses" in said
