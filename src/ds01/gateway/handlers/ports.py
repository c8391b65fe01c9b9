"""Published ports: on this host only, and none that the server itself needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import decimal

_PROTOCOL_PORT: Final = re.compile(r"([0-9]{1,5})(?:/(?:tcp|udp))?")
_MOST: Final = 64
"""Of one container: for each the engine runs a process of root's, outside everybody's slice."""
_HERE: Final = "127.0.0.1"
_FIRST: Final = 1024
_LAST: Final = 65_535


def bindings(wanted: dict[str, Any], soften: Callable[[str, str], None]) -> dict[str, Any]:
    """Return where the ports of a container are published.

    Args:
        wanted: What the client asks for.
        soften: Tells the owner what became of a wish.

    Raises:
        Refused: One is not to be had, or they are too many.
    """
    _see(sum(len(places or [{}]) for places in wanted.values()))
    found: dict[str, Any] = {}
    for port, places in wanted.items():
        if not _PROTOCOL_PORT.fullmatch(port):
            raise Refused(400, f"PortBindings: {port[:40]!r}: expected a port like 8080/tcp", "create.PortBindings")
        found[port] = []
        for place in (each or {} for each in places or [{}]):
            if (address := place.get("HostIp") or _HERE) != _HERE:
                soften(f"-p {address[:40]}:...", f"the port is published on {_HERE}: reach it through ssh -L")
            found[port].append({"HostIp": _HERE, "HostPort": _host_port(place)})
    return found


def every(published: dict[str, Any], exposed: Iterable[str]) -> dict[str, Any]:
    """Return what is published, and each exposed port on a free one of the host. Raises Refused: they are too many."""
    added = {port if "/" in port else f"{port}/tcp" for port in exposed if _PROTOCOL_PORT.fullmatch(port)}
    everything = {port: [{"HostIp": _HERE, "HostPort": ""}] for port in sorted(added)} | published
    _see(sum(len(places) for places in everything.values()))
    return everything


def _see(wanted: int) -> None:
    if wanted > _MOST:
        raise Refused(403, f"PortBindings: {wanted} ports, and {_MOST} are the most", "create.PortBindings",
                      "publish only those that you use")  # fmt: skip


def _host_port(place: dict[str, str]) -> str:
    text_ = place.get("HostPort") or ""
    low, _, high = text_.partition("-")
    if not text_ or all(_FIRST <= (decimal(part) or 0) <= _LAST for part in (low, high or low)):
        return text_
    raise Refused(
        403, f"PortBindings: host port {text_[:40]} is not free for people", "create.PortBindings",
        f"choose one from {_FIRST} to {_LAST}, or none",
    )  # fmt: skip
