"""What containers and steps of builds are on the host, whatever was asked for: what the kernel says of a process.

What the engine stored is what it means to do; here is what came of it.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.gateway.gateway_host import SOCKET, GatewayHost
from tests.integration.gateway.gpu_host import until
from tests.integration.gateway.raw_requests import CREATE, IMAGE, request, send

MEMORY = 128 << 20
# Numbers of capabilities, as the kernel has them in its masks.
CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "FSETID": 4, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_BIND_SERVICE": 10, "NET_RAW": 13, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "AUDIT_WRITE": 29, "SETFCAP": 31,
}  # fmt: skip
EVERYBODYS = set(CAPABILITIES) - {"NET_RAW", "SYS_PTRACE", "AUDIT_WRITE"}
HOSTILE: dict[str, Any] = {
    "Privileged": True, "CapAdd": ["ALL", "SYS_ADMIN", "MKNOD", "BPF", "cap_sys_ptrace"], "CapDrop": [],
    "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable", "systempaths=unconfined",
                    "no-new-privileges=false"],
    "MaskedPaths": [], "ReadonlyPaths": [], "PidMode": "host", "IpcMode": "host", "UTSMode": "host",
    "UsernsMode": "host", "CgroupnsMode": "host", "NetworkMode": "host", "CgroupParent": "/", "OomScoreAdj": -1000,
    "OomKillDisable": True, "Memory": -1, "MemorySwap": -1, "PidsLimit": -1, "CpuQuota": -1, "CpusetCpus": "0",
    "Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}, {"Name": "nproc", "Soft": 7, "Hard": 7}],
    "Devices": [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}],
    "Sysctls": {"net.ipv4.ip_unprivileged_port_start": "77"},
}  # fmt: skip
MODEST = {"CapAdd": ["NET_RAW", "AUDIT_WRITE", "MKNOD"], "SecurityOpt": ["no-new-privileges"]}
# All that the host's kernel says of a process. Limits are in one tree of cgroups or, before that, in one for each kind.
LOOK = """
import glob
def main(pid):
    at = f"/proc/{pid}"
    groups = {}
    for line in open(f"{at}/cgroup").read().splitlines():
        number, kinds, path = line.split(":", 2)
        for kind in kinds.split(","):
            groups[kind] = path
    def limit(kind, old, new):
        path = f"/sys/fs/cgroup/{kind}{groups[kind]}/{old}" if kind in groups else f"/sys/fs/cgroup{groups['']}/{new}"
        return open(path).read().split()
    return {
        "status": dict(line.split(":\\t") for line in open(f"{at}/status").read().splitlines() if ":\\t" in line),
        "oom": open(f"{at}/oom_score_adj").read().strip(),
        "limits": {line[:26].strip(): line[26:].split()[:2] for line in open(f"{at}/limits").read().splitlines()},
        "own": [kind for kind in os.listdir("/proc/1/ns")
                if os.readlink(f"{at}/ns/{kind}") != os.readlink(f"/proc/1/ns/{kind}")],
        "groups": sorted({path for kind, path in groups.items() if kind in {"", "memory", "pids", "cpu"}}),
        "memory": limit("memory", "memory.limit_in_bytes", "memory.max"),
        "processes": limit("pids", "pids.max", "pids.max"),
        "cpus": (limit("cpu", "cpu.cfs_quota_us", "cpu.max") + limit("cpu", "cpu.cfs_period_us", "cpu.max"))[:2],
        "devices": os.listdir(f"{at}/root/dev"),
    }
"""
# What root in a container would need one of those wishes for.
TRIED = (
    "mknod /tmp/disk b 8 0", "mount -t tmpfs none /tmp", "unshare -m true", "hostname elsewhere",
    "echo 1 >/proc/sys/kernel/panic",
)  # fmt: skip


def started(gateway: GatewayHost, name: str, host: dict[str, Any]) -> dict[str, Any]:
    """Start a container of alice's, and say what the kernel says of it."""
    body = {"Image": IMAGE, "Cmd": ["sleep", "299"], "StopSignal": "KILL", "HostConfig": host}
    answers = send(
        gateway,
        {"create": request(CREATE.replace("probe", name), body), "start": request(f"POST /containers/{name}/start")},
    )
    assert answers["start"].startswith("HTTP/1.1 204 "), answers
    return seen(gateway, gateway.inspect(f"{name}._.{gateway.uid['alice']}")["State"]["Pid"])


def seen(gateway: GatewayHost, pid: int) -> dict[str, Any]:
    found: dict[str, Any] = gateway.python("root", LOOK, pid=pid)
    return found


def capabilities(*names: str) -> str:
    return f"{sum(1 << CAPABILITIES[name] for name in names):016x}"


def within_limits(found: dict[str, Any]) -> None:
    """See that a process has the policy's limits, below the slice of its owner."""
    assert all("/ds01-student-alice.slice/" in path for path in found["groups"]), found["groups"]
    assert found["memory"] == [str(MEMORY)]
    quota, period = map(int, found["cpus"])
    assert quota == period


