"""The client side: our own requests to the engine, each with our own head and framing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ds01.gateway import answers, body, head, target
from ds01.gateway.head import Framing, ResponseHead
from ds01.gateway.refusals import Malformed, Refused
from ds01.gateway.target import NEWEST, Version
from ds01.gateway.wire import Wire

_IDLE_MAX: Final = 16
_CONNECT_S: Final = 5.0
ANSWER_S: Final = 110.0
"""Seconds for an answer of the engine to a question of ours: a create on a loaded disk takes most of a minute, and our
own commands wait 120."""
_ANSWER_MAX: Final = 64 << 20
"""Bytes of a JSON answer: an inspect of thousands of containers is below."""
_GREETING_S: Final = 60.0

Headers = Iterable[tuple[str, str]]


class EngineGone(Refused):
    """The engine does not answer, or not as an engine does."""

    def __init__(self, reason: str) -> None:
        """Take what was seen."""
        super().__init__(
            503,
            f"the container engine does not answer: {reason}",
            "engine.gone",
            "try again in a minute; if it stays so, tell the administrator",
        )


class EngineSaid(Refused):
    """An error of the engine's own, passed on in its words."""

    RULE: Final = "engine.answer"

    def __init__(self, status: int, content: bytes) -> None:
        """Take its answer."""
        try:
            text = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):
            text = "the container engine gave no reason"
        super().__init__(status, text, self.RULE)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer of the engine."""

    head: ResponseHead
    content: bytes

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return self.head.status // 100 == 2  # noqa: PLR2004 - the class of success

    def json(self) -> Any:
        """The content as JSON. Raises EngineGone."""
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise EngineGone("an answer is not JSON") from error


class Call:
    """One request under way on one connection to the engine."""

    def __init__(self, engine: Engine, wire: Wire, method: str, *, keep: bool) -> None:
        """Take the connection; the request is written by `Engine.call`."""
        self.wire = wire
        self.method = method
        self.head: ResponseHead
        self.framing: Framing
        self._engine = engine
        self._keep = keep
        self._decoder: body.Decoder

    async def answered(self) -> ResponseHead:
        """Wait for the head of the answer. Raises EngineGone."""
        while True:
            try:
                found = await self._read_head()
            except (Malformed, ValueError) as error:
                raise EngineGone(str(error)) from error
            if found.status != 100:  # noqa: PLR2004 - Continue is not an answer
                break
        self.head = found
        self.framing = found.framing(self.method)
        self._decoder = body.decoder(self.framing)
        return found

    def ready(self) -> bytes:
        """The content that has arrived already. Raises EngineGone."""
        try:
            return self._decoder.feed(self.wire.buffer)
        except Malformed as error:
            raise EngineGone(str(error)) from error

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content of the answer as it arrives. Raises EngineGone when it is cut off."""
        try:
            while True:
                # Until nothing is left: more arrives while the one who asks is busy with a piece.
                while data := self.ready():
                    yield data
                if self._decoder.done:
                    return
                if not await self.wire.more() and not self.wire.buffer:
                    self._decoder.end()
                    return
        except Malformed as error:
            raise EngineGone(str(error)) from error

    async def read(self) -> bytes:
        """The whole content. Raises EngineGone."""
        content = bytearray()
        async for data in self.pieces():
            content += data
            if len(content) > _ANSWER_MAX:
                raise EngineGone(f"an answer has more than {_ANSWER_MAX} bytes")
        return bytes(content)

    def finish(self) -> None:
        """Give the connection back: it is used again only if both sides know that everything was said."""
        clean = (
            self._keep
            and hasattr(self, "head")
            and self._decoder.done
            and self.wire.silent()
            and not answers.is_last(self.head)
            and self.framing != Framing(None)
        )
        self._engine.give_back(self.wire, clean=clean)

    async def _read_head(self) -> ResponseHead:
        while (end := head.find_end(self.wire.buffer)) < 0:
            if not await self.wire.more():
                raise ValueError("it ended the connection without an answer")
        raw = bytes(self.wire.buffer[:end])
        del self.wire.buffer[:end]
        return head.parse_response(raw)


