"""Answers `/ds01/v1` away from the loop: each thread has its own ledger, and none keeps another one waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ds01.api import history, resources, trail
from ds01.api.call import Asker, Call
from ds01.api.desk import Desk
from ds01.engine.api import Engine
from ds01.gateway.refusals import Refused
from ds01.gateway.shares import Share
from ds01.gateway.workers import Workers
from ds01.ledger import LEDGER, Ledger
from ds01.policy.problems import PolicyError

_THREADS: Final = 4
_ANSWER_S: Final = 15.0
"""A little more than a change of the ledger may take."""
_ENGINE_S: Final = 3.0
_ASKING_MAX: Final = 8
"""Questions of one person under way: what more there were would only keep others waiting."""
_POLL_S: Final = 0.5
_BATCH: Final = 200
"""Events that a follower gets at a time."""
_FOLLOWERS_MAX: Final = 8
"""Of one person."""


class Api:
    """Answers questions in threads."""

    def __init__(self, tables: Callable[[], Mapping[str, Any]], ledger: Path, engine: Path) -> None:
        """Take where the policy, which may block and raise PolicyError, the ledger and the engine are."""
        self._tables = tables
        self._ledger = ledger
        self._engine = Engine(engine, timeout=_ENGINE_S)
        self._own = threading.local()
        self._workers = Workers("DS01", _THREADS, _ANSWER_S)
        self._log = Workers("the event log", _THREADS, _ANSWER_S)
        self._asking = Share(_ASKING_MAX, "questions", "api.questions", "ask one after the other")
        self._following = Share(_FOLLOWERS_MAX, "programs that follow the events", "api.followers", "end some of them")

    async def answer(
        self, asker: Asker, method: str, path: Sequence[str], query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Any:
        """Answer a question. Raises ApiError, Refused."""

        def question() -> Any:
            return resources.answer(self._desk(), asker, method, path, query=query, body=body)

        self._asking.take(asker.uid)
        workers = self._log if path[:1] == ["events"] else self._workers
        # A question that hangs counts until it is over, also when nobody waits for its answer any more.
        return await workers.ask(question, lambda: self._asking.give_back(asker.uid))

    async def follow(self, asker: Asker, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Return the events that concern somebody as they happen, b"" now and then. Raises ApiError, Refused."""

        def begin() -> tuple[trail.Filter, Iterator[bytes | None]]:
            wanted = history.wanted_by(Call(asker, query=query), history.tokens_in(self._desk().ledger))
            return wanted, trail.lines(wanted.since if "since" in query else None)

        self._following.take(asker.uid)
        try:
            wanted, lines = await self._log.ask(begin)
        except BaseException:
            self._following.give_back(asker.uid)
            raise
        return self._followed(asker.uid, wanted, lines)

    async def _followed(self, uid: int, wanted: trail.Filter, lines: Iterator[bytes | None]) -> AsyncIterator[bytes]:
        def batch() -> tuple[bytes, bool]:
            found: list[bytes] = []
            for line in islice(lines, _BATCH):
                if line is None:
                    return b"".join(found), True
                if wanted.read(line) is not None:
                    found.append(line)
            return b"".join(found), False

        try:
            while True:
                content, at_end = await self._log.ask(batch)
                yield content
                if at_end:
                    await asyncio.sleep(_POLL_S)
        finally:
            self._following.give_back(uid)

    def close(self) -> None:
        """Let go of the threads."""
        self._workers.close()
        self._log.close()

    def _desk(self) -> Desk:
        ledger: Ledger | None = getattr(self._own, "ledger", None)
        if ledger is None:
            ledger = self._own.ledger = Ledger(self._ledger)
        try:
            # The engine works by the ledger of the host, and by no other.
            return Desk(dict(self._tables()), ledger, specs=self._ledger == LEDGER, engine=self._engine)
        except PolicyError as error:
            text = f"the policy on this server cannot be used ({len(error.errors)} problems)"
            fix = "tell the administrator: `ds01 policy check` names the problems"
            raise Refused(503, text, "policy.broken", fix) from error
