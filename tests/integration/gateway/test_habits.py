"""What clients do out of habit, as other people's test suites and compose files show: it works, or it is said."""

from __future__ import annotations

import json
import re

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost

IMAGE = "ds01-lab/base"
CURL = f"curl -s --unix-socket {SOCKET}"
JSON = "-H 'Content-Type: application/json' -d"


@pytest.mark.parametrize("ignored", [None, "", "junk\n", "junk\n.dockerignore", "*\n!kept\n!Dockerfile\n!.docker*"])
def test_a_build_has_in_it_what_its_directory_has(gateway: GatewayHost, ignored: str | None):
    listing = "" if ignored is None else f"printf '{ignored!r}' >.dockerignore".replace("''", "'")
    said = gateway.sh("alice", f"""
    cd $(mktemp -d); mkdir context; cd context; echo k >kept; echo j >junk; {listing}
    printf 'FROM {IMAGE}\\nCOPY . /all/\\nRUN find /all -type f >/found\\n' >Dockerfile
    docker build -t all . >../first 2>&1; docker build -t all . >../again 2>&1; docker run --rm all sort /found
    grep -c 'Using cache' ../again; grep -ho 'Successfully built.*' ../first ../again | sort -u | wc -l
    docker rmi -f all >/dev/null""")  # fmt: skip
    *files, cached, images = said.splitlines()
    wanted = {"/all/Dockerfile", "/all/kept"} | ({"/all/junk"} if not ignored else set())
    wanted |= {"/all/.dockerignore"} if ignored is not None and not ignored.endswith(".dockerignore") else set()
    assert set(files) == wanted
    assert (int(cached) >= 2, images) == (True, "1")


@pytest.mark.parametrize(
    ("listing", "dockerfile"),
    [
        ("Dockerfile\n", "Dockerfile"), ("*\n!kept\n", "Dockerfile"), ("Dockerfile*\n.dockerignore\n", "dockerfile"),
        ("**/Docker*\n", "docker/Dockerfile"), ("docker\n!docker/Dockerfile\n", "docker/Dockerfile"),
        ("junk\n", "-"),
    ],
)  # fmt: skip
def test_a_dockerfile_that_is_ignored_is_in_no_image(gateway: GatewayHost, listing: str, dockerfile: str):
    named = "" if dockerfile == "dockerfile" else f"-f {dockerfile}"
    script = f"""
    cd $(mktemp -d); mkdir context; cd context; mkdir docker; echo k >kept; printf '{listing}' >.dockerignore
    printf 'FROM {IMAGE}\\nCOPY . /all/\\nRUN find /all -type f >/found\\n' >../recipe
    [ {dockerfile} = - ] || cp ../recipe {dockerfile}
    for turn in 1 2; do
      [ {dockerfile} = - ] || echo "# $turn" >>{dockerfile}
      docker build {named} -t ignoring . <../recipe >../said 2>&1
    done
    docker run --rm ignoring sort /found; grep -A1 COPY ../said | grep -c 'Using cache' || true
    docker rmi -f ignoring >/dev/null"""
    direct = gateway.host.sh(f"export DOCKER_BUILDKIT=0\n{script}")
    assert "/all/kept" in direct
    assert gateway.sh("alice", script) == direct


def test_a_list_of_what_is_ignored_may_be_a_link(gateway: GatewayHost):
    said = gateway.sh("alice", f"""
    cd $(mktemp -d); echo junk >ignored; ln -s ignored .dockerignore; echo k >kept; echo j >junk
    printf 'FROM {IMAGE}\\nCOPY . /all/\\nRUN find /all | sort\\n' >Dockerfile; tar c . | {CURL} --data-binary @- \
      -H 'Content-Type: application/x-tar' 'http://x/build?t=linked'; docker rmi -f linked >/dev/null""")  # fmt: skip
    assert "/all/kept" in said
    assert "Successfully built" in said
    assert ".ds01-" not in said


