"""The rules of everything but a create, on containers, networks and volumes: what the engine has afterwards."""

from __future__ import annotations

import json
from typing import Any

from ds01.gateway import tarball
from ds01.gateway.handlers import volumes
from ds01.gateway.routes import ROUTES, Kind
from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.raw_requests import IMAGE, request, send

MEMORY = 128 << 20
QUERIES = {
    "rename": "name=mine", "archive": "path=/etc", "resize": "h=1&w=1", "attach": "stream=1&stdout=1",
    "logs": "stdout=1", "stats": "stream=0",
}  # fmt: skip
BODIES: dict[str, Any] = {"exec": {"Cmd": ["true"]}, "update": {"Memory": 1 << 20}}


def test_each_endpoint_finds_no_object_of_another(gateway: GatewayHost, victim: str):
    bob = gateway.uid["bob"]
    made = "curl -s --unix-socket /run/docker.sock -d '{\"Cmd\":[\"true\"]}' -H 'Content-Type: application/json'"
    run = json.loads(gateway.host.sh(f"{made} http://x/containers/{victim}/exec"))["Id"]
    network = gateway.host.sh(f"docker network inspect -f '{{{{.Id}}}}' private._.{bob}").strip()
    spellings = {
        "containers": ("victim", f"victim._.{bob}", victim, victim[:12]), "exec": (run,),
        "networks": ("private", f"private._.{bob}", network, network[:12]), "volumes": ("secret", f"secret._.{bob}"),
    }  # fmt: skip
    before = gateway.inspect(victim)
    requests = {}
    for route in ROUTES:
        if route.kind is Kind.DENY or route.pattern[0] not in spellings or "{id}" not in route.pattern:
            continue
        last = route.pattern[-1]
        for spelling in spellings[route.pattern[0]]:
            path = "/".join(route.pattern).replace("{id}", spelling)
            line = f"{route.method} /{path}?{QUERIES.get(last, '')}".rstrip("?")
            requests[line] = request(line, BODIES.get(last, {"Container": victim}) if route.body == "json" else b"")
    for line in ("/containers/json?all=1&filters={{%22volume%22:[%22secret%22]}}", "/system/df", "/networks/bridge"):
        requests[line] = request(f"GET {line}".replace("{{", "%7B").replace("}}", "%7D"))
    mine = {"name": "POST /containers/prune", "volumes": "POST /volumes/prune", "networks": "POST /networks/prune"}
    requests |= {line: request(line) for line in mine.values()}
    # A commit of it, and a container put into one's own network, or one's own into another's.
    gateway.run("alice", "docker", "network", "create", "own")
    gateway.run("alice", "docker", "create", "--name", "box", IMAGE, "true")
    requests |= {
        "commit": request(f"POST /commit?container={victim}&repo=stolen", {}),
        "own network": request("POST /networks/own/connect", {"Container": victim}),
        "own container": request(f"POST /networks/{network}/connect", {"Container": "box"}),
    }
    assert len(requests) > 90
    answers = send(gateway, requests)
    listing = [name for name in answers if name.startswith("/") or "prune" in name]
    for name in listing:
        body = answers.pop(name).partition("\r\n\r\n")[2]
        assert not [secret for secret in (victim[:12], f"._.{bob}", network[:12]) if secret in body], name
    assert {name: said for name, said in answers.items() if not said.startswith("HTTP/1.1 404 ")} == {}
    after = gateway.inspect(victim)
    for found in (before, after):
        found.pop("ExecIDs", None)
    assert after == before
    assert (
        gateway.host.sh(f"docker volume inspect -f x secret._.{bob}; docker network inspect -f x {network}") == "x\nx\n"
    )


def test_what_is_closed_is_closed_on_every_path(gateway: GatewayHost):
    facts = "docker info -f '{{.Swarm.LocalNodeState}} {{.Plugins}}'; docker plugin ls -q"
    before = gateway.host.sh(facts)
    requests = {}
    for route in ROUTES:
        if route.kind is Kind.DENY:
            path = "/".join(route.pattern).replace("{id}", "x").replace("{name}", "x/y")
            for line in (f"{route.method} /{path}", f"{route.method} /v1.45/{path}"):
                requests[line] = request(line, {"ListenAddr": "0.0.0.0:2377"} if route.method == "POST" else b"")
    answers = send(gateway, requests)
    assert {name: said for name, said in answers.items() if said[9:12] not in {"403", "404", "503"}} == {}
    assert gateway.host.sh(facts) == before


