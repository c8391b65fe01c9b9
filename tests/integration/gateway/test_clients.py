"""Ordinary clients, unmodified, as two people at once; what counts is what the engine and the kernel did."""

from __future__ import annotations

import json
import select
import time
from datetime import UTC, datetime

from ds01.slices.kernel import Disk
from tests.integration.gateway.gateway_host import CODE, SOCKET, GatewayHost

IMAGE = "ds01-lab/base"


def test_a_container_is_its_owners_and_within_limits(gateway: GatewayHost):
    said = gateway.sh("alice", f"docker run -d --name web --privileged --network host -m 1g --cpus 8 {IMAGE} sleep 99")
    assert "WARNING: --privileged is not offered" in said
    found = gateway.inspect(f"web._.{gateway.uid['alice']}")
    host = found["HostConfig"]
    own = f"bridge._.{gateway.uid['alice']}"
    assert (host["Privileged"], host["NetworkMode"], host["IpcMode"]) == (False, own, "private")
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        128 << 20,
        128 << 20,
        10**9,
        100,
    )
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert host["CgroupParent"] == "ds01-student-alice.slice"
    assert found["Config"]["Labels"]["ds01.uid"] == str(gateway.uid["alice"])
    pid = found["State"]["Pid"]
    cgroup = gateway.host.sh(f"cat /proc/{pid}/cgroup")
    assert "/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-" in cgroup
    # 200 MB in a container of 128: the kernel ends it.
    eaten = gateway.run(
        "alice", "docker", "run", "--rm", IMAGE, "sh", "-c", "head -c 200m /dev/zero | tail", check=False
    )
    assert eaten.returncode == 137
    # What is in memory for files is the container's memory, too.
    for place in (
        "--tmpfs=/there",
        "--mount=type=tmpfs,dst=/there",
        f"--mount=type=tmpfs,dst=/there,tmpfs-size={1 << 40}",
    ):
        fill = "dd", "if=/dev/zero", "of=/there/x", "bs=1M", "count=200"
        assert gateway.run("alice", "docker", "run", "--rm", place, IMAGE, *fill, check=False).returncode == 137, place


def test_each_container_has_its_limits_of_reading_and_writing(gateway: GatewayHost):
    # A host in a container has no device nodes of the machine's disks; nothing is read or written here.
    script = "for d in /sys/block/*; do test -e /dev/${d##*/} || mknod /dev/${d##*/} b $(tr : ' ' <$d/dev); done"
    gateway.host.sh(script)
    look = f"import sys; sys.path.insert(0, {CODE!r}); from ds01.slices.kernel import find_disks; print(find_disks())"
    disks = eval(gateway.host.run("python3", "-c", look).stdout, {"Disk": Disk})  # noqa: S307 - our own words
    assert disks
    asked = "--device-read-bps /dev/vda:1gb --device-write-bps /dev/sda:1gb"
    gateway.run("alice", "docker", "run", "-d", "--name", "io", *asked.split(), IMAGE, "sleep", "99")
    found = gateway.inspect(f"io._.{gateway.uid['alice']}")
    for field, rate in (("BlkioDeviceReadBps", 64 << 20), ("BlkioDeviceWriteBps", 32 << 20)):
        assert found["HostConfig"][field] == [{"Path": disk.path, "Rate": rate} for disk in disks]
    # io.max on cgroup v2, two files on v1.
    files = "'(' -name io.max -o -name 'blkio.throttle.*_bps_device' ')'"
    kernel = gateway.host.sh(f"find /sys/fs/cgroup -path '*{found['Id']}*' {files} -exec cat {{}} + || :")
    for disk in disks:
        lines = [line.split() for line in kernel.splitlines() if line.startswith(f"{disk.number} ")]
        numbers = {word.rpartition("=")[2] for line in lines for word in line}
        assert {str(64 << 20), str(32 << 20)} <= numbers, kernel
    # What goes past the page cache waits for the limit: 96 MiB at 32 a second, then the same at 64. A slow disk takes
    # longer; what a container may do before it is held back is far less than half of it.
    copy = "if=/dev/zero of=/big bs=1M count=96 oflag=direct", "if=/big of=/dev/null bs=1M iflag=direct"
    for words, least in zip(copy, (1.5, 0.75), strict=True):
        began = time.monotonic()
        gateway.run("alice", "docker", "exec", "io", "dd", *words.split())
        assert time.monotonic() - began > least, words


