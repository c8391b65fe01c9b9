"""Sockets of people, as they are made."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from ds01.gateway.listener import SHARED, Sockets, bind


@pytest.mark.parametrize("there", ["nothing", "stale", "directory"])
def test_it_listens_whatever_is_in_the_way(there: str, tmp_path: Path):
    path = tmp_path / SHARED
    if there == "stale":
        bind(path).close()
    if there == "directory":
        # The engine makes one for a container that binds what is not there.
        path.mkdir()
    with bind(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_who_connects_before_anybody_is_served_waits(tmp_path: Path):
    async def main() -> list[int | None]:
        served: list[int | None] = []

        def serve(connections: Sequence[socket.socket], owner: int | None) -> None:
            for connection in connections:
                connection.close()
                served.append(owner)

        sockets = Sockets(tmp_path, tmp_path / "users")
        sockets.open({})
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / SHARED))
        await asyncio.sleep(0.05)
        assert served == []
        sockets.accept(serve)
        async with asyncio.timeout(60):
            while not served:  # noqa: ASYNC110 - the sockets tell nobody
                await asyncio.sleep(0.01)
        sockets.stop()
        client.close()
        return served

    assert asyncio.run(main()) == [None]