def test_a_registry_of_which_the_policy_names_a_part_takes_passwords(gateway: GatewayHost):
    login = {"username": "a", "password": "b", "serveraddress": "localhost:5004"}
    requests = {
        "login": request("POST /auth", login),
        "its part": request("GET /distribution/localhost:5004/lab/x/json"),
        "another part": request("GET /distribution/localhost:5004/x/json"),
    }
    answers = send(gateway, requests)
    # Nothing listens there, as the engine finds out.
    assert "connection refused" in answers["login"]
    assert "connection refused" in answers["its part"]
    assert answers["another part"].startswith("HTTP/1.1 403 ")


LISTENER = """
import socket
listening = socket.create_server(("127.0.0.1", 8099))
open("/run/asked", "w").close()
while True:
    listening.accept()[0].close()
    print("asked", file=open("/run/asked", "a"))
"""


def test_nothing_but_the_engine_and_its_registries_is_asked(gateway: GatewayHost):
    """The engine fetches what it is told to, from inside the server's network: only what the policy names."""
    here = "127.0.0.1:8099"
    # Docker Hub is named in the policy; each of these has another host for the engine, some with the Hub's name in it.
    servers = (
        f"http://{here}/v1/", f"http://{here}#.docker.io", f"{here}?.docker.io", f"http://docker.io@{here}/",
        f"http://{here}\\.docker.io", "intranet", f"http://{here}%2f.docker.io",
    )  # fmt: skip
    requests = {
        line: request(line, body)
        for line, body in {
            f"GET /distribution/{here}/x/json": b"",
            f"GET /images/search?term={here}/x": b"",
            f"GET /images/search?term=docker.io@{here}/x": b"",
            "GET /images/search?term=localhost/x": b"",
            f"POST /images/create?fromImage={here}/x&tag=latest": b"",
            f"POST /images/create?fromSrc=http://{here}/x.tar": b"",
            f"POST /build?remote=http://{here}/x.git": b"",
            f"POST /images/{here}/x/push?tag=latest": b"",
        }.items()
    } | {
        f"login at {server}": request("POST /auth", {"username": "a", "password": "b", "serveraddress": server})
        for server in servers
    }
    gateway.host.write("/run/listener.py", LISTENER)
    gateway.host.sh(
        "systemd-run --collect --unit=listener python3 /run/listener.py; until test -e /run/asked; do :; done"
    )
    answers = send(gateway, requests)
    assert {name: said for name, said in answers.items() if said[9:12] not in {"400", "403"}} == {}
    assert gateway.host.sh("cat /run/asked") == ""
    # The listener does hear what is asked: here by the engine itself.
    gateway.host.sh(f"docker pull {here}/x >/dev/null 2>&1 || true")
    assert "asked" in gateway.host.sh("cat /run/asked; systemctl stop listener")


