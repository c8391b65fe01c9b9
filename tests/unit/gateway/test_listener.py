"""Sockets of people, as they are made."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
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
        sockets = Sockets(tmp_path, tmp_path / "users")
        sockets.open({})
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / SHARED))
        await asyncio.sleep(0.05)
        assert served == []
        sockets.accept(lambda connection, owner: (connection.close(), served.append(owner))[1], list)
        async with asyncio.timeout(60):
            while not served:  # noqa: ASYNC110 - the sockets tell nobody
                await asyncio.sleep(0.01)
        sockets.stop()
        client.close()
        return served

    assert asyncio.run(main()) == [None]


WAITING = 200


class Crowd:
    """Many who have connected to the shared socket and to somebody's own before anybody is served."""

    def __init__(self, directory: Path) -> None:
        self.sockets = Sockets(directory, directory / "users")
        self.sockets.open({})
        self.clients = []
        for path in (directory / SHARED, self.sockets.ensure(1001)):
            for _ in range(WAITING):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(path))
                self.clients.append(client)
        self.sifted: list[int] = []
        self.turns: list[Counter[int | None]] = [Counter()]
        self.sockets.accept(self._serve, self._sift)

    def _sift(self, connections: Sequence[socket.socket]) -> Sequence[socket.socket]:
        self.sifted.append(len(connections))
        return connections

    def _serve(self, connection: socket.socket, owner: int | None) -> None:
        connection.close()
        self.turns[-1][owner] += 1

    async def turn(self) -> None:
        """Let the loop turn once."""
        self.turns.append(Counter())
        await asyncio.sleep(0)

    def served(self) -> Counter[int | None]:
        return sum(self.turns, Counter())

    def leave(self) -> None:
        for client in self.clients:
            client.close()


def test_all_that_wait_are_judged_at_once_and_served_by_and_by(tmp_path: Path):
    async def main() -> Crowd:
        crowd = Crowd(tmp_path)
        async with asyncio.timeout(60):
            while crowd.served().total() < 2 * WAITING:
                await crowd.turn()
        # It still listens.
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / SHARED))
            async with asyncio.timeout(60):
                while crowd.served()[None] == WAITING:
                    await crowd.turn()
        crowd.sockets.stop()
        crowd.leave()
        return crowd

    crowd = asyncio.run(main())
    assert crowd.sifted == [WAITING, 1]
    assert max(max(turn.values(), default=0) for turn in crowd.turns) == 64


def test_what_was_accepted_is_served_although_no_more_is(tmp_path: Path):
    async def main() -> Crowd:
        crowd = Crowd(tmp_path)
        while not crowd.sifted:
            await crowd.turn()
        crowd.sockets.stop()
        crowd.leave()
        return crowd

    assert asyncio.run(main()).served()[None] == WAITING
