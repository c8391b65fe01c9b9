"""One request as its client sent it, and answers of our own to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ds01.gateway import answers, body, jsonbody, messages, target
from ds01.gateway.api import Api
from ds01.gateway.audit import Audit
from ds01.gateway.engine import Engine, Headers
from ds01.gateway.gpus import Gpus
from ds01.gateway.head import RequestHead
from ds01.gateway.listener import Sockets
from ds01.gateway.people import Caller, People
from ds01.gateway.pushing import Pushing
from ds01.gateway.refusals import Malformed, Refused
from ds01.gateway.routes import Route
from ds01.gateway.shares import Share, Turns
from ds01.gateway.spool import Spool
from ds01.gateway.target import Target, Version
from ds01.gateway.wire import Wire
from ds01.gateway.workers import Workers

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/")
_NO: Final = frozenset({"", "0", "no", "false", "none"})
DROPPED_MAX: Final = 64 << 10
"""Bytes of a body that an endpoint without one reads and forgets."""
LARGE: Final = 512 << 10
"""Bytes of JSON from which reading it would keep everybody else waiting."""
_BODY_S: Final = 60.0
"""Seconds for a JSON body to arrive: it waits in memory meanwhile."""
_END_SOME: Final = "end some of the programs that follow them"


class Gone(Exception):  # noqa: N818 - it is no error
    """The client is not there any more."""


class Budget:
    """Bytes of requests that wait in memory, for one person."""

    MOST: Final = 16 << 20

    def __init__(self) -> None:
        """Start with nothing in use."""
        self._used = 0

    def take(self, amount: int) -> None:
        """Use some. Raises Refused when too much is in use at the same time."""
        if self._used + amount > self.MOST:
            raise Refused(429, "too many large requests at the same time", "gateway.memory", "send them one by one")
        self._used += amount

    def give_back(self, amount: int) -> None:
        """Stop using some."""
        self._used -= amount


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests use."""

    engine: Engine
    people: People
    audit: Audit
    gpus: Gpus
    large: Workers
    """For answers so large that reading them would keep everybody else waiting."""
    disk: Workers
    """For looks at directories of people, on file systems that may hang."""
    sockets: Sockets
    """Where connections come in, people's own sockets among them."""
    api: Api
    """What answers `/ds01/v1`."""
    spool: Spool
    """Where uploads are kept while they are read."""
    pushing: Pushing = field(default_factory=Pushing)
    events: Share = field(default_factory=lambda: Share(16, "streams of events", "gateway.events", _END_SOME))
    """Each is read and judged, line by line, for the one who follows it."""
    stats: Share = field(default_factory=lambda: Share(64, "streams of statistics", "gateway.stats", _END_SOME))
    """Read likewise; `docker stats` opens one for each container."""
    pulls: Turns = field(
        default_factory=lambda: Turns(4, Share(64, "pulls", "gateway.pulls", "pull one after another"))
    )
    """The engine fetches a few layers at a time, everybody's in one queue."""
    saves: Share = field(default_factory=lambda: Share(2, "images saved", "images.saves", "save one after another"))
    """The engine keeps the whole archive on its disk until the client has read it."""
    prunes: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    """By kind of object: while the engine cleans up for one, it refuses to for another."""

    def close(self) -> None:
        """Let go of connections and threads."""
        self.engine.close()
        self.people.close()
        self.audit.close()
        self.gpus.shut()
        self.large.close()
        self.disk.close()
        self.api.close()
        self.spool.close()