def test_a_container_stays_what_it_was_made(gateway: GatewayHost):
    """Start, update and exec are ways to a second configuration."""
    uid = gateway.uid["alice"]
    gateway.run("alice", "docker", "create", "--name", "box", "--stop-signal=KILL", IMAGE, "sleep", "999")
    form = "Content-Type: application/x-www-form-urlencoded"
    free = {"Privileged": True, "PidMode": "host", "Binds": ["/:/x"]}
    allowed = {
        "a body at start": request("POST /containers/box/start", free),
        "a checkpoint at start": request("POST /containers/box/start?checkpoint=x&checkpoint-dir=/etc"),
        "a restart policy": request("POST /containers/box/update", {"RestartPolicy": {"Name": "always"}}),
        "a share of CPU": request("POST /containers/box/update", {"CpuShares": 262_144}),
    }
    refused = {
        **{f"update of {name}": request("POST /containers/box/update", {name: value}) for name, value in {
            "BlkioWeight": 1000, "CpusetCpus": "0", "CpuRealtimeRuntime": 950_000, "KernelMemory": 1 << 40,
            "Memory": 1 << 40, "MemorySwap": -1, "MemoryReservation": 1 << 40, "NanoCpus": 64 * 10**9, "CpuQuota": -1,
            "PidsLimit": 1 << 20, "OomKillDisable": True, "DeviceCgroupRules": ["a *:* rwm"],
            "Ulimits": [{"Name": "core", "Soft": -1}],
        }.items()},
        "exec in a descriptor": request("POST /containers/box/exec", {"Cmd": ["x"], "WorkingDir": "//proc/self/fd/8"}),
        "exec with a container's fields": request("POST /containers/box/exec", {"Cmd": ["true"], "HostConfig": free}),
        "a name by form": request("POST /containers/box/rename?name=good", b"name=evil", form),
        "a tag by form": request(f"POST /images/{IMAGE}/tag?repo=good", b"repo=ds01-lab/base&tag=evil", form),
        "everybody's image removed": request(f"DELETE /images/{IMAGE}?force=1"),
        "an archive of the host": request("GET /containers/box/archive?path=/x&path=/etc"),
    }  # fmt: skip
    answers = send(gateway, allowed | refused)
    assert {name: said for name, said in answers.items() if name in allowed and said[9:10] not in "23"} == {}
    assert {name: said for name, said in answers.items() if name in refused and said[9:10] != "4"} == {}
    found = gateway.inspect(f"box._.{uid}")
    assert (found["State"]["Running"], found["HostConfig"]["Privileged"], found["HostConfig"]["PidMode"]) == (
        True,
        False,
        "",
    )
    assert found["Mounts"] == []
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    assert found["HostConfig"]["CpuShares"] <= 1024
    assert (found["HostConfig"]["Memory"], found["HostConfig"]["NanoCpus"]) == (MEMORY, 10**9)
    assert gateway.host.sh(f"docker images -q {IMAGE}") != ""
    assert "evil" not in gateway.host.sh("docker images; docker ps -a")


# Gzip, bzip2, xz, Zstandard and what it skips; a tar file may have none of them at its beginning.
PACKED = (b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"#!/bin/sh\n")


def test_an_archive_for_a_container_is_never_unpacked_by_a_program_in_it(gateway: GatewayHost):
    """The engine unpacks by a program that it looks for in the container, as root of the host."""
    gateway.run("alice", "docker", "run", "-d", "--name", "box", "--stop-signal=KILL", IMAGE, "sleep", "999")
    line = "PUT /containers/box/archive?path=/tmp"
    requests = {
        f"{magic!r} of {size}": request(line, magic.ljust(size, b"x")) for magic in PACKED for size in (20, 2000)
    }
    # The beginning of a packed file and a header at once, as somebody makes it who wants their own unpacker to be run.
    requests |= {
        f"{magic!r} and a header": request(line, tarball.header(magic.decode("utf-8", "surrogateescape"), 0))
        for magic in PACKED[:-1]
    }
    # In pieces, of which the first does not say yet what it is.
    chunked = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    requests["in pieces"] = chunked + b"1\r\n\x1f\r\n1\r\n\x8b\r\n400\r\n" + b"x" * 0x400 + b"\r\n0\r\n\r\n"
    requests["in pieces, short"] = chunked + b"1\r\n\x1f\r\n1\r\n\x8b\r\n0\r\n\r\n"
    answers = send(gateway, requests)
    assert {name: said for name, said in answers.items() if not said.startswith("HTTP/1.1 415 ")} == {}
    # What is empty makes nothing, and is nothing to refuse.
    for said in send(gateway, {"end": request(line, bytes(1024)), "nothing": request(line)}).values():
        assert said.startswith("HTTP/1.1 200 "), said
    assert gateway.run("alice", "docker", "diff", "box").stdout.strip() in {"", "C /tmp"}


ASKED = """
def main(body):
    sock = connect()
    head = f"Host: x\\r\\nExpect: 100-continue\\r\\nConnection: close\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
    sock.sendall(f"POST /containers/create?name=patient HTTP/1.1\\r\\n{head}".encode())
    first = sock.recv(4096).decode()
    sock.sendall(body.encode())
    return first, read_all(sock, 60).decode()
"""


