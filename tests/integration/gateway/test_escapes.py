"""Ways out and ways round, as raw requests; what counts is what the engine stored, not what the gateway said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ds01.gateway.handlers.networks import PER_PERSON
from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.raw_requests import CREATE, IMAGE, create, request, send


class Probe:
    """Sends raw requests as alice, and looks at the engine."""

    def __init__(self, gateway: GatewayHost) -> None:
        self.gateway = gateway

    def send(self, *requests: bytes) -> list[str]:
        """The answers."""
        return list(send(self.gateway, {str(number): raw for number, raw in enumerate(requests)}).values())

    def create(self, *bodies: dict[str, Any]) -> list[tuple[str, dict[str, Any] | None]]:
        """For each body the answer, and what the engine then had; every one is removed again."""
        return list(create(self.gateway, {str(number): body for number, body in enumerate(bodies)}).values())


@pytest.fixture
def probe(gateway: GatewayHost):
    gateway.run("bob", "docker", "run", "-d", "--name", "victim", "-v", "secret:/s", IMAGE, "sleep", "199")
    gateway.run("bob", "docker", "network", "create", "private")
    return Probe(gateway)


SAFE = [
    ("Privileged", True, lambda host: host["Privileged"] is False),
    (
        "CapAdd",
        ["ALL", "cap_sys_admin", "SYS_PTRACE", "net_admin"],
        lambda host: host["CapAdd"] in (["SYS_PTRACE"], ["CAP_SYS_PTRACE"]),
    ),
    ("CapDrop", [], lambda host: {"MKNOD", "NET_RAW"} <= {name.removeprefix("CAP_") for name in host["CapDrop"]}),
    (
        "SecurityOpt",
        ["seccomp=unconfined", "apparmor:unconfined", "systempaths=unconfined", "no-new-privileges=false"],
        lambda host: not host["SecurityOpt"],
    ),
    ("MaskedPaths", [], lambda host: "/proc/kcore" in host["MaskedPaths"]),
    ("ReadonlyPaths", [], lambda host: "/proc/sysrq-trigger" in host["ReadonlyPaths"]),
    ("PidMode", "host", lambda host: host["PidMode"] == ""),
    ("PidMode", "HOST", lambda host: host["PidMode"] == ""),
    ("IpcMode", "host", lambda host: host["IpcMode"] == "private"),
    ("UTSMode", "host", lambda host: host["UTSMode"] == ""),
    ("UsernsMode", "host", lambda host: host["UsernsMode"] == ""),
    ("CgroupnsMode", "host", lambda host: host["CgroupnsMode"] == "private"),
    ("NetworkMode", "host", lambda host: host["NetworkMode"].startswith("bridge._.")),
    ("NetworkMode", "ns:/proc/1/ns/net", lambda host: host["NetworkMode"].startswith("bridge._.")),
    ("CgroupParent", "/../../evil", lambda host: host["CgroupParent"] == "ds01-student-alice.slice"),
    ("CgroupParent", "ds01-student-bob.slice", lambda host: host["CgroupParent"] == "ds01-student-alice.slice"),
    ("Memory", -1, lambda host: host["Memory"] == 128 << 20),
    ("Memory", 1 << 50, lambda host: host["Memory"] == 128 << 20),
    ("MemorySwap", -1, lambda host: host["MemorySwap"] == 128 << 20),
    ("PidsLimit", -1, lambda host: host["PidsLimit"] == 100),
    ("NanoCpus", 64 * 10**9, lambda host: host["NanoCpus"] == 10**9),
    ("CpuQuota", -1, lambda host: host["NanoCpus"] == 10**9 and host["CpuQuota"] == 0),
    ("CpuShares", 262144, lambda host: host["CpuShares"] <= 1024),
    ("ShmSize", 1 << 40, lambda host: host["ShmSize"] == 32 << 20),
    ("OomScoreAdj", -1000, lambda host: host["OomScoreAdj"] == 0),
    ("OomKillDisable", True, lambda host: not host["OomKillDisable"]),
    ("CpusetCpus", "0", lambda host: host["CpusetCpus"] == ""),
    (
        "Ulimits",
        [{"Name": "core", "Soft": -1, "Hard": -1}, {"Name": "nproc", "Soft": 1, "Hard": 1}],
        lambda host: [limit["Hard"] for limit in host["Ulimits"]] == [0],
    ),
    (
        "Devices",
        [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/sda", "CgroupPermissions": "rwm"}],
        lambda host: not host["Devices"],
    ),
    ("Runtime", "nvidia", lambda host: host["Runtime"] == "runc"),
    ("Annotations", {"cdi.k8s.io/x": "nvidia.com/gpu=all"}, lambda host: not host.get("Annotations")),
    (
        "LogConfig",
        {"Type": "syslog", "Config": {"syslog-address": "udp://10.0.0.1:514"}},
        lambda host: host["LogConfig"]["Type"] == "json-file",
    ),
    ("RestartPolicy", {"Name": "always"}, lambda host: host["RestartPolicy"]["Name"] == "on-failure"),
    (
        "ExtraHosts",
        ["host.docker.internal:host-gateway", "a:10.0.0.1"],
        lambda host: host["ExtraHosts"] == ["a:10.0.0.1"],
    ),
    (
        "PortBindings",
        {"80/tcp": [{"HostIp": "10.1.2.3", "HostPort": "8080"}]},
        lambda host: host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1",
    ),
    ("StorageOpt", {"size": "1t"}, lambda host: not host.get("StorageOpt")),
    ("VolumeDriver", "evil", lambda host: host["VolumeDriver"] == ""),
    (
        "BlkioDeviceWriteBps",
        [{"Path": "/dev/sda", "Rate": 1}],
        # The policy's, of the disks there are.
        lambda host: all(limit["Rate"] == 32 << 20 for limit in host["BlkioDeviceWriteBps"] or []),
    ),
]

CLOSED = [
    {"Binds": ["/etc:/x"]},
    {"Binds": ["/:/x:ro"]},
    {"Binds": ["/var/lib/docker:/x"]},
    {"Binds": ["/run:/x"]},
    {"Binds": ["/srv/people/../../etc:/x"]},
    {"Binds": ["/srv/people/alice/link:/x"]},
    {"Binds": ["/srv/people/alice:/x:rshared"]},
    {"Binds": ["/home/alice:/x"]},
    {"Mounts": [{"Type": "bind", "Source": "/srv/people/alice/none", "Target": "/x"}]},
    {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]},
    {
        "Mounts": [
            {"Type": "bind", "Source": "/srv/people/alice", "Target": "/x", "BindOptions": {"Propagation": "rshared"}}
        ]
    },
    {
        "Mounts": [
            {
                "Type": "volume",
                "Source": "v",
                "Target": "/x",
                "VolumeOptions": {
                    "DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/etc"}}
                },
            }
        ]
    },
    {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"device": "/"}}}}]},
    {"Mounts": [{"Type": "volume", "Source": "v", "Target": "/x", "VolumeOptions": {"Subpath": "../../etc"}}]},
    {"Mounts": [{"Type": "image", "Source": IMAGE, "Target": "/x"}]},
    {"Mounts": [{"Type": "BIND", "Source": "/etc", "Target": "/x"}]},
    {"VolumesFrom": ["victim"]},
    {"VolumesFrom": ["VICTIM_ID:ro"]},
    {"Links": ["VICTIM_ID:x"]},
    {"PidMode": "container:VICTIM_ID"},
    {"IpcMode": "container:VICTIM_ID"},
    {"NetworkMode": "container:VICTIM_ID"},
    {"NetworkMode": "private"},
    {"NetworkMode": "private._.BOB"},
    {"GroupAdd": ["0"]},
    {"GroupAdd": ["docker"]},
    {"DeviceCgroupRules": ["c 195:* rwm"]},
    {"Sysctls": {"kernel.core_pattern": "|/x"}},
    {"PortBindings": {"22/tcp": [{"HostPort": "22"}]}},
    {"Cgroup": "container:x"},
    {"Binds": ["v._.BOB:/x"]},
]


def test_wishes_beyond_the_limits_become_what_is_allowed(probe: Probe):
    answers = probe.create(*({"HostConfig": {name: value}} for name, value, _ in SAFE))
    for (name, value, right), (answer, stored) in zip(SAFE, answers, strict=True):
        assert stored is not None, (name, value, answer)
        assert right(stored["HostConfig"]), (name, value, stored["HostConfig"])


def test_what_reaches_the_host_or_others_is_refused(probe: Probe):
    victim = probe.gateway.inspect(f"victim._.{probe.gateway.uid['bob']}")["Id"]
    probe.gateway.host.sh("ln -sfn /etc /srv/people/alice/link; install -d -o bob -g bob /srv/people/bob")
    text = json.dumps(CLOSED).replace("VICTIM_ID", victim).replace("BOB", str(probe.gateway.uid["bob"]))
    bodies = json.loads(text)
    for body, (answer, stored) in zip(bodies, probe.create(*({"HostConfig": body} for body in bodies)), strict=True):
        assert stored is None, (body, stored)
        assert answer.startswith(("HTTP/1.1 40", "HTTP/1.1 41")), (body, answer)
        assert '"message"' in answer
    # Nothing of it was left behind.
    assert probe.gateway.sh("alice", "docker volume ls -q; docker ps -aq") == ""


def test_other_fields_of_a_create(probe: Probe):
    uid = probe.gateway.uid["bob"]
    network = probe.gateway.host.sh(f"docker network inspect --format '{{{{.Id}}}}' private._.{uid}").strip()
    probe.gateway.run("alice", "docker", "network", "create", "own")
    (_, found), (_, hosted), (foreign, nothing), (_, own), (proc, none), (_, bound) = probe.create(
        {"Labels": {"DS01.uid": str(uid), "ds01.user": "bob", "ok": "yes"},
         "Env": ["NVIDIA_VISIBLE_DEVICES=all", "A=b"]},
        {"NetworkingConfig": {"EndpointsConfig": {"host": {}}}},
        {"NetworkingConfig": {"EndpointsConfig": {network: {}}}},
        {"HostConfig": {"NetworkMode": "own"}, "NetworkingConfig": {"EndpointsConfig": {"own": {
            "MacAddress": "02:42:ac:11:00:02", "DriverOpts": {"x": "y"}, "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}}},
        {"WorkingDir": "/proc/self/fd/7"},
        {"HostConfig": {"Binds": ["/srv/people/alice:/x:ro", "named:/y"]}},
    )  # fmt: skip
    assert found is not None
    assert found["Config"]["Labels"]["ds01.uid"] == str(probe.gateway.uid["alice"])
    assert found["Config"]["Labels"]["ok"] == "yes"
    assert "DS01.uid" not in found["Config"]["Labels"]
    assert found["Config"]["Env"][:2] == ["A=b", "NVIDIA_VISIBLE_DEVICES=void"]
    assert hosted is not None
    assert "host" not in hosted["NetworkSettings"]["Networks"]
    assert nothing is None
    assert f"network {network} not found" in foreign
    assert own is not None
    ((own_name, joined),) = own["NetworkSettings"]["Networks"].items()
    assert own_name == f"own._.{probe.gateway.uid['alice']}"
    assert not any(joined[field] for field in ("IPAMConfig", "MacAddress", "DriverOpts"))
    assert none is None
    assert "WorkingDir" in proc
    assert bound is not None
    assert bound["HostConfig"]["Binds"] == [f"named._.{probe.gateway.uid['alice']}:/y:rw"]
    # The engine has a place that only root reaches, and not the path.
    (pinned,) = bound["HostConfig"]["Mounts"]
    assert (pinned["Source"].startswith("/run/ds01/binds/"), pinned["Target"], pinned["ReadOnly"]) == (True, "/x", True)
    probe.gateway.sh("alice", "docker network rm own; docker volume rm named")


def test_the_parsers_differences_lead_nowhere(probe: Probe):
    victim = f"victim._.{probe.gateway.uid['bob']}"
    probe.gateway.run("alice", "docker", "run", "-d", "--name", "box", IMAGE, "sleep", "199")
    kill = request(f"DELETE /containers/{victim}?force=1")
    exec_id = json.loads(
        probe.gateway.sh(
            "alice",
            "curl -s --unix-socket /run/gw/docker.sock -d '{\"Cmd\":[\"true\"]}' -H 'Content-Type: application/json' http://x/containers/box/exec",
        )
    )["Id"]
    upgrade = ("Connection: Upgrade", "Upgrade: tcp")
    privileged = b'"HostConfig":{"Privileged":true}'
    prune = b"POST /containers/prune HTTP/1.1\r\nHost: x\r\n"
    utf16 = "Content-Type: application/json; charset=utf-16"
    form = "Content-Type: application/x-www-form-urlencoded"
    hostile = {
        "detached exec, then a request": request(f"POST /exec/{exec_id}/start", {"Detach": True}, *upgrade) + kill,
        "exec of nobody, then a request": request(f"POST /exec/{'0' * 64}/start", {}, *upgrade) + kill,
        "ping with upgrade, then a request": request("GET /_ping", b"", *upgrade) + kill,
        "session": request("POST /session", b"", "Connection: Upgrade", "Upgrade: h2c") + kill,
        "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + kill,
        "two framings": prune + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + kill,
        "chunk extension": prune + b"Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n" + kill,
        "body on a GET": request("GET /containers/json", kill),
        "absolute": b"GET http://x/containers/json?all=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "form rename": request("POST /containers/box/rename?name=good", b"name=evil", form),
        "form prune": request("POST /containers/prune", b'filters={"label":{"ds01.uid":true}}', form),
        "two names": request("POST /containers/create?name=probe&name=evil", {"Image": IMAGE}),
        "foreign name": request(f"POST /containers/create?name=probe._.{probe.gateway.uid['bob']}", {"Image": IMAGE}),
        "old start": request("POST /v1.21/containers/box/start", {"Privileged": True, "PidMode": "host"}),
        "case": request(CREATE, b'{"Image":"%b","hostconfig":{"Privileged":true}}' % IMAGE.encode()),
        "twice": request(CREATE, b'{"Image":"%b",%b,%b}' % (IMAGE.encode(), privileged, b'"HostConfig":{}')),
        "long s": request(CREATE, f'{{"Image":"{IMAGE}","Ho\u017ftConfig":{{"Privileged":true}}}}'.encode()),
        "top level": request(CREATE, {"Image": IMAGE, "Privileged": True, "Binds": ["/:/x"]}),
        "trailing": request(CREATE, b'{"Image":"%b"} {%b}' % (IMAGE.encode(), privileged)),
        "other charset": request(CREATE, '{"Image":"x"}'.encode("utf-16"), utf16),
        "dots": b"POST /containers/box/../victim/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "slash in a name": b"POST /containers/box%2f..%2fvictim/kill HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "debug": request("GET /debug/vars"), "metrics": request("GET /metrics"), "options": request("OPTIONS /_ping"),
        "ps": request("GET /containers/box/top?ps_args=-o%20pid%3Bid"),
        "checkpoint": request("POST /containers/box/checkpoints", {"CheckpointID": "x", "CheckpointDir": "/etc"}),
        "privileged exec": request("POST /containers/box/exec", {"Cmd": ["true"], "Privileged": True}),
        "update": request("POST /containers/box/update", {"PidsLimit": -1}),
        "update memory": request("POST /containers/box/update", {"Memory": 1 << 40, "MemorySwap": 1 << 40}),
        "update devices": request("POST /containers/box/update", {"Devices": [{"PathOnHost": "/dev/sda"}]}),
        "volume": request("POST /volumes/create", {"Name": "v", "DriverOpts": {"device": "/etc", "o": "bind"}}),
        "foreign volume": request("DELETE /volumes/secret"),
        "macvlan": request("POST /networks/create", {"Name": "n", "Driver": "macvlan"}),
        "subnet": request("POST /networks/create", {"Name": "n", "IPAM": {"Config": [{"Subnet": "203.0.113.0/24"}]}}),
        "plugin": request("POST /plugins/pull?remote=x", []), "swarm": request("POST /swarm/init", {}),
        "connect": request("POST /networks/bridge/connect", {"Container": victim}),
        "import": request("POST /images/create?fromSrc=http://10.0.0.1/", b""),
        "foreign pull": request(f"POST /images/create?fromImage=ds01-{probe.gateway.uid['bob']}/x", b""),
    }  # fmt: skip
    served = {"ping with upgrade, then a request", "detached exec, then a request", "body on a GET"}
    for name, answer in zip(hostile, probe.send(*hostile.values()), strict=True):
        statuses = [line[9:12] for line in answer.split("\r\n") if line.startswith("HTTP/1.1 ")]
        if name in served:
            assert statuses[0] == "200", (name, answer)
        else:
            assert statuses[0] in {"400", "403", "404", "413", "415", "503"}, (name, answer)
        assert "500" not in statuses, (name, answer)
        # A request behind it was judged by itself, or never read.
        assert all(status in {"404", "400", "403"} for status in statuses[1:]), (name, answer)
    assert probe.gateway.inspect(victim)["State"]["Running"]
    names = probe.gateway.host.sh("docker ps -a --format '{{.Names}}'").split()
    assert sorted(names) == sorted([victim, f"box._.{probe.gateway.uid['alice']}"])
    box = probe.gateway.inspect(f"box._.{probe.gateway.uid['alice']}")["HostConfig"]
    assert (box["Privileged"], box["PidMode"], box["PidsLimit"], box["Memory"]) == (False, "", 100, 128 << 20)
    assert probe.gateway.host.sh("docker volume ls -q").split() == [f"secret._.{probe.gateway.uid['bob']}"]


def test_what_others_have_is_not_shown_anywhere(probe: Probe):
    bob = probe.gateway.uid["bob"]
    found = probe.gateway.inspect(f"victim._.{bob}")
    paths = [
        "/containers/json?all=1",
        "/containers/json?all=1&filters=%7B%22name%22%3A%5B%22victim%22%5D%7D",
        "/networks",
        "/networks/bridge",
        "/volumes",
        "/info",
        "/images/json?all=1",
        "/containers/json?all=1&limit=5",
        f"/containers/{found['Id']}/json",
        f"/volumes/secret._.{bob}",
        f"/networks/private._.{bob}",
    ]
    for path, answer in zip(paths, probe.send(*(request(f"GET {path}") for path in paths)), strict=True):
        body = answer.partition("\r\n\r\n")[2]
        for secret in ("victim", f"._.{bob}", found["NetworkSettings"]["Networks"][f"bridge._.{bob}"]["IPAddress"]):
            assert secret not in body.replace(path.rpartition("/")[2], ""), (path, secret)
    assert 'Containers":0' in probe.send(request("GET /info"))[0]


def test_a_volume_without_a_name_is_its_owners_whoever_knows_its_id(gateway: GatewayHost):
    ids = {}
    for user in ("alice", "bob"):
        gateway.run(user, "docker", "run", "--name", "keeper", "-v", "/d", IMAGE, "touch", f"/d/of-{user}")
        ids[user] = gateway.inspect(f"keeper._.{gateway.uid[user]}")["Mounts"][0]["Name"]
    assert gateway.sh("alice", f"docker run --rm -v {ids['alice']}:/x {IMAGE} ls /x") == "of-alice\n"
    assert gateway.sh("alice", f"docker run --rm -v {ids['bob']}:/x {IMAGE} ls /x") == ""
    assert ids["bob"] in gateway.sh("bob", "docker volume ls -q")
    gateway.sh("alice", f"docker rm -v keeper; docker volume rm {ids['bob']}")
    assert gateway.sh("bob", f"docker run --rm -v {ids['bob']}:/x {IMAGE} ls /x; docker rm -v keeper").startswith("of-")


def test_no_column_of_processes_is_called_pid_but_that_one(probe: Probe):
    probe.gateway.run("alice", "docker", "run", "-d", "--name", "top", "--stop-signal=KILL", IMAGE, "sleep", "99")
    path = "/containers/top/top?ps_args="
    plain, other = probe.send(request(f"GET {path}-eo%20pid,args"), request(f"GET {path}-eouid%3DPID%20-oargs"))
    assert "sleep 99" in plain
    assert other.startswith("HTTP/1.1 400")
    probe.gateway.run("alice", "docker", "rm", "-f", "top")


def test_health_checks_keep_the_engine_busy_once_a_second_at_most(probe: Probe):
    often = {"Test": ["CMD", "true"], "Interval": 2_000_000, "StartInterval": 2_000_000}
    probe.gateway.sh(
        "alice",
        f"docker create --name base {IMAGE} true; docker commit -c 'HEALTHCHECK --interval=2ms CMD true' base checked",
    )
    (said, given), (_, hourly), (_, inherited) = probe.create(
        {"Healthcheck": often}, {"Healthcheck": often | {"Interval": 3_600_000_000_000}}, {"Image": "checked"}
    )
    assert given is not None
    assert given["Config"]["Healthcheck"]["Interval"] == 1_000_000_000
    assert "it is made once a second" in said
    assert hourly is not None
    assert hourly["Config"]["Healthcheck"]["Interval"] == 3_600_000_000_000
    assert inherited is not None
    assert inherited["Config"]["Healthcheck"]["Test"] == ["NONE"]
    probe.gateway.sh("alice", "docker rm base; docker rmi checked")


def test_networks_made_at_the_same_time_are_counted(gateway: GatewayHost):
    code = """
import json
def main(number):
    open_ = [connect() for _ in range(number)]
    for index, sock in enumerate(open_):
        body = json.dumps({"Name": f"n{index}"}).encode()
        head = f"POST /networks/create HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(body)}\\r\\n"
        sock.sendall((head + "Connection: close\\r\\n\\r\\n").encode() + body)
    return [read_all(sock, 60)[:12].decode() for sock in open_]
"""
    made = gateway.python("alice", code, number=PER_PERSON + 3).count("HTTP/1.1 201")
    left = gateway.sh("alice", "docker network ls -q --filter name=n | xargs docker network rm")
    assert 0 < made <= PER_PERSON, left