def test_two_people_use_the_same_names(gateway: GatewayHost):
    for user in ("alice", "bob"):
        gateway.run(user, "docker", "run", "-d", "--name", "same", "-v", "data:/data", IMAGE, "sleep", "99")
        gateway.run(user, "docker", "exec", "same", "sh", "-c", f"echo {user} >/data/who")
    for user in ("alice", "bob"):
        assert gateway.run(user, "docker", "exec", "same", "cat", "/data/who").stdout == f"{user}\n"
        assert gateway.sh(user, "docker ps -a --format '{{.Names}}'") == "same\n"
        assert gateway.sh(user, "docker volume ls -q") == "data\n"
    theirs = gateway.inspect(f"same._.{gateway.uid['bob']}")["Id"]
    for spelling in (theirs, theirs[:12], f"same._.{gateway.uid['bob']}"):
        said = gateway.sh("alice", f"docker rm -f {spelling}; docker exec {spelling} true; docker logs {spelling}")
        assert said.count(f"No such container: {spelling}") == 3
    assert gateway.inspect(theirs)["State"]["Running"]
    # Both spellings and the beginning of the id are the owner's to use.
    for spelling in ("same", f"same._.{gateway.uid['bob']}", theirs, theirs[:7]):
        assert gateway.sh("bob", f"docker inspect --format '{{{{.Name}}}}' {spelling}") == "/same\n"


def test_streams_go_both_ways_and_end(gateway: GatewayHost):
    run = gateway.run
    run("alice", "docker", "run", "-d", "--name", "box", IMAGE, "sleep", "99")
    # Input ends before output begins: half a close.
    assert (
        run("alice", "docker", "exec", "-i", "box", "sh", "-c", "cat | wc -c", stdin=b"x" * 3_000_000).stdout
        == "3000000\n"
    )
    assert run("alice", "docker", "run", "--rm", "-i", IMAGE, "sort", stdin=b"b\na\n").stdout == "a\nb\n"
    assert (
        run("alice", "docker", "exec", "box", "sh", "-c", "echo out; echo err >&2; exit 7", check=False).returncode == 7
    )
    terminal = run(
        "alice", "script", "-qec", f"docker run --rm -it {IMAGE} sh -c 'tty; stty size; echo done'", "/dev/null"
    )
    assert "/dev/pts/0" in terminal.stdout
    assert "done" in terminal.stdout
    run("alice", "docker", "run", "-d", "--name", "talker", IMAGE, "sh", "-c", "echo one; sleep 1; echo two")
    assert run("alice", "docker", "logs", "-f", "talker").stdout == "one\ntwo\n"
    attached = run("alice", "docker", "run", "-i", "--name", "echoing", IMAGE, "cat", stdin=b"hello\n").stdout
    assert attached == "hello\n"
    assert gateway.sh("alice", "docker wait talker; docker top box; docker stats --no-stream --format '{{.Name}}' box")


def test_files_go_both_ways(gateway: GatewayHost):
    script = f"""
    cd $(mktemp -d); head -c 2000000 /dev/urandom >in; docker run -d --name files {IMAGE} sleep 99 >/dev/null
    docker cp -q in files:/tmp/there && docker cp -q files:/tmp/there out && cmp in out && echo same
    docker diff files | grep there; docker export files | tar -t | grep tmp/there
    gzip -c in >packed; curl -s -X PUT --unix-socket /run/gw/docker.sock --data-binary @packed \
      -H 'Content-Type: application/x-tar' http://x/containers/files/archive?path=/tmp
    """
    said = gateway.sh("alice", script)
    assert "same\nA /tmp/there\ntmp/there\n" in said
    assert "the archive is packed" in said