def test_who_asks_before_sending_is_told_to_send(gateway: GatewayHost):
    first, rest = gateway.python("alice", ASKED, body=json.dumps({"Image": IMAGE}))
    assert first == "HTTP/1.1 100 Continue\r\n\r\n"
    assert rest.startswith("HTTP/1.1 201 ")
    assert gateway.sh("alice", "docker ps -a --format '{{.Names}}'") == "patient\n"


def test_numbers_that_are_none_are_answered_in_words(gateway: GatewayHost):
    many = "9" * 5_000
    port = {"PortBindings": {"80/tcp": [{"HostPort": many}]}}
    requests = {
        "limit": request(f"GET /containers/json?limit={many}"),
        "limit in another script": request("GET /containers/json?limit=%D9%A3"),
        "port": request("POST /containers/create", {"Image": IMAGE, "HostConfig": port}),
        "group": request("POST /containers/create", {"Image": IMAGE, "HostConfig": {"GroupAdd": [many]}}),
    }
    answers = send(gateway, requests)
    assert {name: said for name, said in answers.items() if said[9:10] not in {"2", "4"}} == {}


def test_what_nobody_has_is_removed_by_force(gateway: GatewayHost, victim: str):
    del victim
    said = gateway.sh("alice", "docker volume rm -f secret nothing; docker volume rm nothing")
    assert said.splitlines() == ["secret", "nothing", "Error response from daemon: get nothing: no such volume"]
    assert gateway.host.sh(f"docker volume inspect -f x secret._.{gateway.uid['bob']}") == "x\n"


