"""The allow-list of container create: every field the API has, its shape, and what becomes of it.

A rule takes the value and the draft and returns what is sent, None for nothing. What is not in a table is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from ds01.engine import origin
from ds01.gateway.exchange import Exchange
from ds01.gateway.gpu_request import VISIBLE, WAIT, Asked, read_wait
from ds01.gateway.handlers import ports
from ds01.gateway.handlers.common import NEIGHBOURS, labels, working_dir
from ds01.gateway.handlers.limits import restart_policy
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import Shape, decimal, empty, flag, items, record, required, table, text, whole, words

_STOP_TIMEOUT_MAX: Final = 60
_CHECK_LEAST: Final = 1_000_000_000
"""Nanoseconds between two health checks: each is work of the engine, which no slice limits."""
_CHECK_INTERVALS: Final = ("Interval", "StartInterval")
CAPABILITIES: Final = frozenset({"SYS_PTRACE", "NET_RAW", *(
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT",
)})  # fmt: skip
"""SYS_PTRACE reaches only the container's own processes, NET_RAW only networks of the owner's; the rest is what the
engine gives anyway."""
_DROPPED: Final = ("MKNOD", "NET_RAW", "AUDIT_WRITE")
"""Of the engine's default set: next to nothing in a container needs them, and each has helped somebody out of one. What
needs NET_RAW is the ping of busybox, and of others where it has the file capability; ICMP sockets need no right."""
_SYSCTL: Final = re.compile(
    r"net\.(?:ipv4|ipv6|core|unix)\.[a-z0-9_.-]+|kernel\.(?:shm[a-z_]+|msg[a-z_]+|sem)|fs\.mqueue\.[a-z_]+"
)
_ULIMITS: Final = {"nofile": 1 << 20, "memlock": -1, "stack": -1, "core": 0}
_GROUP_FIX: Final = "leave --group-add out"


@dataclass
class Draft:
    """A container in the making."""

    exchange: Exchange
    warnings: list[str] = field(default_factory=list)
    gpus: Asked = field(default_factory=Asked)
    publish_all: bool = False
    """Whether each port that it or its image exposes shall be published."""
    made: bool = False
    """Whether it is there now, noted and checked."""

    def soften(self, what: str, became: str) -> None:
        """Tell the owner what became of a wish, once."""
        if (warning := f"{what} is not offered on a shared server; {became}") not in self.warnings:
            self.warnings.append(warning)


Rule = Callable[[Any, Draft], Any]
Table = dict[str, tuple[Shape, Rule]]


def keep(value: Any, draft: Draft) -> Any:
    """Send it as it is."""
    del draft
    return value


def drop(value: Any, draft: Draft) -> None:
    """Send nothing: it means nothing here, or ours takes its place."""
    del value, draft


def softened(name: str, became: str) -> Rule:
    """Send nothing, and say so if it was wanted."""

    def rule(value: Any, draft: Draft) -> None:
        if value:
            draft.soften(name, became)

    return rule


def refused(name: str, why: str, fix: str) -> Rule:
    """Refuse it if it was wanted."""

    def rule(value: Any, draft: Draft) -> None:
        del draft
        if value:
            raise Refused(403, f"{name}: {why}", f"create.{name}", fix)

    return rule


def _environment(value: list[str], draft: Draft) -> list[str]:
    # The last word counts: whatever the image or the client says, no runtime hands out a GPU by environment.
    return [*draft.gpus.environment(value), f"{VISIBLE}=void"]


def _labels(value: dict[str, str], draft: Draft) -> dict[str, str]:
    ours = labels(draft.exchange, value)
    if (wait := value.get(WAIT)) is not None:
        draft.gpus.wait_s = read_wait(wait)
        ours[WAIT] = wait
    ours["ds01.created_at"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ours | origin.of_request(draft.exchange.head.get("user-agent") or "", value)


def _working_dir(value: str, draft: Draft) -> str:
    del draft
    return working_dir(value)


def _capabilities(value: list[str], draft: Draft) -> list[str]:
    wanted = [name.upper().removeprefix("CAP_") for name in value]
    for name in wanted:
        if name not in CAPABILITIES:
            draft.soften(f"--cap-add {name[:40]}", "it was left out")
    return [name for name in dict.fromkeys(wanted) if name in CAPABILITIES]


def _dropped_capabilities(value: list[str], draft: Draft) -> list[str]:
    del draft
    return list(dict.fromkeys([*(name.upper().removeprefix("CAP_") for name in value), *_DROPPED]))


def _security(value: list[str], draft: Draft) -> list[str]:
    kept = []
    for option in value:
        if option in {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"}:
            kept.append("no-new-privileges:true")
        else:
            draft.soften(f"--security-opt {option[:60]}", "it was left out")
    return kept


def _private(name: str) -> Rule:
    """A namespace: private, or that of another container of the owner's, which was resolved before."""

    def rule(value: str, draft: Draft) -> str | None:
        if not value or value in {"private", "shareable", "none"}:
            return value or None
        if value.startswith("container:"):
            return value
        draft.soften(f"{name} {value[:40]}", "the container has its own")
        return None

    return rule