def test_a_build_is_on_a_network_of_its_owner(gateway: GatewayHost):
    said = gateway.sh("alice", f"""
    cd $(mktemp -d); docker network create lab >/dev/null; docker network create bobs >/dev/null; docker network rm bobs
    docker run -d --name helper --stop-signal=KILL --network lab {IMAGE} sleep 999 >/dev/null
    printf 'FROM {IMAGE}\\nRUN nslookup -type=a helper | grep -c ^Name; cat /etc/hosts\\n' >Dockerfile
    docker build --network lab --add-host a:10.0.0.1 --add-host b:10.0.0.2 .
    docker rm -f helper; docker network rm lab
    printf 'FROM {IMAGE}\\nRUN true\\n' >Dockerfile; docker build --network host .
    docker build --network container:nobody . ; docker build --network bobs .
    docker build --add-host c:10.0.0.3 --add-host d:host-gateway .
    tar c Dockerfile | {CURL} -H 'Content-Type: application/x-tar' --data-binary @- \
      'http://x/build?dockerfile=Dockerfile&dockerfile=FROM+scratch'""")  # fmt: skip
    assert re.search(r"^1\n", said, re.MULTILINE), said
    assert re.search(r"^10.0.0.1\ta$", said, re.MULTILINE), said
    assert re.search(r"^10.0.0.2\tb$", said, re.MULTILINE), said
    assert "a build uses the default network, one of yours or none: leave --network out" in said
    assert "network container:nobody not found" in said
    assert "network bobs not found" in said
    assert "a build does not reach the host" in said
    assert "Successfully built" in said.rpartition("a build does not reach the host")[2]


def test_a_stream_without_an_upgrade_is_an_answer(gateway: GatewayHost):
    # So docker-modem asks, and with it dockerode, where nothing is typed; Node drops a connection that is upgraded.
    code = f"""
import json
def main(path):
    def ask(line, body):
        raw = json.dumps(body).encode()
        return talk(b"POST %b HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nConnection: close\\r\\n"
                    b"Content-Length: %d\\r\\n\\r\\n%b" % (line.encode(), len(raw), raw), path)
    def made(line, body):
        return json.loads(ask(line, body).partition("\\r\\n\\r\\n")[2])["Id"]
    box = made("/containers/create", {{"Image": "{IMAGE}", "OpenStdin": True, "StdinOnce": True, "Cmd": ["cat"]}})
    ask(f"/containers/{{box}}/start", {{}})
    process = made(f"/containers/{{box}}/exec", {{"AttachStdout": True, "AttachStderr": True, "Cmd": ["echo", "said"]}})
    found = [ask(f"/exec/{{process}}/start", {{"Detach": False, "Tty": False}})]
    sock = connect(path)
    sock.sendall(f"POST /containers/{{box}}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\\r\\nHost: x\\r\\n"
                 "Content-Length: 0\\r\\n\\r\\n".encode())
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(4096)
    sock.sendall(b"typed")
    sock.shutdown(socket.SHUT_WR)
    found.append((data + read_all(sock)).decode("latin-1"))
    # The order of headers is nobody's business.
    return [[sorted(head.split("\\r\\n")), said] for head, _, said in (one.partition("\\r\\n\\r\\n") for one in found)]
"""
    direct = gateway.python("root", code, path="/run/docker.sock")
    assert all("HTTP/1.1 200 OK" in head for head, _ in direct)
    assert [said[-5:] for _, said in direct] == ["said\n", "typed"]
    assert gateway.python("alice", code, path=SOCKET) == direct


def test_links_lead_to_ones_own_containers(gateway: GatewayHost):
    compose = {
        "services": {
            "db": {"image": IMAGE, "command": "sleep 999", "stop_signal": "KILL"},
            "web": {"image": IMAGE, "command": "sleep 999", "stop_signal": "KILL", "links": ["db:database"]},
        }
    }
    look = "nslookup -type=a {} 2>&1 | grep -c ^Name"
    said = gateway.sh("alice", f"""
    cd $(mktemp -d); echo '{json.dumps(compose)}' >compose.yaml; docker compose -p linked up -d >/dev/null 2>&1
    docker compose -p linked exec -T web sh -c '{look.format("database")}'
    docker run -d --name late --stop-signal=KILL {IMAGE} sleep 999 >/dev/null
    docker network connect --link linked-db-1:store linked_default late; docker exec late sh -c '{look.format("store")}'
    docker inspect --format '{{{{json .NetworkSettings.Networks}}}}' late
    docker compose -p linked down >/dev/null 2>&1; docker rm -f late""")  # fmt: skip
    first, second, networks, _ = said.splitlines()
    assert (first, second) == ("1", "1")
    assert json.loads(networks)["linked_default"]["Links"] == ["linked-db-1:store"]
    # Somebody else's is not there.
    gateway.run("bob", "docker", "create", "--name", "secret", IMAGE)
    gateway.run("alice", "docker", "network", "create", "mine")
    body = {"Image": IMAGE, "NetworkingConfig": {"EndpointsConfig": {"mine": {"Links": ["secret:x"]}}}}
    said = gateway.sh("alice", f"{CURL} {JSON} '{json.dumps(body)}' http://x/containers/create")
    assert "No such container: secret" in said
    assert "docker compose" not in gateway.sh("alice", "docker network rm mine")