def test_a_classic_build_is_the_builders_own(gateway: GatewayHost):
    script = f"""
    cd $(mktemp -d); printf 'FROM {IMAGE}\\nRUN cat /proc/self/cgroup >/cgroup\\n' >Dockerfile
    docker build -q -t mine . ; docker run --rm mine cat /cgroup; docker images --format '{{{{.Repository}}}}'
    docker tag mine {IMAGE} ; docker tag mine other/name:1
    for query in "squash=1" "version=2&session=x" "remote=http://x/" "networkmode=host" "extrahosts=a:host-gateway"; do
      curl -s -X POST --unix-socket {SOCKET} "http://x/build?$query"; done
    curl -s -X POST --unix-socket {SOCKET} -H "Connection: Upgrade" -H "Upgrade: h2c" http://x/grpc
    """
    said = gateway.sh("alice", script)
    assert "ds01-student-alice.slice" in said
    assert "\nmine\n" in said
    for reason in ("option squash is not", "fetches no build contexts", "default network", "does not reach the host"):
        assert reason in said
    assert said.count("export DOCKER_BUILDKIT=0") == 2
    own = f"ds01-{gateway.uid['alice']}"
    tags = gateway.host.sh("docker images --format '{{.Repository}}:{{.Tag}}'").split()
    assert {f"{own}/mine:latest", f"{own}/other/name:1", f"{own}/{IMAGE}:latest"} <= set(tags)
    # The public name still means the public image, and stays.
    assert "cgroup" not in gateway.host.sh(f"docker run --rm {IMAGE} ls /")
    assert f"Untagged: {IMAGE}:latest" in gateway.sh("alice", f"docker rmi {IMAGE}")
    assert "is everybody's" in gateway.sh("alice", f"docker rmi {IMAGE}")
    assert "No such image: mine" in gateway.sh("bob", "docker image inspect mine")
    assert "mine" not in gateway.sh("bob", "docker images")
    identity = gateway.host.sh(f"docker images -q --no-trunc {own}/mine").strip()
    assert "No such image" in gateway.sh("bob", f"docker run --rm {identity} true")
    gateway.run("alice", "docker", "rmi", "mine", "other/name:1")


def test_compose_with_one_project_name_for_two(gateway: GatewayHost):
    web = {"image": IMAGE, "command": "sleep 99", "stop_signal": "KILL", "volumes": ["data:/data"]}
    compose = json.dumps({"services": {"web": web, "db": {**web, "volumes": []}}, "volumes": {"data": {}}})
    for user in ("alice", "bob"):
        gateway.run(user, "sh", "-c", "mkdir -p ~/lab1; cat >~/lab1/compose.yaml", stdin=compose.encode())
        gateway.run(
            user, "sh", "-c", "cd ~/lab1 && docker compose up -d --quiet-pull && docker compose up -d --force-recreate"
        )
    for user in ("alice", "bob"):
        names = gateway.sh(user, "cd ~/lab1; docker compose ps --format '{{.Name}}'")
        assert names == "lab1-db-1\nlab1-web-1\n"
        # Found by the service's name, by the container's name, and only inside one's own network.
        for name in ("db", "lab1-db-1"):
            said = gateway.sh(user, f"cd ~/lab1; docker compose exec -T web nslookup -type=a {name}")
            assert f"Name:\t{name}\nAddress: " in said
    gateway.run("alice", "sh", "-c", "cd ~/lab1 && docker compose down -v --remove-orphans")
    assert (
        gateway.sh(
            "alice",
            "docker ps -aq; docker network ls -q --filter name=lab1; docker volume ls -q",
        )
        == ""
    )
    assert gateway.sh("bob", "cd ~/lab1; docker compose ps --format '{{.Name}}'") == "lab1-db-1\nlab1-web-1\n"
    gateway.run("bob", "sh", "-c", "cd ~/lab1 && docker compose down -v")


