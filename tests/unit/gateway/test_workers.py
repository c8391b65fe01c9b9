"""Somebody who asks a lot waits for themselves; others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest

from ds01.gateway.refusals import Refused
from ds01.gateway.workers import ASKER, Workers

MANY = 600
"""More than one person may have connections, and more than four threads take questions."""


async def asked(workers: Workers, uid: int | None, question: Callable[[], object]) -> object:
    ASKER.set(uid)
    return await workers.ask(question)


def test_one_person_does_not_keep_others_waiting() -> None:
    async def scene() -> list[object]:
        workers, gate = Workers("the disk", 4, 120.0), threading.Event()
        many = [asyncio.create_task(asked(workers, 1000, gate.wait)) for _ in range(MANY)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(60):
                answers = [await asked(workers, uid, lambda: "answered") for uid in (1001, None)]
        finally:
            gate.set()
        assert all(await asyncio.gather(*many))
        workers.close()
        return answers

    assert asyncio.run(scene()) == ["answered", "answered"]


async def answered(workers: Workers, uid: int) -> object:
    """What somebody is told in the end: a machine that has much to do may miss a deadline that is this short."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Refused):
                return await asked(workers, uid, lambda: "answered")


def test_what_hangs_counts_for_who_asked_it_until_it_ends() -> None:
    async def scene() -> None:
        workers, gate = Workers("the disk", 4, 0.2), threading.Event()
        for _ in range(2):
            with pytest.raises(Refused, match="does not answer within"):
                await asked(workers, 1000, gate.wait)
        with pytest.raises(Refused):
            await asked(workers, 1000, lambda: "too early")
        assert await answered(workers, 1001) == "answered"
        gate.set()
        assert await answered(workers, 1000) == "answered"
        workers.close()

    asyncio.run(scene())


def test_a_question_is_over_when_its_thread_is_and_not_before() -> None:
    async def scene() -> None:
        workers, gate, over = Workers("the disk", 4, 0.2), threading.Event(), asyncio.Event()
        with pytest.raises(Refused, match="does not answer within"):
            await workers.ask(gate.wait, over.set)
        assert not over.is_set()
        gate.set()
        async with asyncio.timeout(60):
            await over.wait()
        over.clear()
        workers.close()
        workers = Workers("the disk", 4, 60.0)
        with pytest.raises(ZeroDivisionError):
            await workers.ask(lambda: 1 / 0, over.set)
        async with asyncio.timeout(60):
            await over.wait()
        workers.close()

    asyncio.run(scene())


def test_a_question_that_never_began_is_over_at_once() -> None:
    async def scene() -> None:
        workers, gate, over = Workers("the disk", 2, 0.2), threading.Event(), asyncio.Event()
        ASKER.set(1000)
        with pytest.raises(Refused):
            await workers.ask(gate.wait)
        with pytest.raises(Refused):
            await workers.ask(gate.wait, over.set)
        assert over.is_set()
        gate.set()
        workers.close()

    asyncio.run(scene())
