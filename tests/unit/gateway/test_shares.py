"""What one person has at the same time: bounded for each, and free again however it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from ds01.gateway import shares
from ds01.gateway.refusals import Refused
from ds01.gateway.shares import Share, Turns


def test_one_more_is_refused_for_its_owner_alone():
    share = Share(2, "streams", "gateway.streams", "end some")
    with share.held(1000), share.held(1000):
        with pytest.raises(Refused, match="you have 2 streams at the same time, and 2 are the most") as refusal:
            share.take(1000)
        assert (refusal.value.status, refusal.value.rule, refusal.value.fix) == (429, "gateway.streams", "end some")
        with share.held(1001):
            pass
    with pytest.raises(ZeroDivisionError), share.held(1000):
        raise ZeroDivisionError
    with share.held(1000), share.held(1000):
        pass


def test_others_wait_for_their_turn_and_say_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shares, "_SAID_EVERY_S", 0.05)

    async def scene() -> None:
        turns = Turns(2, Share(3, "pulls", "gateway.pulls", "wait"))
        gates = [asyncio.Event() for _ in range(3)]
        running: set[int] = set()

        async def work(number: int) -> AsyncGenerator[bytes]:
            running.add(number)
            yield b"began"
            await gates[number].wait()
            running.discard(number)
            yield b"ended"

        streams = [turns.each(1000, "waiting", work(number)) for number in range(3)]
        assert [await anext(stream) for stream in streams[:2]] == [b"began", b"began"]
        assert b"waiting" in await anext(streams[2])
        assert running == {0, 1}
        with pytest.raises(Refused, match="3 pulls"):
            await anext(turns.each(1000, "waiting", work(2)))
        other = turns.each(1001, "waiting", work(2))
        assert await anext(other) == b"began"
        await other.aclose()
        gates[0].set()
        assert [piece async for piece in streams[0]] == [b"ended"]
        said = b""
        while b"waiting" in (said := await anext(streams[2])):
            pass
        assert said == b"began"
        # A client that goes away, working or waiting, leaves nothing behind.
        last = turns.each(1000, "waiting", work(0))
        assert b"waiting" in await anext(last)
        for stream in (last, streams[1], streams[2]):
            await stream.aclose()
        gates[0].clear()
        again = [turns.each(1000, "waiting", work(0)) for _ in range(2)]
        assert [await anext(stream) for stream in again] == [b"began", b"began"]
        for stream in again:
            await stream.aclose()

    asyncio.run(scene())
