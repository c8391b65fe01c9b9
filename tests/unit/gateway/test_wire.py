"""Streams: nothing is lost, nothing piles up, and each end of input arrives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.gateway import body
from ds01.gateway.head import Framing
from ds01.gateway.pump import pour, tunnel
from ds01.gateway.wire import BUFFER_MAX, Wire

SIZE = 3_000_000


async def wire() -> tuple[Wire, socket.socket]:
    """A wire and the other end of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    _, found = await asyncio.get_running_loop().connect_accepted_socket(Wire, ours)
    theirs.setblocking(False)  # noqa: FBT003 - its only argument
    return found, theirs


async def receive(end: socket.socket) -> bytes:
    data = bytearray()
    while piece := await asyncio.get_running_loop().sock_recv(end, 1 << 16):
        data += piece
    return bytes(data)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(120):
            await test()

    asyncio.run(limited())


def test_a_tunnel_passes_everything_and_each_half_close():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))
        data = os.urandom(SIZE)

        async def answer() -> None:
            digest = hashlib.sha256(await receive(engine)).hexdigest()
            # The other direction is still open after the input has ended.
            await asyncio.sleep(0.1)
            await loop.sock_sendall(engine, digest.encode())
            engine.close()

        answering = asyncio.ensure_future(answer())
        await loop.sock_sendall(client, data)
        client.shutdown(socket.SHUT_WR)
        assert await receive(client) == hashlib.sha256(data).hexdigest().encode()
        await answering
        client.close()
        await tunnelled
        assert left.lost
        assert right.lost

    run(test)


def test_one_who_does_not_read_stops_the_sender():
    async def test() -> None:
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                await asyncio.get_running_loop().sock_sendall(engine, b"x" * 65536)
                sent += 65536

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(send(), 1)
        # Two kernel buffers and one of ours.
        assert sent < 2 * BUFFER_MAX + (2 << 20)
        client.close()
        engine.close()
        await tunnelled

    run(test)


def test_a_client_that_is_gone_ends_the_engines_side():
    async def test() -> None:
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))
        await asyncio.sleep(0)
        client.close()
        assert await receive(engine) == b""
        await tunnelled

    run(test)


def test_what_the_engine_said_before_it_stopped_listening_arrives():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))
        # More input than anybody takes, and an engine that ends without having read it.
        typing = asyncio.ensure_future(loop.sock_sendall(client, os.urandom(SIZE)))
        await asyncio.sleep(0.05)
        await loop.sock_sendall(engine, b"x" * 100_000)
        engine.close()
        seen = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := await loop.sock_recv(client, 1 << 16):
                seen += piece
        assert len(seen) == 100_000
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await typing
        client.close()
        await tunnelled

    run(test)


def test_what_was_written_and_read_before_goes_with_the_stream():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        (left, client), (right, engine) = await wire(), await wire()
        head, early, late = os.urandom(500_000), os.urandom(1000), os.urandom(SIZE)
        await loop.sock_sendall(engine, early)
        assert await right.more()
        left.write(head)
        poured = asyncio.ensure_future(pour(right, left))
        sending = asyncio.ensure_future(loop.sock_sendall(engine, late))
        sending.add_done_callback(lambda _: engine.close())
        assert await receive(client) == head + early + late
        await poured
        client.close()

    run(test)


@pytest.mark.parametrize("half", [True, False])
def test_a_reader_that_leaves_is_noticed_before_anything_is_written(half: bool):
    async def test() -> None:
        (left, client), (right, engine) = await wire(), await wire()
        poured = asyncio.ensure_future(pour(right, left))
        await asyncio.sleep(0.01)
        client.shutdown(socket.SHUT_WR) if half else client.close()
        assert await receive(engine) == b""
        if half:
            engine.send(b"still heard")
            engine.close()
            assert await receive(client) == b"still heard"
        await poured

    run(test)