def test_a_container_is_to_the_kernel_what_everybody_may_be(gateway: GatewayHost):
    port = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/hostname"
    before = gateway.host.sh(port)
    found = started(gateway, "hostile", HOSTILE)
    allowed = capabilities(*EVERYBODYS, "SYS_PTRACE")
    status = found["status"]
    assert (status["CapBnd"], status["CapEff"], status["CapPrm"]) == (allowed,) * 3
    assert (status["CapInh"], status["CapAmb"]) == (capabilities(),) * 2
    # A filter of system calls, the engine's own.
    assert status["Seccomp"] == "2"
    assert {"cgroup", "ipc", "mnt", "net", "pid", "uts"} <= set(found["own"])
    assert found["oom"] == "0"
    assert found["limits"]["Max core file size"] == ["0", "0"]
    assert found["limits"]["Max processes"] != ["7", "7"]
    assert "kmsg" not in found["devices"]
    within_limits(found)
    assert found["processes"] == ["100"]
    own = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/1/comm"
    *refused, number, first = gateway.sh(
        "alice", f"docker exec hostile sh -c '{'; '.join((*TRIED, own))}'"
    ).splitlines()
    assert len(refused) == len(TRIED), refused
    assert [line for line in refused if not re.search("ermi(ssion|tted)|Read-only", line)] == []
    # The number is the one that was asked for, and so is the first process.
    assert (number, first) == ("77", "sleep")
    assert gateway.host.sh(port) == before


def test_what_may_be_asked_for_is_had(gateway: GatewayHost):
    found = started(gateway, "modest", MODEST)
    status = found["status"]
    assert status["CapBnd"] == capabilities(*EVERYBODYS, "NET_RAW", "AUDIT_WRITE")
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    assert started(gateway, "plain", {})["status"]["CapBnd"] == capabilities(*EVERYBODYS)


ASKED: dict[str, str] = {
    "cgroupparent": "/", "memory": "-1", "memswap": "-1", "cpuquota": "-1", "cpuperiod": "1000",
    "cpushares": "262144", "cpusetcpus": "0", "cpusetmems": "0", "shmsize": str(1 << 40),
    "ulimits": json.dumps([{"Name": "core", "Soft": -1, "Hard": -1}, {"Name": "nproc", "Soft": 7, "Hard": 7}]),
    "labels": json.dumps({"ds01.uid": "0", "Ds01.protected": "1"}), "nocache": "1", "rm": "0", "CgroupParent": "/",
    "isolation": "hyperv", "privileged": "1", "CapAdd": "ALL",
}  # fmt: skip
# None of these is begun.
NOT_BUILT = (
    "securityopt=%5B%22seccomp%3Dunconfined%22%5D", "outputs=%5B%7B%22Type%22%3A%22local%22%7D%5D", "squash=1",
    "networkmode=host", "networkmode=Host", "networkmode=ns%3A/proc/1/ns/net", "networkmode=container%3Avictim",
    "networkmode=container%3AVICTIM", "networkmode=private", "networkmode=private._.BOB",
    "memory=1&memory=2", "cgroupparent=a.slice&cgroupparent=/", "networkmode=none&networkmode=host",
    "version=1&version=2", "remote=&remote=http://10.0.0.1/x", "securityopt=&securityopt=%5B%22seccomp%3Dx%22%5D",
    "extrahosts=a:1.2.3.4&extrahosts=b:host-gateway", "buildargs=%7B%22A%22:%221%22,%22A%22:%222%22%7D",
    "t=a&t=ds01-BOB/x",
)  # fmt: skip


def context(dockerfile: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(dockerfile)
        tar.addfile(info, io.BytesIO(dockerfile.encode()))
    return out.getvalue()


@pytest.fixture
def step(gateway: GatewayHost) -> Iterator[str]:
    """The id of the container of a step that waits, of a build for which everything was asked."""
    gateway.host.write("/srv/context.tar", context(f"FROM {IMAGE}\nRUN exec sleep 299\n"))
    query = urlencode([*ASKED.items(), ("t", "a"), ("t", "b"), ("dockerfile", "Dockerfile"), ("dockerfile", "/x")])
    building = gateway.start(
        "alice", f"curl -s --unix-socket {SOCKET} -T- -X POST 'http://x/build?{query}' </srv/context.tar"
    )
    steps = "docker ps -q --no-trunc"
    assert until(lambda: gateway.host.sh(steps).split() or building.poll() is not None)
    assert building.poll() is None, building.communicate()[0]
    (found,) = gateway.host.sh(steps).split()
    yield found
    gateway.host.sh(f"docker kill {found}")
    building.communicate(timeout=120)


def test_a_step_of_a_build_is_a_container_like_any_other(gateway: GatewayHost, step: str):
    stored = gateway.inspect(step)
    host = stored["HostConfig"]
    uid = gateway.uid["alice"]
    assert (host["CgroupParent"], host["Privileged"]) == ("ds01-student-alice.slice", False)
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (MEMORY, MEMORY, 32 << 20)
    assert (host["CpuQuota"], host["CpuPeriod"], host["CpuShares"]) == (100_000, 100_000, 0)
    assert (host["CpusetCpus"], host["CpusetMems"], host["NetworkMode"]) == ("", "", f"bridge._.{uid}")
    assert not host["Ulimits"]
    assert not host["SecurityOpt"]
    found = seen(gateway, stored["State"]["Pid"])
    within_limits(found)
    assert found["status"]["Seccomp"] == "2"
    assert {"ipc", "mnt", "net", "pid", "uts"} <= set(found["own"])


def test_a_build_that_asks_for_more_is_not_begun(gateway: GatewayHost, victim: str):
    bob = str(gateway.uid["bob"])
    before = gateway.host.sh("docker images -aq")
    body = context(f"FROM {IMAGE}\nRUN touch /was-here\n")
    queries = {query: query.replace("VICTIM", victim).replace("BOB", bob) for query in NOT_BUILT}
    answers = send(gateway, {name: request(f"POST /build?{query}", body) for name, query in queries.items()})
    assert {name: said for name, said in answers.items() if said[9:10] != "4" or '"message"' not in said} == {}
    assert gateway.host.sh("docker images -aq") == before
