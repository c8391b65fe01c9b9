"""The allocator as requests use it: away from the loop, with deadlines, and closed where the ledger cannot be used.

A container without GPUs asks nothing of this. The allocator blocks (its turn, the disk), so one thread with its own
connection to the ledger does its work; what that cannot do in time is refused, and given back should it succeed late.

Stops are noted by the reconciler alone, from the engine's events. Here only what is removed gives back at once, since
scripts remove one container and make the next.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from ds01.allocator.answers import Allocation, Queued, instant
from ds01.allocator.model import Person as Rights
from ds01.allocator.model import Refusal
from ds01.allocator.people import People as Limits
from ds01.allocator.service import Allocator
from ds01.api.errors import STATUS
from ds01.cdi.files import SpecFiles
from ds01.engine.owners import short
from ds01.gateway.gpu_request import Wish
from ds01.gateway.people import People, Person
from ds01.gateway.refusals import Refused
from ds01.gateway.workers import Workers
from ds01.ledger import Ledger, LedgerBusyError, leases
from ds01.problems import ReportedError

_ANSWER_S: Final = 15.0
"""Seconds: two transactions of the ledger with a spec between them; what takes longer is refused."""
_LOOK_S: Final = 2.0
"""Between two looks of somebody who waits in the queue."""
_STAYS_S: Final = 120
"""How long a request stays in the queue of which no gateway says any more that somebody waits for it."""
_SETTLE_S: Final = 3.0
"""How long after the end of a container a refusal is looked at again: the reconciler notes ends within a second."""
_SETTLE_STEP_S: Final = 0.4

_T = TypeVar("_T")
_Work = Callable[[Allocator, Rights], _T]
_Answer = Allocation | Queued | Refusal

log = logging.getLogger(__name__)


class Gpus:
    """The claims of containers."""

    def __init__(self, ledger: Ledger, people: People, specs: SpecFiles) -> None:
        """Take the ledger, which one thread of this object uses, who may what, and where CDI specs are."""
        self._ledger = ledger
        self._people = people
        self._specs = specs
        self._workers = Workers("the ledger of GPUs", 1, _ANSWER_S)
        self._ended = -_SETTLE_S
        self._later: set[asyncio.Task[Any]] = set()

    async def allocate(self, person: Person, wish: Wish, wait_s: int | None, gone: asyncio.Event) -> Allocation:
        """Open a claim for a container that is made next. Raises Refused.

        Args:
            person: Whose it is.
            wish: What was asked.
            wait_s: How long to wait at most when nothing is free; None: not at all.
            gone: Set when whoever asked does not wait any more.
        """

        def ask(allocator: Allocator, rights: Rights, *, dry_run: bool = False) -> _Answer:
            wait = None if wait_s is None or dry_run else _STAYS_S
            unused = wish.token is not None
            return allocator.allocate(
                rights, wish.request, token=wish.token, unused=unused, wait_s=wait, dry_run=dry_run
            )

        def undo(allocator: Allocator, answer: _Answer) -> None:
            if isinstance(answer, Queued):
                allocator.abandon(answer.number)
            elif isinstance(answer, Allocation) and wish.token is None:
                allocator.close(answer.token, "its container was not made")

        await self._settle(person, lambda allocator, rights: ask(allocator, rights, dry_run=True))
        answer = await self._do(person, ask, undo)
        if isinstance(answer, Queued):
            answer = await self._wait(answer, person, wait_s or 0, gone)
        if isinstance(answer, Refusal):
            raise refused(answer)
        return answer

    async def start(
        self, person: Person, token: str, container: tuple[str, str], wait_s: int | None, gone: asyncio.Event
    ) -> Allocation:
        """Let the container of a claim have devices at the start that follows. Raises Refused.

        Args:
            person: Who starts it: its owner, or an administrator.
            token: The claim.
            container: Id and engine name.
            wait_s: As above.
            gone: As above.
        """

        def ask(allocator: Allocator, rights: Rights, *, wait: int | None = None, dry_run: bool = False) -> _Answer:
            with self._ledger.read() as view:
                claim = leases.find_claim(view, token)
            if claim is not None and claim.state == "open" and claim.container_id is None and not dry_run:
                # Whoever made it was killed before saying so.
                allocator.bind(token, *container)
            elif claim is not None and claim.container_id not in {None, container[0]}:
                other = short(claim.container_name or claim.token)
                text = f"the GPUs of this container are those of another one, {other}"
                return Refusal("permission", "gpu.claim", text, "create the container again", possible=False)
            owner = rights if claim is not None and claim.uid == rights.uid else None
            return allocator.start(token, person=owner, wait_s=wait, dry_run=dry_run)

        await self._settle(person, lambda allocator, rights: ask(allocator, rights, dry_run=True))
        wait = None if wait_s is None else _STAYS_S
        answer = await self._do(person, lambda allocator, rights: ask(allocator, rights, wait=wait), _leave)
        if isinstance(answer, Queued):
            answer = await self._wait(answer, person, wait_s or 0, gone)
            if isinstance(answer, Allocation):
                answer = await self._do(person, ask)
        if isinstance(answer, Allocation):
            return answer
        raise refused(answer) if isinstance(answer, Refusal) else _unusable("the queue went on without it")

    async def bind(self, person: Person, token: str, engine_id: str, name: str) -> None:
        """Tie a claim to the container that was made for it. Raises Refused."""
        await self._do(person, lambda allocator, _: allocator.bind(token, engine_id, name))

    def stop(self, person: Person, token: str, reason: str) -> None:
        """Note that a start came to nothing; soon, and nobody waits for it."""
        self._soon(self._do(person, lambda allocator, _: allocator.stop(token, reason)))

    def close(self, person: Person, token: str) -> None:
        """End a claim for which there will be no container; soon, and nobody waits for it."""
        self._soon(self._do(person, lambda allocator, _: allocator.close(token, "its container was not made")))

    def ended(self) -> None:
        """Note that some container ends at this moment."""
        self._ended = time.monotonic()

    def removed(self, engine_id: str) -> None:
        """End the claim of a container that is gone; soon, and nobody waits for it."""
        self.ended()

        def end(allocator: Allocator) -> None:
            with self._ledger.read() as view:
                claim = leases.claim_of(view, engine_id)
            if claim is not None and claim.state == "open":
                allocator.close(claim.token)

        self._soon(self._work(end))

    def shut(self) -> None:
        """Let go of the thread."""
        self._workers.close()

    async def _settle(self, person: Person, rehearse: _Work[_Answer]) -> None:
        """Right after a container ended, let what it held come back before somebody is refused for it."""
        while (left := self._ended + _SETTLE_S - time.monotonic()) > 0:
            answer = await self._do(person, rehearse)
            if not isinstance(answer, Refusal) or answer.kind not in {"quota", "capacity"}:
                return
            await asyncio.sleep(min(_SETTLE_STEP_S, left))

    async def _wait(self, place: Queued, person: Person, wait_s: int, gone: asyncio.Event) -> Allocation | Refusal:
        """Wait in the queue until served, until the time is over, or until nobody asks any more."""
        until = time.monotonic() + wait_s
        number = place.number
        done = False
        try:
            while (left := until - time.monotonic()) > 0 and not await _happens(gone, min(_LOOK_S, left)):
                try:
                    answer = await self._do(person, lambda allocator, _: allocator.attend(number, _STAYS_S))
                except Refused as error:
                    # The place in the queue outlives a ledger that is busy for a while.
                    log.warning("request %d waits on: %s", number, error)
                    continue
                if not isinstance(answer, Queued):
                    done = True
                    return answer
                place = answer
        finally:
            if not done:
                self._soon(self._do(person, lambda allocator, _: allocator.abandon(number)))
        text = f"nothing was free within {wait_s} s; it was at place {place.position} of the queue, by {place.why}"
        return Refusal("capacity", "gpu.queue", text, "wait longer, or come back later", frees_at=place.expected)

    async def _do(self, person: Person, work: _Work[_T], undo: Callable[[Allocator, _T], object] | None = None) -> _T:
        """Let the allocator work for a person. Raises Refused."""

        def with_rights(allocator: Allocator) -> _T:
            now = time.time_ns() // 1_000_000
            return work(allocator, allocator.people.person(person.uid, person.name, now, person.groups))

        return await self._work(with_rights, undo)

    async def _work(self, work: Callable[[Allocator], _T], undo: Callable[[Allocator, _T], object] | None = None) -> _T:
        """Let the allocator work, and undo what comes too late for whoever asked. Raises Refused."""
        limits = Limits(dict(await self._people.tables()))
        # Either whoever asked has the answer, or it is undone: never neither.
        turn, answers = threading.Lock(), list[_T]()
        given_up = False

        def job() -> _T:
            if given_up:
                raise LedgerBusyError("nobody waits for it any more: ask again")
            allocator = Allocator(self._ledger, limits, self._specs)
            answer = work(allocator)
            with turn:
                late = given_up
                answers.append(answer)
            if late and undo is not None:
                undo(allocator, answer)
            return answer

        try:
            return await self._workers.ask(job)
        except ReportedError as error:
            raise _unusable(str(error)) from error
        except (Refused, asyncio.CancelledError):
            with turn:
                given_up = True
                missed = list(answers)
            if undo is not None:
                for answer in missed:
                    self._soon(self._work(_given(undo, answer)))
            raise

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        """Let something be done that no request waits for; the reconciler does what fails here."""

        async def done() -> None:
            try:
                await work
            except Refused as error:
                log.warning("left to the reconciler: %s", error)

        task = asyncio.get_running_loop().create_task(done())
        self._later.add(task)
        task.add_done_callback(self._later.discard)


def refused(refusal: Refusal) -> Refused:
    """Return what a client is told of the allocator's refusal, which is in the event log already."""
    text = refusal.message
    if refusal.frees_at is not None:
        text += f"; something frees up by {instant(refusal.frees_at)}"
    facts = {name: value for name, value in refusal.as_dict().items() if name != "message"}
    return Refused(STATUS[refusal.kind], text, refusal.rule, refusal.fix, facts=facts, said=refusal.kind != "internal")


def _unusable(why: str) -> Refused:
    return Refused(
        503, f"GPUs cannot be given out now: {why}", "gpu.ledger", "try again in a minute; if it stays so, tell the"
        " administrator; containers without GPUs start as usual",
    )  # fmt: skip


def _given(undo: Callable[[Allocator, _T], object], answer: _T) -> Callable[[Allocator], object]:
    return lambda allocator: undo(allocator, answer)


def _leave(allocator: Allocator, answer: _Answer) -> None:
    if isinstance(answer, Queued):
        allocator.abandon(answer.number)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
