"""One request and its answer: read what the client sent, send our own to the engine, relay what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

from ds01.gateway import answers, body, jsonbody, target
from ds01.gateway.conversation import DROPPED_MAX, LARGE, Conversation
from ds01.gateway.engine import Answer, Call, EngineGone, EngineSaid, Headers
from ds01.gateway.head import ResponseHead
from ds01.gateway.pump import pour, tunnel
from ds01.gateway.wire import Wire

_ERROR_MAX: Final = 64 << 10
_LOOK: Final = 512
_FINISH_S: Final = 600.0
"""Seconds that the engine has for what nobody waits for any more: a clean-up of large images takes minutes."""

Change = Callable[[Any], Any]
Stream = Callable[[bytes], bytes]
Before = Callable[[], Awaitable[None]]
Look = Callable[[bytes], None]


class Exchange(Conversation):
    """One request under way."""

    async def asked(
        self,
        segments: Iterable[str],
        query: Iterable[tuple[str, str]] = (),
        *,
        method: str = "POST",
        headers: Headers = (),
        source: AsyncIterator[bytes] | None = None,
    ) -> AsyncGenerator[bytes]:
        """Send a request of ours and yield the content of its answer; it ends when the client goes away.

        Args:
            segments: The path behind the version.
            query: Our own query.
            method: GET or POST.
            headers: More headers.
            source: A tar stream to send.

        Raises:
            EngineSaid: The engine answers an error.
        """
        path = target.build(await self.version(), segments, query)
        sent = [*headers] + ([("Content-Type", "application/x-tar")] if source is not None else [])
        call = await self.engine.call(method, path, headers=sent, length=None if source is not None else 0)
        pump = asyncio.ensure_future(_send_all(call, source)) if source is not None else None
        # The end of the client's input is not the end of ours.
        self.client.on_eof = lambda: call.wire.abort() if self.client.hung_up() else None
        self.client.fire_eof()
        try:
            head = await self._answered(call, pump)
            if head.status >= 400:  # noqa: PLR2004 - errors
                raise EngineSaid(head.status, await call.read())
            async for piece in call.pieces():
                yield piece
        finally:
            self.client.on_eof = None
            if pump is not None and not pump.done():
                pump.cancel()
            call.finish()

    async def forward(
        self,
        segments: Iterable[str],
        query: Iterable[tuple[str, str]] = (),
        *,
        content: bytes | None = None,
        upload: str | None = None,
        headers: Headers = (),
        change: Change | None = None,
        stream: Stream | None = None,
        before: Before | None = None,
        look: Look | None = None,
        shown: tuple[tuple[str, str], ...] = (),
    ) -> ResponseHead:
        """Send our own request to the engine and relay its answer.

        Args:
            segments: The path behind the version.
            query: Our own query.
            content: A JSON body.
            upload: The type of a body that is streamed as it comes from the client.
            headers: More headers for the engine.
            change: What to do to a JSON answer before the client sees it; for success only.
            stream: What to do to each piece of a stream; for success only.
            before: What must be done at a success before the client reads of it, and whether it still listens or not:
                then the engine does not hear of a client that went away, which it would take for the end of its work.
            look: Looks at the beginning of an upload, and may refuse it.
            shown: Replacements in the engine's error text: what it calls something, and what the client calls it.

        Returns:
            The head of the engine's answer, which the client has got whole by then.

        Raises:
            Refused: Nothing was answered yet.
            Gone: The client went away.
        """
        if content is None and upload is None:
            await self._read_body(DROPPED_MAX)
        path = target.build(await self.version(), segments, query)
        sent = [*headers]
        if content is not None or upload is not None:
            sent.append(("Content-Type", upload or "application/json"))
        call = await self.engine.call(
            self.head.method,
            path,
            headers=sent,
            length=None if upload else len(content or b""),
            content=content or b"",
            upgrade=self.route.hijack,
            last=self.route.bulk,
        )
        pump = asyncio.ensure_future(self._upload(call, look)) if upload else None
        patience: list[asyncio.TimerHandle] = []
        if before is None:
            self.client.on_eof = lambda: _client_ended(self.client, call.wire)
        else:
            self.client.on_eof = lambda: patience.extend(_without_client(self.client, call.wire))
        self.client.fire_eof()
        try:
            head = await self._answered(call, pump)
            if self.route.hijack and answers.is_raw(head):
                await self._raw(call, head)
            elif change is not None and head.status // 100 == 2:  # noqa: PLR2004 - the class of success
                await self._changed(call, head, change, before)
            elif head.status >= 400 and shown:  # noqa: PLR2004 - errors
                await self._failed(call, head, shown)
            else:
                if before is not None and head.status // 100 == 2:  # noqa: PLR2004 - as above
                    await before()
                await self._relay(call, head, stream if head.status // 100 == 2 else None)  # noqa: PLR2004 - as above
            return head
        finally:
            self.client.on_eof = None
            for timer in patience:
                timer.cancel()
            if pump is not None and not pump.done():
                # The engine had enough of it; what the client still sends is nobody's.
                pump.cancel()
            call.finish()

    async def repeat(self, answer: Answer) -> None:
        """Send an answer that the engine gave before to a request without a body."""
        await self._read_body(DROPPED_MAX)
        await self._send(answer.head.status, answers.passed(answer.head), answer.content)

    async def _upload(self, call: Call, look: Look | None) -> None:
        await self._send_continue()
        beginning = b""
        async for piece in self._pieces():
            data = beginning + piece
            if look is not None:
                if len(data) < _LOOK and not self._decoder.done:
                    beginning = data
                    continue
                look(data)
                look, beginning = None, b""
            call.wire.write(body.encode_chunk(data))
            await call.wire.drain()
            if call.wire.lost:
                return
        if look is not None and beginning:
            look(beginning)
            call.wire.write(body.encode_chunk(beginning))
        call.wire.write(body.last_chunk())

    async def _answered(self, call: Call, pump: asyncio.Future[None] | None) -> ResponseHead:
        if pump is None:
            return await call.answered()
        answered = asyncio.ensure_future(call.answered())
        try:
            both: list[asyncio.Future[Any]] = [answered, pump]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if pump.done() and not pump.cancelled() and (error := pump.exception()) is not None:
                raise error
            return await answered
        finally:
            answered.cancel()

    async def _raw(self, call: Call, head: ResponseHead) -> None:
        """Give the connection to the client's and the engine's own protocol, which the engine alone may begin."""
        self.keep_alive = False
        self.answering = True
        status, headers = head.status, answers.passed(head)
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            if any(name == "upgrade" for name, _ in self.head.headers):
                headers += [("Connection", "Upgrade"), ("Upgrade", "tcp")]
            else:
                # We ask for it each time. Who did not gets what the engine answers then: Node's clients read no other.
                status, headers = HTTPStatus.OK, answers.not_upgraded(headers)
        lines = answers.lines_of(status, headers)
        self.client.write(answers.encode(lines))
        await self._given_away(tunnel(self.client, call.wire))

    async def _changed(self, call: Call, head: ResponseHead, change: Change, before: Before | None) -> None:
        content = await call.read()

        def changed() -> bytes:
            try:
                value = json.loads(content)
            except ValueError as error:
                raise EngineGone("an answer is not JSON") from error
            return jsonbody.write(change(value)) + b"\n"

        shown = changed() if len(content) < LARGE else await self.shared.large.ask(changed)
        if before is not None:
            await before()
        await self._send(head.status, answers.passed(head), shown)

    async def _failed(self, call: Call, head: ResponseHead, shown: tuple[tuple[str, str], ...]) -> None:
        content = await call.read()
        try:
            message = str(json.loads(content)["message"])
        except (ValueError, KeyError, TypeError):
            message = None
        if message is not None and len(content) <= _ERROR_MAX:
            for theirs, ours in shown:
                message = message.replace(theirs, ours)
            content = jsonbody.write({"message": message}) + b"\n"
        await self._send(head.status, answers.passed(head), content)

    async def _relay(self, call: Call, head: ResponseHead, stream: Stream | None) -> None:
        """Pass the content on as it comes, the head at once."""
        self.answering = True
        framing = call.framing
        chunked = framing.length is None or stream is not None
        lines = answers.lines_of(head.status, answers.passed(head))
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif (length := head.get("content-length")) is not None:
            lines.append(f"Content-Length: {length}")
        if framing.chunked and stream is None and answers.is_last(head):
            # Nothing follows it on either connection: its chunks pass as they are, and its end is that of both.
            self.keep_alive = False
            self._end_of_head(lines)
            self.client.write(answers.encode(lines))
            await self._given_away(pour(call.wire, self.client))
            return
        self._end_of_head(lines)

        def sent(piece: bytes) -> bytes:
            data = piece if stream is None or not piece else stream(piece)
            return body.encode_chunk(data) if chunked and data else data

        # What is there already goes with the head; a stream without content yet still begins at once.
        self.client.write(answers.encode(lines) + sent(call.ready()))
        async for piece in call.pieces():
            self.client.write(sent(piece))
            await self._drained()
        if chunked:
            self.client.write(body.last_chunk())
        await self._drained()


async def _send_all(call: Call, source: AsyncIterator[bytes]) -> None:
    async for data in source:
        if not data:
            # An empty chunk would be the end.
            continue
        call.wire.write(body.encode_chunk(data))
        await call.wire.drain()
        if call.wire.lost:
            return
    call.wire.write(body.last_chunk())


def _without_client(client: Wire, upstream: Wire) -> list[asyncio.TimerHandle]:
    """Finish what nobody waits for any more, within a time: what follows it would wait for ever as well."""
    return [asyncio.get_running_loop().call_later(_FINISH_S, upstream.abort)] if client.hung_up() else []


def _client_ended(client: Wire, upstream: Wire) -> None:
    """Let the engine see what it would see without us: the end of input, or that nobody reads the answer."""
    if client.hung_up():
        upstream.abort()
    else:
        upstream.write_eof()
