"""Who asks: the kernel's word, and only for processes of the host."""

from __future__ import annotations

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost

RAW = "GET /containers/json?all=1 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"
LIST = f'def main():\n    return talk(b"{RAW}")'


@pytest.fixture
def web(gateway: GatewayHost):
    gateway.run("alice", "docker", "run", "-d", "--name", "web", "ds01-lab/base", "sleep", "99")


def in_container(gateway: GatewayHost, user: str, *options: str) -> str:
    """What a client says that is in a container which root gave the shared socket."""
    argv = [
        "docker",
        "run",
        "--rm",
        "-u",
        user,
        "-v",
        f"{SOCKET}:/shared.sock",
        "-e",
        "DOCKER_HOST=unix:///shared.sock",
    ]
    done = gateway.host.run(*argv, *options, "ds01-lab/client", "/usr/bin/docker", "ps", check=False)
    return done.stdout + done.stderr


@pytest.mark.usefixtures("web")
def test_people_are_who_the_kernel_says(gateway: GatewayHost):
    assert "/web" in gateway.python("alice", LIST)
    assert "/web" not in gateway.python("bob", LIST)
    # An administrator sees all, by the engine's names, and what they change is recorded.
    assert f"/web._.{gateway.uid['alice']}" in gateway.python("carol", LIST)
    gateway.run("carol", "docker", "restart", "-t0", f"web._.{gateway.uid['alice']}")
    recorded = gateway.events("gateway.admin")[-1]
    assert (recorded["actor"]["user"], recorded["decision"]) == ("carol", "allowed")
    # What an administrator makes is theirs, within limits as everybody's.
    gateway.run("carol", "docker", "create", "--name", "mine", "ds01-lab/base", "true")
    assert gateway.inspect(f"mine._.{gateway.uid['carol']}")["HostConfig"]["Memory"] == 128 << 20
    gateway.run("carol", "docker", "rm", "mine")


@pytest.mark.usefixtures("web")
def test_nobody_in_a_container_is_anybody_on_the_shared_socket(gateway: GatewayHost):
    for user in ("0", str(gateway.uid["alice"]), str(gateway.uid["carol"])):
        for options in ((), ("--pid=host",), ("--pid=host", "--cgroupns=host", "--network=host")):
            said = in_container(gateway, user, *options)
            assert "this socket serves only processes of the host" in said, (user, options)
            assert "web" not in said
    assert gateway.events("gateway.refuse")[-1]["rule"] == "identity.container"
    # Nor in a namespace that somebody made for themselves, where they are root.
    nested = gateway.run("alice", "unshare", "-Ur", "curl", "-s", "--unix-socket", SOCKET, "http://x/info", check=False)
    assert "serves only processes of the host" in nested.stdout


@pytest.mark.usefixtures("web")
def test_a_bound_socket_is_its_owners_whoever_is_inside(gateway: GatewayHost):
    gateway.run("bob", "docker", "run", "-d", "--name", "bobs", "ds01-lab/base", "sleep", "99")
    for inside in ("0", str(gateway.uid["bob"]), str(gateway.uid["carol"]), "4321"):
        said = gateway.sh(
            "alice",
            f"docker run --rm -u {inside} -v /var/run/docker.sock:/var/run/docker.sock ds01-lab/client "
            "/usr/bin/docker -H unix:///var/run/docker.sock ps -a --format '{{.Names}}'",
        )
        assert "web" in said
        assert "bobs" not in said
    own = f"/run/gw/users/{gateway.uid['alice']}"
    assert gateway.host.sh(f"stat -c '%a %U' {own}").split() == ["700", "root"]
    # Nobody can put there what the engine would bind as root: not even its owner.
    for user in ("alice", "bob"):
        assert "Permission denied" in gateway.sh(user, f"ln -sf /etc/shadow {own}/docker.sock")
    said = gateway.sh("alice", "docker run --rm -v /var/run/docker.sock:/x ds01-lab/base ls -l /x")
    assert said.startswith("srw")
    # Somebody who gets to it all the same, on the host, is not its owner.
    gateway.host.sh(f"chmod 755 {own}")
    assert "not of uid" in gateway.sh("bob", f"curl -s --unix-socket {own}/docker.sock http://x/info")
    gateway.host.sh(f"chmod 700 {own}")
    gateway.run("bob", "docker", "rm", "-f", "bobs")
    # The directory of sockets is nothing to bind.
    for source in ("/run/gw", "/run", "/", own):
        assert "cannot be bound" in gateway.sh("alice", f"docker run --rm -v {source}:/x ds01-lab/base true")
