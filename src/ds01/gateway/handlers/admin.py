"""Administrators: their requests are rebuilt as everybody's and recorded, but not judged."""

from __future__ import annotations

from typing import Final

from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import gpus, mounts
from ds01.gateway.handlers.common import REGISTRY_HEADERS, registry_headers
from ds01.gateway.handlers.denials import denied
from ds01.gateway.head import ResponseHead
from ds01.gateway.ownership import Kinds, Ownership
from ds01.gateway.refusals import Refused

_NOUNS: Final = {f"{kind}s": kind for kind in Kinds}
_READING: Final = frozenset({"GET", "HEAD"})


async def passed(exchange: Exchange, ownership: Ownership) -> None:
    """Forward what was asked, with the administrator's own short names resolved. Raises Refused."""
    route = exchange.route
    if route.handler in {"buildkit", "debug"}:
        # A tunnel of another protocol cannot be rebuilt; root has the engine's own socket for it.
        raise denied(route.handler)
    segments = list(exchange.where.segments)
    kind = _NOUNS.get(route.pattern[0])
    if kind is not None and len(route.pattern) > 1 and route.pattern[1] == "{id}":
        try:
            segments[1], _ = await ownership.resolve(kind, segments[1], exchange.caller.uid)
        except Refused as refusal:
            if refusal.status != 404:  # noqa: PLR2004 - only what is not theirs is taken as it is
                raise
    if exchange.head.method not in _READING:
        await exchange.audit.record(
            "gateway.admin",
            exchange.caller,
            {"kind": route.pattern[0], "name": exchange.names[0] if exchange.names else None},
            "allowed",
            details={"request": f"{exchange.head.method} {exchange.where.path}"},
        )
    upload = None if route.body == "none" else exchange.head.get("content-type") or "application/json"
    headers = registry_headers(exchange, *REGISTRY_HEADERS)

    if route.handler == "start_container":
        # Also for an administrator the container of a claim has no devices but those that its owner may have now.
        answer = await exchange.engine.get("containers", segments[1], "json")
        found = answer.json() if answer.ok else {}
        owner = ownership.owner("container", str(found.get("Id")), str(found.get("Name")).removeprefix("/"))
        if owner is not None:
            await mounts.renew(exchange, found, await exchange.people.person(owner))

        async def forward(action: str, query: gpus.Query) -> ResponseHead:
            return await exchange.forward(["containers", segments[1], action], query)

        await gpus.started(exchange, found, forward)
        return
    await exchange.forward(segments, exchange.where.query, upload=upload, headers=headers)
