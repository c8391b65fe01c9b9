"""Whatever a create asks for: what the engine then has is within the rules, or it has nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ds01.gateway.handlers.create_fields import HOST, TOP
from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.test_escapes import Probe

TEXTS = st.sampled_from(
    [
        "", "0", "host", "Host", "bridge", "none", "private", "container:1", "ns:/proc/1/ns/net", "unconfined", "ALL",
        "seccomp=unconfined", "no-new-privileges:true", "SYS_ADMIN", "cap_sys_ptrace", "/etc", "/etc:/x",
        "/:/x:rshared", "v:/x", "/run/gw:/x", "on-failure", "always", "nvidia", "local", "8080/tcp", "22", "../../evil",
        "docker", "x.slice", "a:host-gateway", "a:10.0.0.1", "NVIDIA_VISIBLE_DEVICES=all", "c 195:* rwm",
        "net.core.somaxconn", "kernel.core_pattern", "core", "nofile", "syslog", "bind", "volume", "tmpfs", "\u0130",
        "\u017f",
    ]
)  # fmt: skip
NUMBERS = st.sampled_from([-(1 << 63), -1000, -1, 0, 1, 100, 4 << 20, 64 << 20, 1 << 40, (1 << 63) - 1])
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
KEYS = st.sampled_from(
    ["Name", "Type", "Source", "Target", "PathOnHost", "Soft", "Hard", "HostPort", "HostIp", "Driver", "Count", "Test",
     "DeviceIDs", "Options", "Config", "MaximumRetryCount", "Rate", "Path"]
) | TEXTS  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)
FLAGS = ("Privileged", "ReadonlyRootfs", "Init", "OomKillDisable", "PublishAllPorts", "AutoRemove", "Tty")
"""Fields whose values are drawn by what they are: otherwise nearly everything would be refused for its type."""


def fitting(name: str) -> st.SearchStrategy[Any]:
    """Values for a field, mostly of its type."""
    lists = st.lists(TEXTS, max_size=3)
    kinds = {
        **dict.fromkeys(FLAGS, st.booleans()),
        **dict.fromkeys(("CapAdd", "CapDrop", "SecurityOpt", "Binds", "GroupAdd", "ExtraHosts", "Env", "Cmd"), lists),
        **dict.fromkeys(("Dns", "DnsSearch", "MaskedPaths", "ReadonlyPaths", "VolumesFrom", "Links"), lists),
        **dict.fromkeys(("Sysctls", "Tmpfs", "Annotations", "StorageOpt", "Labels"), st.dictionaries(TEXTS, TEXTS)),
        "RestartPolicy": st.fixed_dictionaries({"Name": TEXTS}, optional={"MaximumRetryCount": NUMBERS}),
        "LogConfig": st.fixed_dictionaries({"Type": TEXTS}, optional={"Config": st.dictionaries(TEXTS, TEXTS)}),
    }
    if name in kinds:
        return kinds[name]
    numbers = name.startswith(("Memory", "Cpu", "Nano", "Pids", "Shm", "Oom", "Blkio", "Kernel", "IOMaximum"))
    return NUMBERS if numbers and name not in {"CpusetCpus", "CpusetMems"} else TEXTS | VALUES


def bodies() -> st.SearchStrategy[dict[str, Any]]:
    host = st.lists(st.sampled_from(sorted(HOST)), max_size=3, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: fitting(name) for name in chosen})
    )
    top = st.lists(st.sampled_from(sorted(set(TOP) - {"Image"})), max_size=2, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: fitting(name) for name in chosen})
    )
    return st.builds(lambda outer, inner: outer | {"HostConfig": inner}, top, host)


def check(found: dict[str, Any], uid: int) -> None:
    """See that a container is what anybody may have."""
    host = found["HostConfig"]
    assert host["Privileged"] is False
    assert {name.removeprefix("CAP_") for name in host["CapAdd"] or []}.isdisjoint({"ALL", "SYS_ADMIN"})
    assert {"MKNOD", "NET_RAW"} <= {name.removeprefix("CAP_") for name in host["CapDrop"]}
    assert set(host["SecurityOpt"] or []) <= {"no-new-privileges:true"}
    assert "/proc/kcore" in host["MaskedPaths"]
    assert "/proc/sysrq-trigger" in host["ReadonlyPaths"]
    assert host["NetworkMode"] in {"bridge", "none", "default"} or host["NetworkMode"].endswith(f"._.{uid}")
    assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == host["CpusetCpus"] == ""
    assert host["IpcMode"] in {"private", "shareable", "none"}
    assert host["CgroupnsMode"] == "private"
    assert host["CgroupParent"] == "ds01-student-alice.slice"
    assert 0 < host["Memory"] <= 128 << 20
    assert 0 < host["MemorySwap"] <= 128 << 20
    assert 0 < host["PidsLimit"] <= 100
    assert 0 < host["NanoCpus"] <= 10**9
    assert host["CpuQuota"] == 0
    assert 0 < host["ShmSize"] <= 32 << 20
    assert 0 <= host["OomScoreAdj"] <= 1000
    assert not host["OomKillDisable"]
    assert not host["Devices"]
    assert not host["DeviceCgroupRules"]
    assert not host["DeviceRequests"]
    assert host["Runtime"] == "runc"
    assert host["RestartPolicy"]["Name"] in {"no", "on-failure"}
    assert host["LogConfig"]["Type"] == "json-file"
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert all(name.startswith("net.") for name in host.get("Sysctls") or {})
    assert not any(entry.endswith("host-gateway") for entry in host["ExtraHosts"] or [])
    assert all(limit["Hard"] <= 1 << 20 for limit in host["Ulimits"] or [] if limit["Name"] != "memlock")
    assert all(place["HostIp"] == "127.0.0.1" for places in (host["PortBindings"] or {}).values() for place in places)
    assert all(mount["Type"] in {"volume", "tmpfs"} for mount in found["Mounts"])
    assert "NVIDIA_VISIBLE_DEVICES=all" not in found["Config"]["Env"]
    assert found["Config"]["Labels"]["ds01.uid"] == str(uid)


UNCHANGED = {
    "Config": ("Hostname", "Domainname", "User", "Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout",
               "AttachStderr", "Cmd", "Entrypoint", "Shell", "StopSignal"),
    "HostConfig": ("ReadonlyRootfs", "Init", "AutoRemove", "Dns", "DnsSearch", "DnsOptions", "GroupAdd"),
}  # fmt: skip
"""What says nothing about anybody but the container itself."""
AT_MOST = {"Memory": 128 << 20, "PidsLimit": 100, "ShmSize": 32 << 20}
"""Numbers of which one may have less than one's limit."""