def test_a_silent_client_that_goes_away_after_its_input_is_noticed():
    async def test() -> None:
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))
        client.shutdown(socket.SHUT_WR)
        assert await receive(engine) == b""
        assert not tunnelled.done()
        client.close()
        await tunnelled
        with pytest.raises(BrokenPipeError):
            engine.send(b"nobody reads this")

    run(test)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_stream_leaves_a_descriptor_behind():
    async def test() -> None:
        before = descriptors()
        for _ in range(30):
            (left, client), (right, engine) = await wire(), await wire()
            tunnelled = asyncio.ensure_future(tunnel(left, right))
            await asyncio.get_running_loop().sock_sendall(client, b"x" * 10_000)
            await asyncio.sleep(0)
            engine.close()
            client.close()
            await tunnelled
        # A few empty pipes are kept for the next streams.
        assert descriptors() < before + 34

    run(test)


def test_what_arrives_while_the_reader_is_busy_is_read():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        reading, sender = await wire()
        decoder = body.decoder(Framing(None, chunked=True))
        await loop.sock_sendall(sender, body.encode_chunk(b"one"))
        found = []
        while not decoder.done:
            while data := decoder.feed(reading.buffer):
                found.append(data)
                # The rest comes before the reader asks for more.
                await loop.sock_sendall(sender, body.encode_chunk(b"two") + body.last_chunk())
                await asyncio.sleep(0.05)
            if not decoder.done:
                assert await reading.more()
        assert found[:2] == [b"one", b"two"]

    run(test)


PIECES = st.lists(st.tuples(st.integers(1, 300_000), st.sampled_from([0.0, 0.0, 0.0, 0.06])), max_size=12)


@settings(max_examples=12, deadline=None)
@given(PIECES, PIECES, st.sampled_from([0.0, 0.06]))
def test_whatever_comes_in_whatever_pieces_arrives_both_ways(
    there: list[tuple[int, float]], back: list[tuple[int, float]], reads_late: float
):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        (left, client), (right, engine) = await wire(), await wire()
        tunnelled = asyncio.ensure_future(tunnel(left, right))

        async def send(end: socket.socket, pieces: list[tuple[int, float]]) -> str:
            digest = hashlib.sha256()
            for size, pause in pieces:
                data = os.urandom(size)
                digest.update(data)
                await loop.sock_sendall(end, data)
                await asyncio.sleep(pause)
            end.shutdown(socket.SHUT_WR)
            return digest.hexdigest()

        async def read(end: socket.socket) -> str:
            await asyncio.sleep(reads_late)
            return hashlib.sha256(await receive(end)).hexdigest()

        one, other, heard, answered = await asyncio.gather(
            send(client, there), send(engine, back), read(engine), read(client)
        )
        assert (heard, answered) == (one, other)
        client.close()
        engine.close()
        await tunnelled

    run(test)


def test_more_busy_streams_than_threads_all_arrive():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        data = os.urandom(SIZE // 10)

        async def stream() -> None:
            (left, client), (right, engine) = await wire(), await wire()
            poured = asyncio.ensure_future(pour(right, left))
            sending = asyncio.ensure_future(loop.sock_sendall(engine, data))
            sending.add_done_callback(lambda _: engine.close())
            assert await receive(client) == data
            await poured
            client.close()

        await asyncio.gather(*(stream() for _ in range(40)))

    run(test)


def test_a_busy_stream_that_is_given_up_ends_at_both_ends():
    async def test() -> None:
        loop = asyncio.get_running_loop()
        (left, client), (right, engine) = await wire(), await wire()
        before = descriptors()
        poured = asyncio.ensure_future(pour(right, left))
        sending = asyncio.ensure_future(loop.sock_sendall(engine, bytes(1 << 30)))
        for _ in range(100):
            await loop.sock_recv(client, 1 << 16)
        poured.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poured
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await sending
        with contextlib.suppress(ConnectionResetError):
            await receive(client)
        client.close()
        engine.close()
        assert descriptors() <= before

    run(test)
