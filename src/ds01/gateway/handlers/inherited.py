"""Containers that were made past the gateway: before DS01 came, by members of the group docker, or by root.

They run on as they are. But whoever gets into one that has rights of the server has these too, so its owner does not
get in, and does not start it again; what it prints, what is in it and its end stay the owner's.
"""

from __future__ import annotations

import re
from posixpath import normpath
from typing import Any, Final

from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import mounts
from ds01.gateway.handlers.common import described
from ds01.gateway.handlers.create_fields import CAPABILITIES
from ds01.gateway.refusals import Refused

_NAMESPACES: Final = {"PidMode": "--pid host", "NetworkMode": "--network host", "IpcMode": "--ipc host"}
_TAME: Final = re.compile(r"/dev/(?:nvidia[a-z0-9/-]*|snd|video[0-9]+|dri|kfd|fuse|infiniband)(?:/.*)?")
"""Devices that AIME MLC and others give a container: through none of them the server's memory or disks are reached."""


async def see_harmless(exchange: Exchange, found: dict[str, Any], *, starting: bool) -> None:
    """See that a container gives its owner nothing of the server that the gateway would not.

    Args:
        exchange: What is under way.
        found: The engine's description of the container; of one that is gone it is empty.
        starting: Otherwise its owner only wants in. What it shares of networks and memory with the server, as AIME's
            containers do, is not taken from people who work in it; at its next start it is.

    Raises:
        Refused: It gives more.
    """
    host = found.get("HostConfig") or {}
    fields = tuple(_NAMESPACES) if starting else ("PidMode",)
    more = _rights(host) + [_NAMESPACES[field] for field in fields if await _is_the_servers(exchange, host, field)]
    if not starting:
        # At a start `mounts.renew` looks at these, more closely.
        more += [f"-v {source}" for source in await mounts.foreign(exchange, found)]
    if more:
        raise _refused(more)


async def see_own_namespace(exchange: Exchange, engine_id: str, field: str) -> None:
    """See that a namespace that another container is to share is not the server's. Raises Refused."""
    if await _is_the_servers(exchange, {field: f"container:{engine_id}"}, field):
        raise _refused([_NAMESPACES[field]])


async def _is_the_servers(exchange: Exchange, host: dict[str, Any], field: str) -> bool:
    """Whether a namespace of a container is the server's, also by another container whose it shares."""
    joined: set[str] = set()
    while (mode := str(host.get(field) or "")) != "host":
        prefix, _, other = mode.partition(":")
        if prefix != "container" or other in joined:
            return False
        joined.add(other)
        host = (await described(exchange, other)).get("HostConfig") or {}
    return True


def _rights(host: dict[str, Any]) -> list[str]:
    """What a container has with which its root is the server's, as it was asked for."""
    capabilities = (str(name).upper().removeprefix("CAP_") for name in host.get("CapAdd") or [])
    devices = (normpath(str(device.get("PathOnHost"))) for device in host.get("Devices") or [])
    found = {
        "--privileged": host.get("Privileged"),
        "--device-cgroup-rule": host.get("DeviceCgroupRules"),
        "--security-opt systempaths=unconfined": host.get("ReadonlyPaths") == [],
    }
    return [
        *(said for said, given in found.items() if given),
        *(f"--cap-add {name}" for name in capabilities if name not in CAPABILITIES),
        *(f"--device {path}" for path in devices if not _TAME.fullmatch(path)),
    ]


def _refused(more: list[str]) -> Refused:
    return Refused(
        403, f"this container is older than the rules here and has rights of the server: {', '.join(more[:5])}",
        "container.inherited",
        "`docker logs`, `docker stop` and `docker export` work; keep what is in it by `docker commit`, and make a new "
        "container from that, or ask the administrator",
    )  # fmt: skip