def _network_mode(value: str, draft: Draft) -> str:
    if value.lower() == "host" or value.startswith("ns:"):
        draft.soften(f"--network {value[:40]}", "the container is on the bridge: publish ports with -p")
        return "bridge"
    return value


def _oom_score(value: int, draft: Draft) -> int:
    del draft
    return min(max(value, 0), 1000)


def _sysctls(value: dict[str, str], draft: Draft) -> dict[str, str]:
    del draft
    for name in value:
        if not _SYSCTL.fullmatch(name):
            raise Refused(
                403, f"Sysctls: {name[:80]} is not only the container's", "create.Sysctls", "leave --sysctl out"
            )
    return value


def _ulimits(value: list[dict[str, Any]], draft: Draft) -> list[dict[str, Any]]:
    kept = []
    for limit in value:
        name = limit.get("Name", "")
        if name not in _ULIMITS:
            draft.soften(f"--ulimit {name[:40]}", "it was left out")
            continue
        most = _ULIMITS[name]
        pair = {key: limit.get(key, 0) for key in ("Soft", "Hard")}
        kept.append({"Name": name, **{key: _within(number, most) for key, number in pair.items()}})
    return kept


def _within(number: int, most: int) -> int:
    if most < 0:
        return number
    return most if number < 0 else min(number, most)


def _groups(value: list[str], draft: Draft) -> list[str]:
    person = draft.exchange.caller.person
    for group in value:
        if decimal(group) not in person.gids:
            raise Refused(
                403, f"GroupAdd: {group[:40]!r} is not the number of a group of yours", "create.GroupAdd", _GROUP_FIX
            )
    return value


def _ports(value: dict[str, Any], draft: Draft) -> dict[str, Any]:
    return ports.bindings(value, draft.soften)


def _publish_all(value: bool, draft: Draft) -> None:
    draft.publish_all = value


def _log(value: dict[str, Any], draft: Draft) -> None:
    if (kind := value.get("Type") or "") not in {"", "json-file", "local"}:
        draft.soften(f"--log-driver {kind[:40]}", "`docker logs` shows the output")


def _hosts(value: list[str], draft: Draft) -> list[str]:
    kept = [entry for entry in value if not entry.endswith("host-gateway")]
    if len(kept) != len(value):
        draft.soften("--add-host ...:host-gateway", "it was left out")
    return kept


def _runtime(value: str, draft: Draft) -> None:
    if value == "nvidia":
        draft.gpus.runtime = True
    elif value not in {"", "runc"}:
        draft.soften(f"--runtime {value[:40]}", "the usual one is used")


def _volume_driver(value: str, draft: Draft) -> None:
    if value not in {"", "local"}:
        draft.soften(f"--volume-driver {value[:40]}", "the local one is used")


def _restart(value: dict[str, Any], draft: Draft) -> dict[str, Any]:
    return restart_policy(value, draft.warnings)


def _devices(value: list[dict[str, str]], draft: Draft) -> None:
    for device in value:
        path = str(device.get("PathOnHost", ""))
        if not draft.gpus.device(path):
            draft.soften(f"--device {path[:60]}", "it was left out")


def _device_requests(value: list[dict[str, Any]], draft: Draft) -> None:
    draft.gpus.requests += value


def _health(value: dict[str, Any], draft: Draft) -> dict[str, Any]:
    # 0 is the engine's own interval, or the image's.
    if any(0 < (value.get(name) or 0) < _CHECK_LEAST for name in _CHECK_INTERVALS):
        draft.soften("a health check more often than once a second", "it is made once a second")
    return {
        name: max(given, _CHECK_LEAST) if name in _CHECK_INTERVALS and given else given for name, given in value.items()
    }


