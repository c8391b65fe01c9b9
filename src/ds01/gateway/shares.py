"""How much of something one person has at the same time, so that one program in a loop does not take it from all."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from typing import Final
from weakref import WeakValueDictionary

from ds01.gateway import messages
from ds01.gateway.refusals import Refused

_SAID_EVERY_S: Final = 5.0
"""Seconds between two messages to somebody who waits; by writing them it is seen whether the client is still there."""


class Share:
    """So many at the same time for each person; one more is refused."""

    def __init__(self, most: int, what: str, rule: str, fix: str) -> None:
        """Make it.

        Args:
            most: Of one person.
            what: What there are too many of, in the plural.
            rule: The rule that the refusal names.
            fix: What to do about it.
        """
        self._most, self._what, self._rule, self._fix = most, what, rule, fix
        self._used: Counter[int] = Counter()

    def take(self, uid: int) -> None:
        """Take one. Raises Refused."""
        if self._used[uid] >= self._most:
            text = f"you have {self._used[uid]} {self._what} at the same time, and {self._most} are the most"
            raise Refused(429, text, self._rule, self._fix)
        self._used[uid] += 1

    def give_back(self, uid: int) -> None:
        """Give one back."""
        self._used[uid] -= 1
        if self._used[uid] <= 0:
            del self._used[uid]

    @contextlib.contextmanager
    def held(self, uid: int) -> Iterator[None]:
        """Have one during the block. Raises Refused."""
        self.take(uid)
        try:
            yield
        finally:
            self.give_back(uid)


class Turns:
    """So many at the same time for each person; others of theirs wait."""

    def __init__(self, at_once: int, waiting: Share) -> None:
        """Take how many, and the share that bounds those that go on and those that wait together."""
        self._at_once = at_once
        self._waiting = waiting
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    async def each(self, uid: int, text: str, work: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Yield what `work` yields when its turn comes, and until then now and then a message. Raises Refused."""
        turn = self._turns.setdefault(uid, asyncio.Semaphore(self._at_once))
        with self._waiting.held(uid):
            while not await _acquired(turn):
                yield messages.message(status=text)
            try:
                async with contextlib.aclosing(work):
                    async for piece in work:
                        yield piece
            finally:
                turn.release()


async def _acquired(turn: asyncio.Semaphore) -> bool:
    try:
        async with asyncio.timeout(_SAID_EVERY_S):
            return await turn.acquire()
    except TimeoutError:
        return False
