"""Registries: which ones the engine may be sent to, and what is asked of them."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import socket
from collections.abc import Callable
from typing import Any, Final

from ds01.gateway import jsonbody, references
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers.common import registry_headers
from ds01.gateway.ownership import Ownership
from ds01.gateway.references import HUB, Reference
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import record, text

AUTH: Final = "x-registry-auth"
CONFIG: Final = "x-registry-config"
_SECRETS: Final = ("username", "password", "auth", "identitytoken", "registrytoken")
_LOGIN: Final = record(dict.fromkeys((*_SECRETS, "email", "serveraddress"), text))
_ADDRESS: Final = re.compile(r"(?:https?://)?([^/]*)(?:/[A-Za-z0-9._/-]*)?")
"""What the engine, too, reads as this host: nothing behind `@`, `#` or `?` makes another one of it."""
_HUB_HOSTS: Final = frozenset({HUB, f"index.{HUB}", f"registry-1.{HUB}"})
_SERVER_ONLY: Final = "only registries that the policy names are reached"


async def check(exchange: Exchange, reference: Reference) -> None:
    """See that the policy lets people use the registry of an image. Raises Refused."""
    full = f"{reference.full}/"
    await _judge(exchange, reference.full, reference.registry, lambda entry: full.startswith(f"{entry}/"))


async def _check_server(exchange: Exchange, address: str, registry: str | None) -> None:
    """See that the policy lets people use anything of a registry. Raises Refused."""
    if registry is None:
        raise Refused(400, f"{address[:80]!r} is not the address of a registry", "images.registries",
                      "write it like registry.example.org:5000")  # fmt: skip
    await _judge(exchange, registry, registry, lambda entry: entry.partition("/")[0] == registry)


async def _judge(exchange: Exchange, what: str, registry: str, named_by: Callable[[str], bool]) -> None:
    allowed = [entry.rstrip("/") for entry in (await exchange.people.tables())["images"]["registries"]]
    if any(named_by(entry) for entry in allowed):
        return
    if allowed:
        raise Refused(403, f"{what}: {_SERVER_ONLY}", "images.registries", f"use {', '.join(allowed[:5])}")
    if is_this_server(registry):
        raise Refused(403, f"{registry} is this server itself", "images.registries",
                      "ask the administrator to name it in images.registries")  # fmt: skip


def password(exchange: Exchange, reference: Reference) -> str | None:
    """What the caller sends for the registry of an image, as its own header, or None without a password.

    A build sends what it has for all registries at once. Raises Refused.
    """
    alone, every = exchange.head.get(AUTH), exchange.head.get(CONFIG)
    if alone is not None:
        return alone if any(_read(alone).get(name) for name in _SECRETS) else None
    for address, found in _read(every).items() if every else ():
        if (
            server(address) == reference.registry
            and isinstance(found, dict)
            and any(found.get(name) for name in _SECRETS)
        ):
            return base64.urlsafe_b64encode(jsonbody.write(found)).decode()
    return None


async def login(exchange: Exchange, ownership: Ownership) -> None:
    """Let a registry check a password, which goes nowhere else."""
    del ownership
    wanted = _LOGIN(await exchange.json_body(), "") or {}
    address = str(wanted.get("serveraddress") or HUB)
    await _check_server(exchange, address, server(address))
    await exchange.forward(["auth"], content=jsonbody.write(wanted))


async def search(exchange: Exchange, ownership: Ownership) -> None:
    """Search Docker Hub, or the registry that the term begins with."""
    del ownership
    first, slash, _ = (exchange.parameter("term") or "").partition("/")
    await _check_server(exchange, first, server(first) if slash and references.is_host(first) else HUB)
    await exchange.forward(["images", "search"], exchange.query)


async def distribution(exchange: Exchange, ownership: Ownership) -> None:
    """Ask a registry about an image."""
    del ownership
    reference = references.parse(exchange.names[0])
    await check(exchange, reference)
    await exchange.forward(["distribution", *str(reference).split("/"), "json"],
                           headers=registry_headers(exchange, AUTH))  # fmt: skip


async def digest(exchange: Exchange, reference: Reference, headers: list[tuple[str, str]]) -> str:
    """Return the digest that a registry has for a tag. Raises Refused."""
    answer = await exchange.engine.get("distribution", *str(reference).split("/"), "json", headers=headers)
    found: Any = answer.json()
    if not answer.ok:
        raise Refused(answer.head.status, str(found.get("message")), "images.registry")
    return str(found["Descriptor"]["digest"])


def _read(header: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.b64decode(header.translate(str.maketrans("-_", "+/")) + "==") or b"{}")
    except (ValueError, binascii.Error) as error:
        raise Refused(400, "the registry's password cannot be read", "images.auth", "docker login again") from error
    return found if isinstance(found, dict) else {}


def server(address: str) -> str | None:
    """Host and port of a registry, out of the ways in which clients write it; None where it can be read in two ways."""
    if (match := _ADDRESS.fullmatch(address)) is None:
        return None
    host = match[1]
    if host in _HUB_HOSTS:
        return HUB
    return host if references.is_host(host) and references.HOST.fullmatch(host) else None


def is_this_server(registry: str) -> bool:
    """Whether a registry's address is one of this server, as far as it says so by itself."""
    host = (registry if registry.endswith("]") else registry.rpartition(":")[0] or registry).strip("[]").lower()
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            # Name resolution knows more spellings of a number: 127.1, 0x7f000001.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except OSError:
            name = socket.gethostname().lower()
            return host in {"localhost", name, name.partition(".")[0]} or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_link_local or address.is_unspecified
