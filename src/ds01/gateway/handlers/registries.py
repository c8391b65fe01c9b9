"""Registries: which ones the engine may be sent to, and what is asked of them."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
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
_SERVER_ONLY: Final = "only registries that the policy names are reached"


async def check(exchange: Exchange, reference: Reference) -> None:
    """See that the policy lets people use the registry of an image. Raises Refused."""
    allowed: list[str] = (await exchange.people.tables())["images"]["registries"]
    full = f"{reference.full}/"
    if any(full.startswith(f"{entry.rstrip('/')}/") for entry in allowed):
        return
    if allowed:
        raise Refused(403, f"{reference.full}: {_SERVER_ONLY}", "images.registries", f"use {', '.join(allowed[:5])}")
    if _this_server(reference.registry):
        raise Refused(403, f"{reference.registry} is this server itself", "images.registries",
                      "ask the administrator to name it in images.registries")  # fmt: skip


def password(exchange: Exchange, reference: Reference) -> str | None:
    """What the caller sends for the registry of an image, as its own header, or None without a password.

    A build sends what it has for all registries at once. Raises Refused.
    """
    alone, every = exchange.head.get(AUTH), exchange.head.get(CONFIG)
    if alone is not None:
        return alone if any(_read(alone).get(name) for name in _SECRETS) else None
    for address, found in _read(every).items() if every else ():
        server = _server(address)
        if server == reference.registry and isinstance(found, dict) and any(found.get(name) for name in _SECRETS):
            return base64.urlsafe_b64encode(jsonbody.write(found)).decode()
    return None


async def login(exchange: Exchange, ownership: Ownership) -> None:
    """Let a registry check a password, which goes nowhere else."""
    del ownership
    wanted = _LOGIN(await exchange.json_body(), "") or {}
    await check(exchange, references.parse(f"{_server(str(wanted.get('serveraddress') or HUB))}/x"))
    await exchange.forward(["auth"], content=jsonbody.write(wanted))


async def search(exchange: Exchange, ownership: Ownership) -> None:
    """Search Docker Hub, or the registry that the term begins with."""
    del ownership
    first, slash, _ = (exchange.parameter("term") or "").partition("/")
    await check(exchange, Reference(f"{first}/x" if slash and ("." in first or ":" in first) else "x"))
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


def _server(address: str) -> str:
    """Host and port of a registry, out of the ways in which clients write it."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if host.endswith(f".{HUB}") else host


def _this_server(registry: str) -> bool:
    host = registry.rpartition(":")[0] or registry if not registry.endswith("]") else registry
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_link_local or address.is_unspecified