def test_all_ports_that_an_image_exposes(gateway: GatewayHost):
    said = gateway.sh("alice", f"""
    cd $(mktemp -d); printf 'FROM {IMAGE}\\nEXPOSE 80 53/udp\\n' >Dockerfile; docker build -q -t serving . >/dev/null
    docker run -d --name open -P --expose 8080 -p 10080:80 --stop-signal=KILL serving sleep 999 >/dev/null
    docker port open
    docker run --rm -P --expose 1-100 {IMAGE} true""")  # fmt: skip
    assert re.search(r"^80/tcp -> 127.0.0.1:10080$", said, re.MULTILINE), said
    for port in ("53/udp", "8080/tcp"):
        assert re.search(rf"^{port} -> 127.0.0.1:[0-9]+$", said, re.MULTILINE), said
    assert "PortBindings: 100 ports, and 64 are the most" in said
    bindings = gateway.inspect(f"open._.{gateway.uid['alice']}")["NetworkSettings"]["Ports"]
    assert {place["HostIp"] for places in bindings.values() for place in places} == {"127.0.0.1"}


def test_what_is_left_out_is_said(gateway: GatewayHost):
    asked = {
        "--ip 172.99.0.5 --network plain": "--ip is", "--mac-address 02:42:ac:11:00:99": "--mac-address is",
        "--log-driver syslog": "--log-driver syslog is", "--log-driver none": "--log-driver none is",
        "-p 0.0.0.0:18081:80": "-p 0.0.0.0:... is",
    }  # fmt: skip
    gateway.run("alice", "docker", "network", "create", "plain")
    for options, warning in asked.items():
        said = gateway.sh("alice", f"docker create {options} {IMAGE} true")
        assert said.count("WARNING: ") == said.count(f"WARNING: {warning} not offered on a shared server; ") == 1, said
    silent = "-p 127.0.0.1:18082:80 -p 18083:81 --log-driver json-file --log-opt max-size=1m"
    assert "WARNING" not in gateway.sh("alice", f"docker create {silent} {IMAGE} true")
    said = gateway.sh(
        "alice", f"docker create --name fixed {IMAGE}; docker network connect --ip 172.99.0.5 plain fixed"
    )
    assert "--ip: the server gives the addresses: leave it out" in said
    body = {"Image": IMAGE, "HostConfig": {"BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1}]}}
    said = gateway.sh("alice", f"{CURL} {JSON} '{json.dumps(body)}' http://x/containers/create")
    assert json.loads(said)["Warnings"] == [
        "--device-read-bps is not offered on a shared server; your slice has the limits that count"
    ]


def test_the_servers_clock_is_there_to_read(gateway: GatewayHost):
    gateway.host.sh("ln -sfn /usr/share/zoneinfo/Europe/Vienna /etc/localtime; echo Europe/Vienna >/etc/timezone")
    gateway.host.sh("test -e /etc/localtime || { mkdir -p /usr/share/zoneinfo/Europe; echo z >/etc/localtime; }")
    binds = "-v /etc/localtime:/etc/localtime:ro -v /etc/timezone:/etc/timezone"
    said = gateway.sh("alice", f"""
    docker run --name clock {binds} {IMAGE} sh -c 'cmp /etc/timezone /etc/timezone && cat /etc/timezone
      test -s /etc/localtime && echo there; echo bad >>/etc/timezone; echo bad >>/etc/localtime'
    docker run --rm -v /etc:/x {IMAGE} true; docker run --rm -v /etc/../etc/shadow:/x {IMAGE} true
    docker run --rm -v /etc/localtime/../shadow:/x {IMAGE} true""")  # fmt: skip
    # Output and errors of a container come by two ways, in no order.
    assert {"Europe/Vienna", "there"} <= set(said.splitlines())
    assert said.count("Read-only file system") == 2
    assert said.count("cannot be bound into a container: it belongs to the server") == 3
    assert "bad" not in gateway.host.sh("cat /etc/timezone")
    # Text that reads like the clock, but leads elsewhere.
    said = gateway.sh("alice", f"""
    cd $(mktemp -d -p /srv/people/alice); mkdir -p 1/2/3/4/5 1/2/etc; ln -s 1/2/3/4/5 deep; here=$(pwd)
    for target in /etc/passwd /proc/1/cmdline; do
      ln -sfn $target 1/2/etc/localtime
      docker run --rm -v $here/deep/../../../etc/localtime:/x {IMAGE} cat /x
      docker run --rm -v $here/deep/../../../../../../../etc/localtime:/x {IMAGE} cat /x
    done""")  # fmt: skip
    assert "root:x:0" not in said
    assert said.count("cannot be bound into a container") == 4, said
    # What somebody else could write is not the server's clock.
    gateway.host.sh("chown bob /etc/timezone")
    said = gateway.sh("alice", f"docker run --rm -v /etc/timezone:/x {IMAGE} true")
    gateway.host.sh("chown root /etc/timezone")
    assert "it belongs to the server" in said
    gateway.host.sh("rm /etc/timezone")
    said = gateway.sh("alice", f"docker run --rm -v /etc/timezone:/x {IMAGE} true")
    assert "this server has no such file: leave it out" in said


def test_nobody_is_looked_for_more_often_than_makes_sense(gateway: GatewayHost):
    gateway.run("alice", "docker", "create", "--name", "box", IMAGE)
    many = ["box:a"] * 65
    bodies = [{"Links": many}, {"VolumesFrom": many}]
    asked = [{"Image": IMAGE, "HostConfig": body} for body in bodies]
    asked += [{"Image": IMAGE, "NetworkingConfig": {"EndpointsConfig": {"bridge": {"Links": many}}}}]
    asked += [{"Image": IMAGE, "NetworkingConfig": {"EndpointsConfig": {f"n{number}": {} for number in range(65)}}}]
    for body in asked:
        said = gateway.sh("alice", f"{CURL} {JSON} '{json.dumps(body)}' http://x/containers/create")
        assert "at most 64" in json.loads(said)["message"], said


def test_a_clean_up_takes_ones_own_and_roots_takes_nothing(gateway: GatewayHost):
    for user in ("alice", "carol"):
        gateway.run(user, "docker", "create", "--name", "rests", IMAGE)
    gateway.run("carol", "docker", "container", "prune", "-f")
    for what in ("containers", "images", "networks", "volumes"):
        said = gateway.host.sh(f"{CURL} -X POST http://x/{what}/prune")
        assert "remove by name" in json.loads(said)["message"], said
    left = gateway.host.sh("docker ps -a --format '{{.Names}}'").split()
    assert left == [f"rests._.{gateway.uid['alice']}"]


@pytest.mark.parametrize(("body", "made"), [("null", True), ("{}", True), ("[1]", False), ('"a"', False), ("1", False)])
def test_the_body_of_a_commit_says_nothing(gateway: GatewayHost, body: str, made: bool):
    gateway.run("alice", "docker", "create", "--name", "box", IMAGE)
    said = gateway.sh("alice", f"{CURL} {JSON} '{body}' 'http://x/commit?container=box&repo=kept'")
    assert ("Id" in json.loads(said)) is made, said
    gateway.sh("alice", "docker rmi -f kept")
    assert made or "body" in json.loads(said)["message"]


def test_spellings_of_sdks(gateway: GatewayHost):
    said = gateway.sh("alice", f"""
    docker run -d --name box --stop-signal=KILL {IMAGE} sleep 999 >/dev/null
    {CURL} {JSON} '{{"Cmd":["true"],"detachKeys":"ctrl-a"}}' http://x/containers/box/exec
    {CURL} {JSON} '{{"Cmd":["true"],"detachkeys":"ctrl-a"}}' http://x/containers/box/exec
    {CURL} -X DELETE 'http://x/containers/box/alias?link=1'
    test $(docker info --format '{{{{.Images}}}}') = $(docker images -aq --no-trunc | sort -u | wc -l)
    echo $?""")  # fmt: skip
    made, unknown, links, same = [line for line in said.splitlines() if line]
    assert len(json.loads(made)["Id"]) == 64
    assert "detachkeys: not a field" in unknown
    assert "links are not removed one by one: in your networks containers find each other by their names" in links
    assert same == "0"


def test_a_container_is_shown_as_it_was_asked_for(gateway: GatewayHost):
    gateway.run("alice", "docker", "network", "create", "lan")
    # As the SDK for Python does with `containers.run(network="lan")`: the engine overlooks what it does not know there.
    host = {"NetworkMode": "lan"}
    bodies = {
        "sdk": {"Image": IMAGE, "HostConfig": host, "NetworkingConfig": {"lan": None}},
        "sdk2": {
            "Image": IMAGE,
            "HostConfig": host,
            "NetworkingConfig": {"EndpointsConfig": {"lan": {"Aliases": ["a"]}}},
        },
        "odd": {"Image": IMAGE, "HostConfig": host, "NetworkingConfig": {"endpointsconfig": {"lan": {}}}},
    }
    create = "\n".join(
        f"{CURL} {JSON} '{json.dumps(body)}' http://x/containers/create?name={name}" for name, body in bodies.items()
    )
    said = gateway.sh("alice", f"""{create}
    docker tag {IMAGE} own; docker create --name mine own >/dev/null
    docker create --name byid $(docker images -q --filter reference={IMAGE}) >/dev/null
    docker ps -a --format '{{{{.Names}}}} {{{{.Image}}}}'; docker images -q --filter reference={IMAGE}""")  # fmt: skip
    assert "NetworkingConfig.endpointsconfig: not a field that this server accepts" in said
    *rows, digits = said.splitlines()[-5:]
    assert set(rows) == {f"sdk {IMAGE}", f"sdk2 {IMAGE}", "mine own", f"byid {digits}"}
    found = {row["Name"]: row for row in json.loads(gateway.sh("alice", "docker inspect sdk sdk2 mine byid"))}
    assert [found[f"/{name}"]["Config"]["Image"] for name in ("sdk", "mine", "byid")] == [IMAGE, "own", digits]
    networks = [found[f"/{name}"]["NetworkSettings"]["Networks"] for name in ("sdk", "sdk2")]
    assert [list(each) for each in networks] == [["lan"], ["lan"]]
    assert [each["lan"]["Aliases"] for each in networks] == [None, ["a"]]
    # What the name means by now is another image: then the engine's word counts.
    gateway.sh("alice", f"docker commit -c 'ENV X=1' $(docker create {IMAGE}) own")
    assert gateway.sh("alice", "docker ps -a --format '{{.Image}}' --filter name=mine$") != "own\n"


def test_a_body_that_says_more_than_the_engine_reads(gateway: GatewayHost):
    """As dockerode, which sends its options both in the query and in the body."""
    create = {"Image": IMAGE, "Cmd": ["sleep", "999"], "name": "node", "platform": "", "VolumesFrom": [], "Links": None}
    old = {"Image": IMAGE, "Dns": ["192.0.2.1"], "VolumesFrom": ["node"]}
    requests = {
        "containers/create?name=node": create,
        "containers/create?name=old": old,
        "containers/create?name=both": old | {"HostConfig": {"Init": True}},
        "containers/create?name=free": {"Image": IMAGE, "HostConfig": {}, "PidMode": "host"},
        "commit?container=node&repo=noded": {"container": "node", "repo": "noded", "comment": ""},
        "commit?container=node&repo=other": {"Cmd": ["true"]},
        "volumes/create": {"Name": "noded", "Mountpoint": "/var/lib/x", "Scope": "local"},
        "volumes/create?": {"Name": "wrong", "driveropts": {"device": "/"}},
    }
    said = gateway.sh("alice", "\n".join(
        f"{CURL} -o /dev/null -w '%{{http_code}} ' {JSON} '{json.dumps(body)}' 'http://x/{path}'"
        for path, body in requests.items()
    ))  # fmt: skip
    assert said.split() == ["201", "201", "201", "400", "201", "403", "201", "400"]
    found = {row["Name"]: row["HostConfig"] for row in json.loads(gateway.sh("alice", "docker inspect old both"))}
    assert (found["/old"]["Dns"], found["/both"]["Dns"] or [], found["/both"]["Init"]) == (["192.0.2.1"], [], True)
    said = gateway.sh("alice", f"""
    docker start node >/dev/null
    id=$({CURL} {JSON} '{{"Cmd":["echo","out"],"AttachStdout":true}}' http://x/containers/node/exec | cut -d'"' -f4)
    {CURL} {JSON} '{{"hijack":true,"stdin":true,"Tty":false}}' --output - http://x/exec/$id/start | tail -c +9
    id=$({CURL} {JSON} '{{"Cmd":["true"]}}' http://x/containers/node/exec | cut -d'"' -f4)
    {CURL} {JSON} '{{"detach":true}}' http://x/exec/$id/start
    docker inspect nobody; docker rm -f node; docker volume rm noded; docker rmi noded""")  # fmt: skip
    assert said.startswith("out\n")
    assert "detach: not a field" in said
    # One of everything is asked for, plugins and services as well, before it is nothing.
    assert "Error: No such object: nobody" in said