def test_networks_and_volumes_are_only_that(gateway: GatewayHost, victim: str):
    del victim
    uid, bob = gateway.uid["alice"], gateway.uid["bob"]
    refused = {
        **{f"driver {name}": {"Name": "n", "Driver": name} for name in ("host", "macvlan", "ipvlan", "overlay", "x")},
        "ingress": {"Name": "n", "Ingress": True}, "only a configuration": {"Name": "n", "ConfigOnly": True},
        "from a configuration": {"Name": "n", "ConfigOnly": False, "ConfigFrom": {"Network": "bridge"}},
        "addresses": {"Name": "n", "IPAM": {"Config": [{"Subnet": "203.0.113.0/24"}]}},
        "a gateway": {"Name": "n", "IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}},
        "another source of addresses": {"Name": "n", "IPAM": {"Driver": "x"}},
        "the bridge": {"Name": "bridge"}, "the host": {"Name": "host"}, "another's name": {"Name": f"private._.{bob}"},
    }  # fmt: skip
    answers = send(gateway, {name: request("POST /networks/create", body) for name, body in refused.items()})
    assert {name: said for name, said in answers.items() if said[9:10] != "4"} == {}
    options = {
        "com.docker.network.bridge.name": "evil0",
        "com.docker.network.driver.mtu": "1400",
        "parent": "eth0",
        "com.docker.network.bridge.host_binding_ipv4": "192.0.2.1",
    }
    send(gateway, {"": request("POST /networks/create", {"Name": "n", "Options": options, "Scope": "swarm"})})
    (found,) = json.loads(gateway.host.sh(f"docker network inspect n._.{uid}"))
    assert (found["Options"], found["Scope"]) == ({"com.docker.network.driver.mtu": "1400"}, "local")
    assert "evil0" not in gateway.host.sh("ip -o link")
    volume = {
        "driver": {"Name": "v", "Driver": "x"}, "options": {"Name": "v", "DriverOpts": {"type": "nfs"}},
        "a cluster's": {"Name": "v", "ClusterVolumeSpec": {"Group": "x"}}, "another's": {"Name": f"secret._.{bob}"},
    }  # fmt: skip
    answers = send(gateway, {name: request("POST /volumes/create", body) for name, body in volume.items()})
    assert {name: said for name, said in answers.items() if said[9:10] != "4"} == {}
    # The same name is another volume.
    send(gateway, {"": request("POST /volumes/create", {"Name": "secret", "Labels": {"ds01.uid": "0"}})})
    names = set(gateway.host.sh("docker volume ls -q").split())
    assert names == {f"secret._.{bob}", f"secret._.{uid}"}
    assert (
        gateway.host.sh(f"docker volume inspect -f '{{{{index .Labels \"ds01.uid\"}}}}' secret._.{uid}") == f"{uid}\n"
    )


FILL = """
def main(requests):
    for raw in requests:
        talk(raw.replace("HTTP/1.1", "HTTP/1.0").encode(), "/run/docker.sock", 60)
"""


def test_everybody_has_so_many_volumes(gateway: GatewayHost):
    uid = gateway.uid["alice"]
    # Of an image they count as well: it brings one for each directory that it names.
    text = "FROM {}\n{}WORKDIR {}\n"
    many = f"VOLUME {json.dumps([f'/v{number}' for number in range(volumes.PER_CONTAINER + 1)])}\n"
    for name, content in {
        "many": text.format(IMAGE, many, "/"),
        "out": text.format(IMAGE, "", "/proc/self/fd/8"),
    }.items():
        gateway.run("alice", "docker", "build", "-q", "-t", name, "-", stdin=content.encode())
    said = gateway.sh("alice", "docker create many true; docker create out true; docker create -w / out true")
    assert f"a container brings {volumes.PER_CONTAINER} new volumes at most, not {volumes.PER_CONTAINER + 1}" in said
    assert said.count("a way out of containers has led through there") == 1
    # By hand, as many as there may be; root makes most of them, which is quicker.
    most = volumes.PER_PERSON
    body = [{"Name": f"filler{number}._.{uid}"} for number in range(most - 1)]
    fill = [request("POST /volumes/create", item, "Content-Type: application/json").decode() for item in body]
    gateway.python("root", FILL, requests=fill)
    gateway.host.sh("systemctl restart gw.service")
    full = f"you have {most} volumes and may have {most}"
    said = gateway.sh(
        "alice",
        f"""
        docker volume create last; docker volume create over; docker create -v over:/x {IMAGE} true
        docker create -v /x {IMAGE} true; docker create --mount type=volume,dst=/x {IMAGE} true
        docker volume create last; docker create --name fits -v last:/x {IMAGE} true
        """,
    )
    assert said.count(full) == 4, said
    assert said.splitlines()[-2] == "last", said
    assert len(gateway.host.sh("docker volume ls -q").split()) == most
    assert gateway.inspect(f"fits._.{uid}")["Mounts"][0]["Name"] == f"last._.{uid}"
    gateway.sh("alice", "docker rm -f $(docker ps -aq); docker rmi many out; docker volume prune -af")
    assert gateway.host.sh("docker volume ls -q") == ""


def test_a_volume_without_a_name_is_mounted_by_its_id(gateway: GatewayHost):
    gateway.run("alice", "docker", "run", "--name", "keeper", "-v", "/d", IMAGE, "touch", "/d/kept")
    (found,) = gateway.inspect(f"keeper._.{gateway.uid['alice']}")["Mounts"]
    mounted = f"docker run --rm --mount type=volume,src={found['Name']},dst=/x {IMAGE} ls /x"
    assert gateway.sh("alice", mounted) == "kept\n"
    assert gateway.sh("alice", f"docker volume create {found['Name']}; docker volume ls -q") == f"{found['Name']}\n" * 2
    # Of another it is a new one, with nothing in it.
    assert gateway.sh("bob", mounted) == ""


FOLLOW = """
def main(path, number):
    open_ = []
    for _ in range(number):
        sock = connect()
        sock.sendall(f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
        sock.settimeout(60)
        open_.append((sock, sock.recv(1 << 16).decode("latin-1")))
    return [said for _, said in open_]
"""


def test_streams_that_are_read_for_one_person_have_an_end(gateway: GatewayHost):
    said = gateway.python("alice", FOLLOW, path="/events", number=17)
    assert [text[9:12] for text in said] == ["200"] * 16 + ["429"]
    assert "end some of the programs that follow them" in said[-1]
    # Those have ended with their clients; those of others were never in question.
    assert [text[9:12] for text in gateway.python("bob", FOLLOW, path="/events", number=2)] == ["200"] * 2
    gateway.run("alice", "docker", "run", "-d", "--name", "box", "--stop-signal=KILL", IMAGE, "sleep", "999")
    said = gateway.python("alice", FOLLOW, path="/containers/box/stats", number=65)
    assert [text[9:12] for text in said] == ["200"] * 64 + ["429"]
    assert "64 streams of statistics" in said[-1]