class Conversation:
    """The client's side of a request under way."""

    def __init__(
        self,
        *,
        client: Wire,
        head: RequestHead,
        where: Target,
        route: Route,
        names: Sequence[str],
        caller: Caller,
        shared: Shared,
        budget: Budget,
    ) -> None:
        """Take everything that is known before the request is judged."""
        self.client = client
        self.head = head
        self.where = where
        self.route = route
        self.names = names
        self.caller = caller
        self.shared = shared
        self.engine = shared.engine
        self.people = shared.people
        self.audit = shared.audit
        self.gpus = shared.gpus
        self.query = target.select(where.query, route.query, route.multiple)
        self.answering = False
        """Whether part of an answer is out, so that no other one can follow."""
        self.keep_alive = not head.has_token("connection", "close")
        self._budget = budget
        self._decoder = body.decoder(head.framing)
        self._continue = head.get("expect") is not None
        kind = (head.get("content-type") or "").strip().lower()
        if kind.startswith(_FORMS):
            # The engine prefers what a form says to what the target says.
            raise Malformed("forms are not accepted: send JSON", 415)

    @property
    def body_read(self) -> bool:
        """Whether the body has arrived, so that the next request follows."""
        return self._decoder.done

    def parameter(self, name: str) -> str | None:
        """The value of a parameter of the query."""
        return next((value for key, value in self.query if key == name), None)

    def flag(self, name: str) -> bool:
        """Whether a parameter says yes, as the engine reads it: whatever does not say no."""
        return (self.parameter(name) or "").strip().lower() not in _NO

    async def version(self) -> Version:
        """The API version of this request. Raises Refused when the client's is too new."""
        newest = await self.engine.version()
        if self.where.version is not None and self.where.version > newest:
            raise Refused(
                400,
                f"client version {target.text(self.where.version)} is too new. "
                f"Maximum supported API version is {target.text(newest)}",
                "api.version",
            )
        return self.where.version or newest

    @contextlib.contextmanager
    def watched(self) -> Iterator[asyncio.Event]:
        """Tell, while nothing is sent, whether the client goes away. The body must have been read."""
        gone = asyncio.Event()

        def ended() -> None:
            if self.client.hung_up():
                gone.set()

        self.client.on_eof = ended
        self.client.fire_eof()
        try:
            yield gone
        finally:
            self.client.on_eof = None

    async def json_body(self) -> Any:
        """Read the body as JSON, whatever its type is said to be. Raises Refused."""
        content = await self._read_body(jsonbody.BODY_MAX)
        self._budget.take(len(content))
        try:
            if len(content) < LARGE:
                return jsonbody.read(content)
            return await self.shared.large.ask(lambda: jsonbody.read(content))
        finally:
            self._budget.give_back(len(content))

    async def upload(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises Malformed, and Gone when the client ends it early."""
        await self._send_continue()
        async for data in self._pieces():
            yield data

    async def answer_by(self, pieces: AsyncGenerator[bytes], *, body_used: bool = False) -> None:
        """Answer with a stream of JSON messages. What is refused before the first piece is an ordinary refusal.

        Args:
            pieces: The messages.
            body_used: Whether making them reads the body; otherwise there is none.
        """
        if not body_used:
            await self._read_body(DROPPED_MAX)
        async with contextlib.aclosing(pieces):
            piece = await anext(pieces, b"")
            self.answering = True
            lines = answers.lines_of(200, [("Content-Type", "application/json")])
            lines.append("Transfer-Encoding: chunked")
            self._end_of_head(lines)
            self.client.write(answers.encode(lines))
            try:
                while True:
                    if piece:
                        self.client.write(body.encode_chunk(piece))
                        await self._drained()
                    piece = await anext(pieces)
            except StopAsyncIteration:
                pass
            except Refused as refusal:
                # The status is out: clients read an error from the last message.
                self.client.write(body.encode_chunk(messages.failure(str(refusal))))
            self.client.write(body.last_chunk())
            await self._drained()

    async def answer(self, status: int, content: bytes, headers: Headers = ()) -> None:
        """Send an answer of our own, as JSON."""
        await self._send(status, [("Content-Type", "application/json"), *headers], content)

    async def stream(self, pieces: AsyncIterator[bytes]) -> None:
        """Send an answer of our own that has no end yet, a piece at a time; b"" only looks whether the client is there.

        Raises:
            Gone: The client went away.
        """
        self.answering = True
        lines = answers.lines_of(200, [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")])
        self._end_of_head(lines)
        self.client.write(answers.encode(lines))
        async for piece in pieces:
            if self.client.eof and self.client.hung_up():
                raise Gone
            self.client.write(body.encode_chunk(piece) if piece else b"")
            await self._drained()
        self.client.write(body.last_chunk())
        await self._drained()

    async def _read_body(self, most: int) -> bytes:
        """Read the body whole. Raises Malformed when it is longer than `most`, or does not come in time."""
        if self._decoder.done:
            return b""
        await self._send_continue()
        content = bytearray()
        used = 0
        try:
            async with asyncio.timeout(_BODY_S):
                async for data in self._pieces():
                    self._budget.take(len(data))
                    used += len(data)
                    content += data
                    if len(content) > most:
                        raise Malformed(f"the body is longer than {most} bytes", 413)
        except TimeoutError as error:
            raise Malformed(f"the body did not arrive within {_BODY_S:.0f} s", 408) from error
        finally:
            self._budget.give_back(used)
        return bytes(content)

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            # Until nothing is left: more arrives while the one who asks is busy with a piece.
            while data := self._decoder.feed(self.client.buffer):
                yield data
            if self._decoder.done:
                return
            if not await self.client.more() and not self.client.buffer:
                self._decoder.end()
                raise Gone

    async def _send_continue(self) -> None:
        if self._continue:
            self._continue = False
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await self.client.drain()

    async def _given_away(self, stream: Awaitable[None]) -> None:
        try:
            await stream
        except OSError as error:
            raise Gone from error

    async def _send(self, status: int, headers: Headers, content: bytes) -> None:
        self.answering = True
        bodiless = status in {204, 304}
        lines = answers.lines_of(status, headers)
        if not bodiless:
            lines.append(f"Content-Length: {len(content)}")
        self._end_of_head(lines)
        self.client.write(answers.encode(lines) + (b"" if bodiless or self.head.method == "HEAD" else content))
        await self._drained()

    def _end_of_head(self, lines: list[str]) -> None:
        if not self.keep_alive or not self._decoder.done:
            self.keep_alive = False
            lines.append("Connection: close")

    async def _drained(self) -> None:
        await self.client.drain()
        if self.client.lost:
            raise Gone