def beside_image(given: dict[str, Any] | None, image: dict[str, Any] | None, draft: Draft) -> dict[str, Any] | None:
    """The health check of a container whose image has one, which counts where nothing else is given."""
    if any(0 < ((image or {}).get(name) or 0) < _CHECK_LEAST for name in _CHECK_INTERVALS):
        # Not slowed down: old versions of the API drop StartInterval, and the image's would be there again.
        draft.soften("a health check of the image more often than once a second", "it is switched off")
        return {"Test": ["NONE"]}
    return given


def _stop_timeout(value: int, draft: Draft) -> int:
    # Negative is without end.
    if 0 <= value <= _STOP_TIMEOUT_MAX:
        return value
    draft.soften(
        f"--stop-timeout {value}", f"it became {_STOP_TIMEOUT_MAX}; `docker stop -t SECONDS` gives as much as you want"
    )
    return _STOP_TIMEOUT_MAX


_DEVICE: Final = record({"PathOnHost": text, "PathInContainer": text, "CgroupPermissions": text})
_RATES: Final = items(record({"Path": text, "Rate": whole()}))
_WEIGHTS: Final = items(record({"Path": text, "Weight": whole()}))
_NUMBER: Final = whole()
MOUNT: Final = record(
    {
        "Type": required(text), "Source": text, "Target": required(text), "ReadOnly": flag, "Consistency": text,
        "BindOptions": record({"Propagation": text, "NonRecursive": flag, "CreateMountpoint": flag,
                               "ReadOnlyNonRecursive": flag, "ReadOnlyForceRecursive": flag}),
        "VolumeOptions": record({"NoCopy": flag, "Labels": table(text), "Subpath": text,
                                 "DriverConfig": record({"Name": text, "Options": table(text)})}),
        "TmpfsOptions": record({"SizeBytes": whole(), "Mode": whole(), "Options": items(items(text))}),
    }
)  # fmt: skip
_HEALTH: Final = record(
    {"Test": words, **dict.fromkeys(("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"), _NUMBER)}
)
_GPU: Final = record(
    {
        "Driver": text,
        "Count": _NUMBER,
        "DeviceIDs": items(text),
        "Capabilities": items(items(text)),
        "Options": table(text),
    }
)
_LIMITED: Final = "your slice has the limits that count"
ADDRESSES: Final = "the server gives the addresses"
_TEXTS: Final = items(required(text))
_NEIGHBOURS: Final = items(required(text), NEIGHBOURS)

TOP: Final[Table] = {
    "Hostname": (text, keep), "Domainname": (text, keep), "User": (text, keep), "AttachStdin": (flag, keep),
    "AttachStdout": (flag, keep), "AttachStderr": (flag, keep), "ExposedPorts": (table(empty), keep),
    "Tty": (flag, keep), "OpenStdin": (flag, keep), "StdinOnce": (flag, keep), "Env": (_TEXTS, _environment),
    "Cmd": (words, keep), "Healthcheck": (_HEALTH, _health), "ArgsEscaped": (flag, drop), "Image": (text, keep),
    "Volumes": (table(empty), keep), "WorkingDir": (text, _working_dir), "Entrypoint": (words, keep),
    "NetworkDisabled": (flag, keep), "MacAddress": (text, softened("--mac-address", ADDRESSES)),
    "OnBuild": (_TEXTS, drop), "Labels": (table(text), _labels),
    "StopSignal": (text, keep), "StopTimeout": (_NUMBER, _stop_timeout), "Shell": (words, keep),
    "Runtime": (text, _runtime),
}  # fmt: skip
"""Fields of the request itself; HostConfig and NetworkingConfig have their own."""