class Engine:
    """The engine behind its root-only socket."""

    def __init__(self, path: str | Path) -> None:
        """Remember where it listens."""
        self._path = str(path)
        self._idle: deque[Wire] = deque()
        self._greeted: tuple[Answer, Version] | None = None
        self._greeted_until = 0.0

    async def version(self) -> Version:
        """The newest API version that both the engine and our tables know. Raises EngineGone."""
        return (self._kept() or await self._greet())[1]

    async def greeting(self) -> Answer:
        """The engine's answer to a ping, of the last minute as long as it is there. Raises EngineGone.

        Every command of a client begins with one, to learn what does not change while the engine runs.
        """
        there = bool(self._idle) and self._idle[-1].silent()
        return ((self._kept() if there else None) or await self._greet())[0]

    def _kept(self) -> tuple[Answer, Version] | None:
        return self._greeted if time.monotonic() < self._greeted_until else None

    async def _greet(self) -> tuple[Answer, Version]:
        answer = await self.ask("GET", "/_ping")
        major, _, minor = (answer.head.get("api-version") or "").partition(".")
        if not answer.ok or not major.isdigit() or not minor.isdigit():
            raise EngineGone("it does not say its API version")
        self._greeted = answer, min(NEWEST, (int(major), int(minor)))
        self._greeted_until = time.monotonic() + _GREETING_S
        return self._greeted

    async def get(self, *segments: str, query: Iterable[tuple[str, str]] = (), headers: Headers = ()) -> Answer:
        """Ask for something by its path. Raises EngineGone."""
        return await self.ask("GET", target.build(await self.version(), segments, query), headers=headers)

    async def ask(self, method: str, path: str, *, content: bytes = b"", headers: Headers = ()) -> Answer:
        """Send a request of ours and read the whole answer. Raises EngineGone."""
        try:
            async with asyncio.timeout(ANSWER_S):
                call = await self.call(method, path, headers=headers, length=len(content), content=content)
                try:
                    await call.answered()
                    return Answer(call.head, await call.read())
                finally:
                    call.finish()
        except TimeoutError as error:
            raise EngineGone(f"no answer within {ANSWER_S:.0f} s") from error

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        length: int | None = 0,
        content: bytes = b"",
        upgrade: bool = False,
        last: bool = False,
    ) -> Call:
        """Write a request; the caller reads the answer and calls `finish`.

        Args:
            method: GET, POST and so on.
            path: Our own target, see `target.build`.
            headers: Besides Host and framing.
            length: Bytes of the body, or None for chunks that the caller writes.
            content: The part of the body that is there.
            upgrade: Ask for a raw stream.
            last: Ask the engine to end the connection with its answer.

        Raises:
            EngineGone: It does not accept connections.
        """
        # Of a body in chunks the engine may leave some unread; the others it has had whole with the head.
        keep = length is not None and not upgrade and not last
        wire = await self._connect()
        lines = [f"{method} {path} HTTP/1.1", "Host: docker"]
        lines += [f"{name}: {value}" for name, value in headers]
        if length is None:
            lines.append("Transfer-Encoding: chunked")
        elif length or method in {"POST", "PUT"}:
            lines.append(f"Content-Length: {length}")
        if upgrade:
            lines += ["Connection: Upgrade", "Upgrade: tcp"]
        elif last:
            lines.append("Connection: close")
        wire.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + content)
        return Call(self, wire, method, keep=keep)

    def give_back(self, wire: Wire, *, clean: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if clean and len(self._idle) < _IDLE_MAX:
            wire.on_eof = self._forget_greeting
            self._idle.append(wire)
        else:
            self._forget_greeting()
            wire.abort()

    def _forget_greeting(self) -> None:
        # A connection that ends may do so with the engine: when it is back it may be another one.
        self._greeted_until = 0.0

    def close(self) -> None:
        """Close the connections that wait."""
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self) -> Wire:
        # An engine that ends a used connection between this look and the request ends a new one too, with itself: so
        # nothing is ever sent twice.
        while self._idle:
            wire = self._idle.pop()
            wire.on_eof = None
            if wire.silent():
                return wire
            self._forget_greeting()
            wire.abort()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, wire = await loop.create_unix_connection(Wire, self._path)
        except TimeoutError as error:
            raise EngineGone(f"no connection within {_CONNECT_S:.0f} s") from error
        except OSError as error:
            raise EngineGone(error.strerror or str(error)) from error
        return wire
