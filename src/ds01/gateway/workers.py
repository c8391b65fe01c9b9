"""Work that may block, away from the loop: few threads, a deadline for each question, and a refusal when all hang.

A directory server that is down, a file system that does not answer or a locked database must stop the requests that
need them, and nobody else's. Nor does somebody who asks a lot keep others waiting: at most half of the threads work for
one person, and what more they ask waits its turn before it takes a place among the others' questions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from ds01.gateway.refusals import Refused

_T = TypeVar("_T")
ASKER: Final[ContextVar[int | None]] = ContextVar("asker", default=None)
"""The uid that the work of this task is for; None: nobody's in particular."""


class Workers:
    """A bounded pool for one kind of question."""

    def __init__(self, name: str, threads: int, deadline: float) -> None:
        """Make a pool.

        Args:
            name: What is asked, for the refusal: "the user directory".
            threads: How many questions may hang at the same time.
            deadline: Seconds after which the asking request gives up.
        """
        self._name = name
        self._deadline = deadline
        self._waiting = 0
        self._waiting_max = threads * 64
        self._each = max(1, threads // 2)
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name.replace(" ", "-"))

    async def ask(self, question: Callable[[], _T], ended: Callable[[], None] = lambda: None) -> _T:
        """Run `question` in a thread.

        Args:
            question: What to run.
            ended: Called once it does not run any more, which may be long after the one who asked gave up.

        Raises:
            Refused: The deadline is over; besides, whatever the question raises.
        """
        begun: asyncio.Future[_T] | None = None
        try:
            async with asyncio.timeout(self._deadline):
                turn = self._turn()
                await turn.acquire()
                begun = self._begin(question, turn)
                begun.add_done_callback(lambda _: ended())
                return await asyncio.shield(begun)
        except TimeoutError as error:
            raise self._late() from error
        finally:
            if begun is None:
                ended()

    def _turn(self) -> asyncio.Semaphore:
        uid = ASKER.get()
        if uid is None:
            return asyncio.Semaphore(1)
        return self._turns.setdefault(uid, asyncio.Semaphore(self._each))

    def _begin(self, question: Callable[[], _T], turn: asyncio.Semaphore) -> asyncio.Future[_T]:
        """Give a question to a thread; its turn ends with the answer, also when nobody waits for it any more."""
        if self._waiting >= self._waiting_max:
            turn.release()
            raise self._late()
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, question)
        future.add_done_callback(partial(self._answered, turn))
        return future

    def close(self) -> None:
        """Let go of the threads; those that hang end with the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answered(self, turn: asyncio.Semaphore, future: asyncio.Future[_T]) -> None:
        self._waiting -= 1
        turn.release()
        if not future.cancelled():
            # A late failure has nobody left to tell.
            future.exception()

    def _late(self) -> Refused:
        return Refused(
            503,
            f"{self._name} does not answer within {self._deadline:.0f} s",
            "gateway.deadline",
            "try again in a minute; if it stays so, tell the administrator",
        )