HOST: Final[Table] = {
    # Rights.
    "Privileged": (flag, softened("--privileged", "the container runs without it")),
    "CapAdd": (items(required(text)), _capabilities),
    "CapDrop": (items(required(text)), _dropped_capabilities),
    "SecurityOpt": (_TEXTS, _security),
    "MaskedPaths": (_TEXTS, drop),
    "ReadonlyPaths": (_TEXTS, drop),
    "GroupAdd": (_TEXTS, _groups),
    "Devices": (items(_DEVICE), _devices),
    "DeviceCgroupRules": (_TEXTS, refused("DeviceCgroupRules", "devices belong to the server", "leave it out")),
    "DeviceRequests": (items(_GPU), _device_requests),
    "Runtime": (text, _runtime),
    "Annotations": (table(text), softened("--annotation", "it was left out")),
    "Sysctls": (table(text), _sysctls),
    "Ulimits": (items(record({"Name": text, "Soft": _NUMBER, "Hard": _NUMBER})), _ulimits),
    # Namespaces.
    "NetworkMode": (text, _network_mode),
    "PidMode": (text, _private("--pid")),
    # Not given means shared with others of the same engine for clients older than API 1.40.
    "IpcMode": (text, lambda value, draft: _private("--ipc")(value, draft) or "private"),
    # Of these two there is none of another container's to share.
    "UTSMode": (text, softened("--uts", "the container has its own")),
    "UsernsMode": (text, softened("--userns", "the container has its own")),
    "CgroupnsMode": (text, lambda value, draft: "private"),  # noqa: ARG005 - always
    "Cgroup": (text, refused("Cgroup", "cgroups belong to the server", "leave it out")),
    # Files. Binds and mounts are judged by `creation`, which looks at the file system.
    "Binds": (_TEXTS, keep),
    "Mounts": (items(MOUNT), keep),
    "VolumesFrom": (_NEIGHBOURS, keep),
    "VolumeDriver": (text, _volume_driver),
    "Tmpfs": (table(text), keep),
    "StorageOpt": (table(text), softened("--storage-opt", "your quota counts")),
    "ReadonlyRootfs": (flag, keep),
    # Network.
    "Links": (_NEIGHBOURS, keep),
    "PortBindings": (table(items(record({"HostIp": text, "HostPort": text}))), _ports),
    # In its own words the engine would publish to everybody.
    "PublishAllPorts": (flag, _publish_all),
    "Dns": (_TEXTS, keep), "DnsOptions": (_TEXTS, keep), "DnsSearch": (_TEXTS, keep), "ExtraHosts": (_TEXTS, _hosts),
    # Life.
    "AutoRemove": (flag, keep), "Init": (flag, keep), "ConsoleSize": (items(whole(0, 65_535)), keep),
    "RestartPolicy": (record({"Name": text, "MaximumRetryCount": _NUMBER}), _restart),
    "ContainerIDFile": (text, drop), "LogConfig": (record({"Type": text, "Config": table(text)}), _log),
    "Isolation": (text, drop),
    # Limits: `limits` sets those that count.
    "Memory": (_NUMBER, keep), "MemorySwap": (_NUMBER, keep), "MemoryReservation": (_NUMBER, keep),
    "MemorySwappiness": (whole(-1, 100), drop), "NanoCpus": (_NUMBER, keep), "CpuQuota": (_NUMBER, keep),
    "CpuPeriod": (_NUMBER, keep), "CpuShares": (_NUMBER, keep), "PidsLimit": (_NUMBER, keep),
    "ShmSize": (_NUMBER, keep),
    "OomScoreAdj": (_NUMBER, _oom_score), "OomKillDisable": (flag, softened("--oom-kill-disable", "it was left out")),
    "CgroupParent": (text, softened("--cgroup-parent", "containers run in their owner's slice")),
    "CpusetCpus": (text, softened("--cpuset-cpus", _LIMITED)),
    "CpusetMems": (text, softened("--cpuset-mems", _LIMITED)),
    "CpuRealtimePeriod": (_NUMBER, softened("--cpu-rt-period", _LIMITED)),
    "CpuRealtimeRuntime": (_NUMBER, softened("--cpu-rt-runtime", _LIMITED)),
    "BlkioWeight": (_NUMBER, softened("--blkio-weight", _LIMITED)),
    "BlkioWeightDevice": (_WEIGHTS, softened("--blkio-weight-device", _LIMITED)),
    "BlkioDeviceReadBps": (_RATES, softened("--device-read-bps", _LIMITED)),
    "BlkioDeviceWriteBps": (_RATES, softened("--device-write-bps", _LIMITED)),
    "BlkioDeviceReadIOps": (_RATES, softened("--device-read-iops", _LIMITED)),
    "BlkioDeviceWriteIOps": (_RATES, softened("--device-write-iops", _LIMITED)),
    "KernelMemory": (_NUMBER, drop), "KernelMemoryTCP": (_NUMBER, drop),
    "CpuCount": (_NUMBER, drop), "CpuPercent": (_NUMBER, drop), "IOMaximumIOps": (_NUMBER, drop),
    "IOMaximumBandwidth": (_NUMBER, drop),
}  # fmt: skip


def apply(fields: Table, given: dict[str, Any], draft: Draft) -> dict[str, Any]:
    """Return what is sent of an object; fields that were not given are judged by their rules only where ours stay."""
    sent = {name: rule(given[name], draft) for name, (_, rule) in fields.items() if given.get(name) is not None}
    return {name: value for name, value in sent.items() if value is not None}


def shape(fields: Table) -> dict[str, Shape]:
    """The shapes of a table."""
    return {name: known for name, (known, _) in fields.items()}
