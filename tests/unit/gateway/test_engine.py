"""Connections to the engine are used again, and no request is ever sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ds01.gateway.engine import Engine, EngineGone
from ds01.gateway.head import find_end, parse_request
from ds01.gateway.wire import Wire

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"
Behaviour = Callable[[socket.socket, int], bool]
"""Answers the request of that number on a connection; whether the connection goes on."""


class Server:
    """Listens where an engine would, and notes what it is asked on which of its connections."""

    def __init__(self, path: Path, behaviour: Behaviour) -> None:
        self.path = path
        self.asked: list[tuple[int, str]] = []
        self._behaviour = behaviour
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection, len(self._threads))))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # Who asked may be gone while it is answered.
        with connection, contextlib.suppress(ConnectionError):
            buffer, count = bytearray(), 0
            while True:
                while (end := find_end(buffer)) < 0:
                    if not (piece := connection.recv(1 << 16)):
                        return
                    buffer += piece
                head = parse_request(bytes(buffer[:end]))
                while len(buffer) < end + (head.framing.length or 0):
                    buffer += connection.recv(1 << 16)
                del buffer[: end + (head.framing.length or 0)]
                self.asked.append((number, f"{head.method} {head.target}"))
                count += 1
                if not self._behaviour(connection, count):
                    return

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Behaviour], Server]]:
    servers: list[Server] = []

    def start(behaviour: Behaviour) -> Server:
        servers.append(Server(tmp_path / f"engine-{len(servers)}.sock", behaviour))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def run(server: Server, test: Callable[[Engine], Awaitable[None]]) -> None:
    async def limited() -> None:
        engine = Engine(server.path)
        try:
            async with asyncio.timeout(60):
                await test(engine)
        finally:
            engine.close()

    asyncio.run(limited())


def answering(connection: socket.socket, number: int) -> bool:
    del number
    connection.sendall(ANSWER)
    return True


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_requests_one_after_the_other_share_a_connection(serve: Callable[[Behaviour], Server], method: str):
    server = serve(answering)

    async def test(engine: Engine) -> None:
        for number in range(5):
            assert (await engine.ask(method, f"/{number}", content=b"{}" * 100)).content == b"{}"

    run(server, test)
    assert server.asked == [(1, f"{method} /{number}") for number in range(5)]


def test_two_at_a_time_have_two_connections(serve: Callable[[Behaviour], Server]):
    both = threading.Barrier(2)

    def together(connection: socket.socket, number: int) -> bool:
        both.wait(60)
        return answering(connection, number)

    server = serve(together)

    async def test(engine: Engine) -> None:
        await asyncio.gather(engine.ask("POST", "/a"), engine.ask("POST", "/b"))

    run(server, test)
    assert {number for number, _ in server.asked} == {1, 2}


def _half(wire: Wire) -> None:
    wire.write_eof()


def _whole(wire: Wire) -> None:
    wire.abort()


@pytest.mark.parametrize("end", [_half, _whole])
def test_a_connection_that_we_ended_ourselves_is_not_used(
    serve: Callable[[Behaviour], Server], end: Callable[[Wire], None]
):
    """As after a client that sends no more: the engine may need a while to see it."""
    go_on = threading.Event()

    def slow(connection: socket.socket, number: int) -> bool:
        answering(connection, number)
        return go_on.wait(60)

    server = serve(slow)

    async def test(engine: Engine) -> None:
        call = await engine.call("GET", "/first")
        await call.answered()
        assert await call.read() == b"{}"
        end(call.wire)
        call.finish()
        assert (await engine.ask("POST", "/second")).ok
        go_on.set()

    run(server, test)
    assert server.asked == [(1, "GET /first"), (2, "POST /second")]


@pytest.mark.parametrize("more", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_a_connection_on_which_something_happened_meanwhile_is_not_used(
    serve: Callable[[Behaviour], Server], more: bytes
):
    happened = threading.Event()

    def one_answer(connection: socket.socket, number: int) -> bool:
        del number
        connection.sendall(ANSWER)
        # As an engine that is stopped, or one that answers what nobody asked.
        connection.sendall(more) if more else connection.shutdown(socket.SHUT_RDWR)
        happened.set()
        return bool(more)

    server = serve(one_answer)

    async def test(engine: Engine) -> None:
        assert (await engine.ask("POST", "/first")).ok
        # Here the loop does not turn: nothing but a look at the connection itself can tell.
        assert happened.wait(60)
        happened.clear()
        assert (await engine.ask("POST", "/second")).head.status == 201

    run(server, test)
    assert server.asked == [(1, "POST /first"), (2, "POST /second")]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_engine_takes_and_does_not_answer_is_not_sent_again(serve: Callable[[Behaviour], Server], method: str):
    def once(connection: socket.socket, number: int) -> bool:
        return number == 1 and answering(connection, number)

    server = serve(once)

    async def test(engine: Engine) -> None:
        await engine.ask(method, "/first")
        with pytest.raises(EngineGone):
            await engine.ask(method, "/second")

    run(server, test)
    assert server.asked == [(1, f"{method} /first"), (1, f"{method} /second")]


def test_a_connection_with_half_an_upload_is_not_used_again(serve: Callable[[Behaviour], Server]):
    server = serve(answering)

    async def test(engine: Engine) -> None:
        call = await engine.call("PUT", "/archive", length=None)
        await call.answered()
        await call.read()
        call.finish()
        await engine.ask("POST", "/next")

    run(server, test)
    assert server.asked == [(1, "PUT /archive"), (2, "POST /next")]


def test_a_greeting_is_asked_for_once_while_the_engine_is_there(serve: Callable[[Behaviour], Server]):
    left = threading.Event()

    def greeting(connection: socket.socket, number: int) -> bool:
        del number
        connection.sendall(b"HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Length: 2\r\n\r\nOK")
        if server.asked[-1][1] != "GET /last":
            return True
        connection.shutdown(socket.SHUT_RDWR)
        left.set()
        return False

    server = serve(greeting)

    async def test(engine: Engine) -> None:
        for _ in range(3):
            assert ((await engine.greeting()).content, await engine.version()) == (b"OK", (1, 45))
        assert server.asked == [(1, "GET /_ping")]
        await engine.ask("GET", "/last")
        assert left.wait(60)
        left.clear()
        # Who wants to know whether it is there hears it from the engine itself,
        assert (await engine.greeting()).ok
        assert server.asked[1:] == [(1, "GET /last"), (2, "GET /_ping")]
        await engine.ask("GET", "/last")
        assert left.wait(60)
        left.clear()
        # also where others have asked it for something since: it may be another one.
        await engine.ask("GET", "/new")
        assert (await engine.greeting()).ok
        assert server.asked[3:] == [(2, "GET /last"), (3, "GET /new"), (3, "GET /_ping")]
        await engine.ask("GET", "/last")
        assert left.wait(60)
        server.path.unlink()
        with pytest.raises(EngineGone):
            await engine.greeting()

    run(server, test)
