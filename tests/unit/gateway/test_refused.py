"""Connections that are refused: each is told why, but they are in nobody's way."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import pytest

from ds01.gateway import gateway as module
from ds01.gateway.gateway import Gateway
from ds01.gateway.refusals import Refused
from ds01.gateway.wire import Wire


def test_only_so_many_stay_open_to_be_told_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_REFUSED", 5)
    refusal = Refused(503, "too many", "gateway.connections")

    async def main() -> list[bytes]:
        nothing = cast("Any", None)
        gateway = Gateway(nothing, nothing)
        loop = asyncio.get_running_loop()
        clients, tasks = [], []
        for _ in range(8):
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)  # noqa: FBT003 - its only argument
            clients.append(theirs)
            _, wire = await loop.connect_accepted_socket(Wire, ours)
            tasks.append(loop.create_task(gateway._refuse(wire, refusal)))
        said = [await loop.sock_recv(client, 12) for client in clients]
        for client in clients:
            client.close()
        await asyncio.gather(*tasks)
        # Whoever comes later is told again.
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)  # noqa: FBT003 - its only argument
        _, wire = await loop.connect_accepted_socket(Wire, ours)
        again = loop.create_task(gateway._refuse(wire, refusal))
        said.append(await loop.sock_recv(theirs, 12))
        theirs.close()
        await again
        return said

    assert asyncio.run(main()) == [b"HTTP/1.1 503"] * 5 + [b""] * 3 + [b"HTTP/1.1 503"]