HARMLESS = {
    "Hostname": "here", "Domainname": "lab", "User": "1000:1000", "Tty": True, "OpenStdin": True, "StdinOnce": True,
    "AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": ["sleep", "9"], "Entrypoint": ["env", "-i"],
    "Shell": ["sh", "-c"], "StopSignal": "SIGINT", "Env": ["A=b", "EMPTY="], "Labels": {"mine": "1", "Üml": "ä\n"},
    "HostConfig": {
        "ReadonlyRootfs": True, "Init": True, "AutoRemove": True, "Dns": ["192.0.2.1"], "DnsSearch": ["lab.test"],
        "DnsOptions": ["ndots:2"], "GroupAdd": ["1000"], "Memory": 64 << 20, "PidsLimit": 7, "ShmSize": 1 << 20,
    },
}  # fmt: skip


def check_intended(asked: dict[str, Any], found: dict[str, Any]) -> int:
    """See that a container is what was asked for where that is allowed; returns how much of it was compared."""
    given = {"Config": asked, "HostConfig": asked["HostConfig"]}
    wanted = {
        (part, name): given[part][name]
        for part, fields in UNCHANGED.items()
        for name in fields
        if given[part].get(name)
    }
    for (part, name), value in wanted.items():
        # The API takes one text for a list of one.
        single = [value] if isinstance(value, str) and isinstance(found[part][name], list) else value
        assert found[part][name] == single, (name, asked)
    host = {name: value for name, value in asked["HostConfig"].items() if value is not None}
    numbers = {name: host[name] for name in AT_MOST if host.get(name, 0) > 0}
    for name, value in numbers.items():
        assert found["HostConfig"][name] == min(value, AT_MOST[name]), (name, asked)
    if "OomScoreAdj" in host:
        assert found["HostConfig"]["OomScoreAdj"] == min(max(host["OomScoreAdj"], 0), 1000)
    environment = [entry for entry in asked.get("Env") or [] if not entry.startswith("NVIDIA_")]
    assert set(environment) <= set(found["Config"]["Env"])
    assert (asked.get("Labels") or {}).items() <= found["Config"]["Labels"].items()
    return len(wanted) + len(numbers) + len(environment) + len(asked.get("Labels") or {})


@settings(
    max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(asked=st.lists(bodies(), min_size=50, max_size=50))
def test_what_is_stored_is_what_anybody_may_have(gateway: GatewayHost, asked: list[dict[str, Any]]):
    made = 0
    for body, (answer, stored) in zip(asked, Probe(gateway).create(*asked), strict=True):
        status = answer[9:12]
        assert status in {"201", "400", "403", "404", "409", "415"}, (body, answer)
        assert (status == "201") == (stored is not None), (body, answer)
        if stored is not None:
            check(stored, gateway.uid["alice"])
            check_intended(body, stored)
            made += 1
    assert made > 5


def test_what_anybody_may_have_is_stored_as_it_was_asked(gateway: GatewayHost):
    ((answer, stored),) = Probe(gateway).create(HARMLESS)
    assert stored is not None, answer
    assert check_intended(HARMLESS, stored) == sum(map(len, UNCHANGED.values())) + len(AT_MOST) + 4
