"""Commands of the docker CLI in their variety: what they print, how they end, and what the engine has afterwards."""

from __future__ import annotations

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost

IMAGE = "ds01-lab/base"


@pytest.fixture(autouse=True)
def _box(gateway: GatewayHost) -> None:
    gateway.run("alice", "docker", "run", "-d", "--stop-signal=KILL", "--name", "box", IMAGE, "sleep", "299")


def test_limits_can_be_changed_within_limits(gateway: GatewayHost):
    uid = gateway.uid["alice"]
    said = gateway.sh(
        "alice",
        """
        docker update --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50 box
        docker update --restart always box; docker update --cpu-shares 99999 box
        for wish in "--memory 1g" "--cpuset-cpus 0" "--pids-limit -1" "--cpus 8" "--memory-swap -1"; do
          docker update $wish box 2>&1 | grep -c 'Error response'; done
        """,
    )
    assert said.count("box\n") == 3
    assert "became on-failure" in said
    assert said.count("\n1") == 5
    host = gateway.inspect(f"box._.{uid}")["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (64 << 20, 64 << 20, 5 * 10**8)
    assert (host["PidsLimit"], host["CpusetCpus"], host["CpuShares"]) == (50, "", 1024)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_names_are_short_everywhere(gateway: GatewayHost):
    said = gateway.sh(
        "alice",
        """
        docker rename box crate; docker stats --no-stream --format '{{.Name}}'
        timeout 120 docker stats --format '{{.Name}}' | grep -om1 'crate.*'; docker ps --format '{{.Names}}'
        docker ps -q --filter name=^crate$ | wc -l; docker inspect -f '{{.Name}}' crate; docker rename crate box
        docker network create net; docker network connect net box; docker network inspect -f \
          '{{range .Containers}}{{.Name}}{{end}}' net; docker rm -f box; docker network rm net; docker wait box
        """,
    )
    assert "._." not in said
    assert "No such container: box" in said
    assert said.count("crate") == 4


def test_processes_end_as_they_end(gateway: GatewayHost):
    said = gateway.sh(
        "alice",
        f"""
        for command in "run --rm {IMAGE} sh -c 'exit 9'" "run --rm {IMAGE} nosuch" "exec box nosuch" \
          "exec box sh -c 'exit 3'" "exec box sh -c 'kill -9 \\$\\$'" "run --rm none-such"; do
          eval docker $command >/dev/null 2>&1; echo $?; done
        docker wait box & sleep 1; docker stop box; wait
        docker create --name later {IMAGE} echo started; docker start -a later; docker logs later
        docker pause later 2>&1 | grep -c 'not running'
        """,
    )
    assert said.split()[:6] == ["9", "127", "126", "3", "137", "125"]
    assert "137\n" in said.split("\n125\n")[1]
    assert said.count("started") == 2
    assert said.endswith("1\n")


def test_old_clients_and_contexts_come_the_same_way(gateway: GatewayHost):
    uid = gateway.uid["alice"]
    for version in ("1.24", "1.30", "1.41", "1.45"):
        said = gateway.sh(
            "alice",
            f"export DOCKER_API_VERSION={version}; docker run --rm -v old:/x --privileged -m 1g {IMAGE} id -u; "
            f"docker create --name v {IMAGE} true; docker exec box echo in",
        )
        assert "0\n" in said
        assert said.endswith("in\n")
        host = gateway.inspect(f"v._.{uid}")["HostConfig"]
        assert (host["Privileged"], host["Memory"], host["CgroupnsMode"]) == (False, 128 << 20, "private")
        assert (host["IpcMode"], host["CgroupParent"]) == ("private", "ds01-student-alice.slice")
        gateway.run("alice", "docker", "rm", "v")
    # No GPU here: dev containers ask for none.
    assert gateway.sh("alice", "docker info --format '{{.Runtimes.nvidia}}'") == "<no value>\n"
    assert "too old" in gateway.sh("alice", "DOCKER_API_VERSION=1.23 docker ps")
    assert "too new" in gateway.sh("alice", "DOCKER_API_VERSION=1.99 docker ps")
    said = gateway.sh(
        "alice",
        f"docker context create here --docker host=unix://{SOCKET}; unset DOCKER_HOST; "
        "docker --context here ps --format '{{.Names}}'; docker context rm here",
    )
    assert "\nbox\n" in said


def test_pruning_takes_only_ones_own(gateway: GatewayHost):
    for user in ("alice", "bob"):
        gateway.run(user, "docker", "create", "--name", "old", "-v", "kept:/k", "-v", "/anonymous", IMAGE, "true")
        gateway.run(user, "docker", "network", "create", "unused")
    said = gateway.sh("alice", "docker container prune -f; docker volume prune -f; docker network prune -f")
    assert "unused" in said
    assert gateway.sh("alice", "docker ps -aq --filter name=old; docker volume ls -q") == "kept\n"
    assert gateway.sh("bob", "docker ps -a --format '{{.Names}}'") == "old\n"
    assert len(gateway.sh("bob", "docker volume ls -q").split()) == 2
    assert "unused" in gateway.sh("bob", "docker network ls")
    gateway.run("alice", "docker", "volume", "prune", "-af")
    assert gateway.sh("alice", "docker volume ls -q") == ""
    assert len(gateway.sh("bob", "docker volume ls -q").split()) == 2


@pytest.mark.parametrize(
    "option", ["--network=nosuch", "--volumes-from=nosuch", "--link=nosuch", "--pid=container:nosuch"]
)
def test_what_is_not_there_is_not_taken_for_the_image(gateway: GatewayHost, option: str):
    """Which docker would fetch at once."""
    said = gateway.sh("alice", f"docker run --rm {option} {IMAGE} true")
    assert option.rpartition("=")[2].removeprefix("container:") in said
    assert "Unable to find image" not in said
    assert "._." not in said


@pytest.mark.parametrize("everything", ["", "-a --volumes"])
def test_a_whole_clean_up_ends_well(gateway: GatewayHost, everything: str):
    for user in ("alice", "bob"):
        gateway.run(user, "docker", "create", "--name", "old", "-v", "/anonymous", IMAGE, "true")
        gateway.run(user, "docker", "network", "create", "unused")
    said = gateway.sh("alice", f"docker system prune -f {everything}; echo code $?")
    assert "Total reclaimed space: " in said
    assert said.endswith("\ncode 0\n"), said
    left = "docker ps -a --format '{{.Names}}'; docker network ls --filter name=unused --format '{{.Name}}'"
    assert gateway.sh("alice", left) == "box\n"
    assert gateway.sh("bob", left) == "old\nunused\n"
    assert len(gateway.sh("bob", "docker volume ls -q").split()) == 1


@pytest.mark.parametrize(("kind", "make"), [("container", f"create {IMAGE}"), ("network", "network create n$n")])
def test_many_clean_up_at_the_same_time(gateway: GatewayHost, kind: str, make: str):
    """The engine cleans up for one only, and has an error for all others."""
    for user in ("alice", "bob"):
        gateway.sh(user, f"for n in $(seq 12); do docker {make}; done")
    clean = f"for n in $(seq 8); do docker {kind} prune -f & done; wait"
    at_once = [gateway.start(user, f"{{ {clean}; }} 2>&1") for user in ("alice", "bob")]
    said = "".join(one.communicate(timeout=300)[0] for one in at_once)
    assert "Error" not in said, said


def test_archives_and_logs_end_the_connection_and_nothing_else(gateway: GatewayHost):
    """A client that asks again on the same connection is told so; what it had was whole."""
    code = """
def main():
    found = []
    for path in ("logs?stdout=1", "archive?path=/etc", "stats?stream=0"):
        sock = connect()
        sock.sendall(b"GET /containers/box/%b HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n" % path.encode() +
                     b"GET /_ping HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        sock.settimeout(120)
        data = b""
        # Where the connection stays, the second answer is the end of what comes.
        while not (data.count(b"HTTP/1.1 ") == 2 and data.endswith(b"OK")) and (piece := sock.recv(1 << 16)):
            data += piece
        head, _, rest = data.partition(b"\\r\\n\\r\\n")
        whole = b"\\r\\n0\\r\\n\\r\\n" in b"\\r\\n" + rest
        found.append([head[:12].decode(), b"\\r\\nConnection: close" in head, whole, data.count(b"HTTP/1.1 ")])
    return found
"""
    assert gateway.python("alice", code) == [["HTTP/1.1 200", True, True, 1]] * 2 + [["HTTP/1.1 200", False, True, 2]]
