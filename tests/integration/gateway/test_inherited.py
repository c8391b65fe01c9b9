"""Containers from before the gateway: they run on, and what they have of the server nobody gets by them."""

from __future__ import annotations

import pytest

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
GIVES = {
    "cap": ("--cap-add SYS_ADMIN", "--cap-add SYS_ADMIN"),
    "pid": ("--pid host", "--pid host"),
    "root": ("-v /:/host", "-v /"),
    "others": ("-v /home/bob:/bob", "-v /home/bob"),
    "disk": ("--device /dev/snd/../null:/dev/sda", "--device /dev/null"),
    "rule": ("--device-cgroup-rule 'c 1:3 rwm'", "--device-cgroup-rule"),
    "paths": ("--security-opt systempaths=unconfined", "--security-opt systempaths=unconfined"),
}
ALIVE = "sh -c 'echo printed; touch /kept; exec sleep 999'"


def old(gateway: GatewayHost, name: str, flags: str, *, verb: str = "run -d") -> str:
    """Make a container of alice's at the engine itself, as was done before; a gateway that starts looks through all."""
    made = f"docker {verb} --name {name}._.{gateway.uid['alice']} {flags} {IMAGE} {ALIVE}"
    return gateway.host.sh(f"{made}; systemctl restart gw.service").strip()


@pytest.mark.parametrize("name", GIVES)
def test_nobody_gets_into_one_with_rights_of_the_server(gateway: GatewayHost, name: str):
    flags, said = GIVES[name]
    gateway.host.sh("mkdir -p /dev/snd")
    identity = old(gateway, name, flags)
    for way in ("exec {} id", "attach --no-stdin {}", "start {}", "restart {}"):
        refused = gateway.run("alice", "sh", "-c", f"timeout 20 docker {way.format(name)}", check=False)
        assert refused.returncode not in {0, 124}, way
        # A start says of binds that their paths could lead elsewhere; of an attach, the client prints only the number.
        reasons = (said, "older than this rule", "received 403")
        assert any(reason in refused.stderr for reason in reasons), (way, refused.stderr)
    # It runs on, and all but the way in is its owner's.
    assert gateway.inspect(identity)["State"]["Running"]
    assert "printed" in gateway.sh("alice", f"docker logs {name}; docker commit {name} kept; docker stop -t 0 {name}")
    assert gateway.sh("alice", "docker run --rm kept ls /kept") == "/kept\n"
    # An administrator may.
    gateway.host.sh(f"docker -H unix:///run/gw/docker.sock start {name}._.{gateway.uid['alice']}")
    assert gateway.inspect(identity)["State"]["Running"]


def test_a_privileged_one_is_not_started(gateway: GatewayHost):
    # Which this host could not do either: it is refused before.
    identity = old(gateway, "mighty", "--privileged", verb="create")
    said = gateway.sh(
        "alice", "docker start mighty; docker restart mighty; docker start -a mighty; docker exec mighty id"
    )
    assert said.count("has rights of the server: --privileged") == 3
    assert "received 403" in said
    assert gateway.inspect(identity)["State"]["Status"] == "created"


def test_one_on_the_servers_network_is_worked_in_until_it_ends(gateway: GatewayHost):
    old(gateway, "stock", "--network host --ipc host")
    assert gateway.sh("alice", "docker exec stock ls /kept") == "/kept\n"
    # But it gives its network and memory to no other one, not by a third either.
    uid = gateway.uid["alice"]
    old(gateway, "third", f"--network container:stock._.{uid} --ipc container:stock._.{uid}")
    for between in ("stock", "third"):
        for flag in ("--network", "--ipc"):
            said = gateway.sh("alice", f"docker run --rm {flag} container:{between} {IMAGE} true")
            assert f"has rights of the server: {flag} host" in said, (between, flag)
    said = gateway.sh("alice", "docker stop -t 0 stock; docker start stock")
    assert "has rights of the server: --network host, --ipc host" in said


def test_a_namespace_of_processes_is_not_shared_on(gateway: GatewayHost):
    old(gateway, "watcher", "--pid host")
    old(gateway, "third", f"--pid container:watcher._.{gateway.uid['alice']}")
    said = gateway.sh(
        "alice",
        f"docker run --rm --pid container:watcher --cap-add SYS_PTRACE {IMAGE} true; docker exec third id;"
        "docker stop -t 0 third; docker start third",
    )
    assert said.count("has rights of the server: --pid host") == 3


def test_an_ordinary_one_is_its_owners_as_ever(gateway: GatewayHost):
    old(gateway, "plain", "--cap-add NET_RAW --security-opt seccomp=unconfined")
    assert gateway.sh("alice", "docker exec plain ls /kept; docker restart -t 0 plain") == "/kept\nplain\n"
    assert gateway.sh("alice", f"docker run --rm --network container:plain {IMAGE} echo joined") == "joined\n"