def test_each_container_says_which_way_it_came(gateway: GatewayHost):
    uid = gateway.uid["alice"]
    folder = "devcontainer.local_folder=/home/alice/birds"
    create = f"curl -s --unix-socket {SOCKET} -H 'Content-Type: application/json' -d '{{\"Image\":\"{IMAGE}\"}}'"
    compose = json.dumps({"services": {"web": {"image": IMAGE, "command": "sleep 9", "stop_signal": "KILL"}}})
    gateway.run("alice", "sh", "-c", "mkdir -p ~/ways; cat >~/ways/compose.yaml", stdin=compose.encode())
    script = f"""
    docker create --name plain {IMAGE}
    docker create --name forged --label ds01.type=managed --label DS01.interface=wizard \
      --label ds01.created_at=never {IMAGE}
    docker create --name stock --label aime.mlc=alice {IMAGE}
    docker create --name dev --label {folder} --label com.docker.compose.project=p {IMAGE}
    docker run --name m {IMAGE}; docker commit -c 'LABEL ds01.type=managed ds01.project=x' m ways; docker rm m
    docker create --name image ways; docker rmi -f ways
    {create} 'http://x/containers/create?name=raw'
    {create} -A ds01-cli/root 'http://x/containers/create?name=ours'
    cd ~/ways; docker compose create
    """
    said = gateway.sh("alice", script)
    ways = {
        "plain": ("docker", "docker", ""), "forged": ("docker", "docker", ""), "image": ("docker", "docker", ""),
        "stock": ("aime", "mlc", ""), "dev": ("devcontainer", "devcontainer", "birds"), "raw": ("docker", "api", ""),
        "ours": ("managed", "atomic", ""), "ways-web-1": ("compose", "compose", "ways"),
    }  # fmt: skip
    for name, way in ways.items():
        labels = gateway.inspect(f"{name}._.{uid}")["Config"]["Labels"]
        found = labels["ds01.type"], labels["ds01.interface"], labels.get("ds01.project", "")
        assert found == way, (name, said)
        assert datetime.fromisoformat(labels["ds01.created_at"]).tzinfo is UTC, name
        assert not {label for label in labels if label.startswith("DS01")}


def test_events_are_ones_own_and_come_at_once(gateway: GatewayHost):
    last = '/"Action":"destroy".*of-alice/q'
    watching = gateway.start("alice", f"timeout 300 docker events --format '{{{{json .}}}}' | sed -u '{last}'")
    # Nobody says when it begins to listen.
    while not select.select([watching.stdout], [], [], 0.2)[0]:
        gateway.sh("alice", "docker network create heard; docker network rm heard")
    for user in ("bob", "alice"):
        gateway.run(user, "docker", "run", "--rm", "--name", f"of-{user}", "-v", "seen:/x", IMAGE, "true")
    # With nobody left to read it, the next event ends `docker events`.
    while watching.poll() is None:
        gateway.sh("alice", "docker network create heard; docker network rm heard")
    lines = [json.loads(line) for line in watching.communicate(timeout=120)[0].splitlines()]
    names = {line["Actor"]["Attributes"].get("name") for line in lines if line["Type"] == "container"}
    assert names == {"of-alice"}
    assert {line["Action"] for line in lines if line["Type"] == "container"} >= {"create", "start", "die", "destroy"}
    assert {line["Actor"]["ID"] for line in lines if line["Type"] == "volume"} == {"seen"}


def test_a_hundred_execs_lose_nothing(gateway: GatewayHost):
    gateway.run("alice", "docker", "run", "-d", "--name", "many", IMAGE, "sleep", "99")
    code = """
def main():
    head = b"Host: x\\r\\nConnection: Upgrade\\r\\nUpgrade: tcp\\r\\nContent-Length: 2\\r\\n\\r\\n{}"
    create = b"POST /containers/many/exec HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n%b"
    wrong = []
    for number in range(100):
        sock = connect()
        body = b'{"AttachStdout":true,"Cmd":["echo","%d"]}' % number
        sock.sendall(create % (len(body), body))
        answer = b""
        while b"}" not in answer:
            answer += sock.recv(4096)
        ident = answer.split(b'"Id":"')[1][:64]
        sock.sendall(b"POST /exec/" + ident + b"/start HTTP/1.1\\r\\n" + head)
        data = b""
        while piece := sock.recv(4096):
            data += piece
        if data.partition(b"\\r\\n\\r\\n")[2][8:] != b"%d\\n" % number:
            wrong.append(data.decode("latin-1"))
    return wrong
"""
    assert gateway.python("alice", code) == []
