"""One client connection: heads in, verdicts out, one request after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ds01.gateway import head, routes, target
from ds01.gateway.conversation import Gone
from ds01.gateway.head import RequestHead
from ds01.gateway.refusals import Malformed, Refused
from ds01.gateway.routes import Route
from ds01.gateway.target import Target
from ds01.gateway.wire import Wire

HEAD_S: Final = 10.0
"""Seconds from the first byte of a head to its last: a client that takes longer keeps a connection from others."""

log = logging.getLogger(__name__)


class Request:
    """A request as it was read, before anybody judged it."""

    def __init__(self, head: RequestHead, where: Target, route: Route, names: tuple[str, ...]) -> None:
        """Take its parts."""
        self.head = head
        self.where = where
        self.route = route
        self.names = names

    def __str__(self) -> str:
        """Return it as logs show it: without its query, which may hold names of people and registries."""
        return f"{self.head.method} {self.where.path}"


Judge = Callable[[Wire, Request], Awaitable[bool]]
"""Serves one request; whether another one may follow on the connection. Raises Refused before anything was answered."""


async def serve(client: Wire, judge: Judge, report: Callable[[str, Refused], Awaitable[str | None]]) -> None:
    """Serve a connection to its end. Raises nothing.

    Args:
        client: The connection.
        judge: What serves a request.
        report: Records a refusal of something that is no request of the API; returns the id of the event.
    """
    try:
        while (raw := await _next_head(client)) is not None:
            if not await judge(client, _read(raw)):
                break
        if client.lost:
            return
        client.close() if client.eof else await client.linger()
    except Refused as refusal:
        await report("connection", refusal)
        await refuse(client, refusal)
    except Gone:
        client.abort()
    except Exception:
        # Fail closed, and only for this client.
        log.exception("a connection failed")
        client.abort()


async def refuse(client: Wire, refusal: Refused) -> None:
    """Answer a refusal and end the connection."""
    content = refusal.body()
    client.write(
        f"HTTP/1.1 {refusal.status} Refused\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
        + content
    )
    await client.linger()


def _read(raw: bytes) -> Request:
    found = head.parse_request(raw)
    where = target.parse(found.target)
    match = routes.find(found.method, where.segments)
    if match is None:
        raise Refused(404, "page not found", "api.unknown-endpoint")
    return Request(found, where, *match)


async def _next_head(client: Wire) -> bytes | None:
    """Return the next head, None at the end of the connection. Raises Malformed."""
    if not client.buffer and not await client.more():
        return None
    # Between two requests a client may wait as long as it likes.
    if (end := head.find_end(client.buffer)) < 0:
        end = await _rest_of_head(client)
    raw = bytes(client.buffer[:end])
    del client.buffer[:end]
    return raw


async def _rest_of_head(client: Wire) -> int:
    try:
        async with asyncio.timeout(HEAD_S):
            while (end := head.find_end(client.buffer)) < 0:
                if not await client.more():
                    raise Malformed("the connection ended within a request head")
            return end
    except TimeoutError as error:
        raise Malformed(f"the request head did not arrive within {HEAD_S:.0f} s", 408) from error
