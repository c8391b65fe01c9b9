"""One end of a byte stream with back-pressure, read as a buffer, until its socket is given away to `pump`.

Asyncio's streams cannot wait for the end of input without reading, nor let go of a connection; both are what a gateway
does all day.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final, cast

BUFFER_MAX: Final = 256 << 10
"""Bytes that wait on one side of a stream before the other side is no longer read."""
LINGER_S: Final = 5.0
"""How long a refused client may go on sending before it is cut off; closed at once, it would miss the answer."""


class _Next(asyncio.Future[None]):
    """Waits for the next bytes. Who waits goes on at once when they arrive, not in another turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[Callable[[Any], object], Context | None]] = []

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        self._waiting.append((fn, context))
        super().add_done_callback(fn, context=context)

    def arrived(self) -> None:
        """Let who waits go on, here and now: only for what the loop itself calls, between two tasks."""
        for fn, _ in self._waiting:
            self.remove_done_callback(fn)
        self.set_result(None)
        for fn, context in self._waiting:
            context.run(fn, self) if context is not None else fn(self)


class Wire(asyncio.Protocol):
    """A connection. Bytes land in `buffer`."""

    def __init__(self) -> None:
        """Make one that is not connected yet."""
        self.buffer = bytearray()
        self.eof = False
        """Whether the peer has said that it sends no more; it may still read."""
        self.lost = False
        """Whether the connection is gone."""
        self.ended = False
        """Whether we have ended it, or our side."""
        self.on_eof: Callable[[], None] | None = None
        """Called once when the peer ends its side while nothing of it waits in the buffer."""
        self._transport: asyncio.Transport | None = None
        self._reading_paused = False
        self.congested = False
        """Whether the peer does not read as fast as we write."""
        self._reader: _Next | None = None
        self._writer: asyncio.Future[None] | None = None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=BUFFER_MAX)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes."""
        self.buffer += data
        if len(self.buffer) >= BUFFER_MAX:
            self.pause()
        if self._reader is not None and not self._reader.done():
            self._reader.arrived()

    def eof_received(self) -> bool:
        """Note that the peer sends no more. The connection stays, for what it still reads."""
        self.eof = True
        self._wake_reader()
        self.fire_eof()
        return True

    def pause_writing(self) -> None:
        """Note that the peer does not read as fast as we write."""
        self.congested = True

    def resume_writing(self) -> None:
        """Note that the peer has caught up."""
        self.congested = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it went changes nothing
        """Note that it is over."""
        self.lost = self.eof = True
        self._wake_reader()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
        self.fire_eof()

    # What the gateway calls.

    async def more(self) -> bool:
        """Wait for bytes beyond those in the buffer. False when there will be none."""
        if self.eof:
            return False
        self.resume()
        self._reader = _Next()
        before = len(self.buffer)
        try:
            await self._reader
        finally:
            self._reader = None
        return len(self.buffer) > before

    def write(self, data: bytes) -> None:
        """Send; what does not fit waits in memory, so follow it with `drain`."""
        if data and not self.lost and self._transport is not None:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has caught up."""
        if self.congested and not self.lost:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    def write_eof(self) -> None:
        """Say that we send no more, after what was written."""
        transport = self._transport
        if self.lost or transport is None or transport.is_closing():
            return
        self.ended = True
        # The peer may be gone already: then there is nobody to tell.
        try:
            transport.write_eof()
        except OSError:
            self.abort()

    def fire_eof(self) -> None:
        """Call `on_eof` if it is due."""
        if self.eof and not self.buffer and self.on_eof is not None:
            callback, self.on_eof = self.on_eof, None
            callback()

    async def detach(self) -> tuple[socket.socket, bytes]:
        """Give the socket away, once everything that was written has left; return it with the bytes not read yet.

        This wire is lost from then on. Raises OSError when the connection is gone.
        """
        transport = self._transport
        self.pause()
        if transport is not None and not self.lost:
            # From now on to be congested is to have anything left.
            transport.set_write_buffer_limits(high=0)
            await self.drain()
        if transport is None or self.lost or transport.is_closing():
            raise ConnectionResetError("the connection ended before it could be given away")
        self.on_eof = None
        given, unread = self.socket.dup(), bytes(self.buffer)
        given.setblocking(False)  # noqa: FBT003 - its only argument
        self.buffer.clear()
        transport.abort()
        return given, unread

    def close(self) -> None:
        """End the connection after what was written."""
        self.ended = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    async def linger(self) -> None:
        """End our side, read and drop what the peer still sends for a while, then close."""
        self.write_eof()
        try:
            async with asyncio.timeout(LINGER_S):
                self.buffer.clear()
                while await self.more():
                    self.buffer.clear()
        except TimeoutError:
            pass
        self.close()

    def hung_up(self) -> bool:
        """Whether the peer, at its end of input, does not read any more either."""
        return self.lost or hung_up(self.socket)

    def silent(self) -> bool:
        """Whether both sides are open, and the peer has sent nothing that is not taken yet."""
        return not (self.ended or self.eof or self.lost or self.buffer or _events(self.socket, select.POLLIN))

    @property
    def socket(self) -> socket.socket:
        """The socket, for its credentials."""
        assert self._transport is not None  # noqa: S101 - only asked of connected wires
        found: Any = self._transport.get_extra_info("socket")
        return cast("socket.socket", found)

    def resume(self) -> None:
        """Read again, after the buffer was emptied."""
        if self._reading_paused and not self.lost and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()

    def pause(self) -> None:
        """Read no more for now."""
        if not self._reading_paused and not self.lost and not self.eof and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def hung_up(connection: socket.socket) -> bool:
    """Whether the peer neither sends nor reads any more."""
    return bool(_events(connection) & select.POLLHUP)


def _events(connection: socket.socket, asked: int = 0) -> int:
    """What poll(2) says of a connection now: of what is asked, and POLLHUP and POLLERR in any case."""
    watch = select.poll()
    watch.register(connection.fileno(), asked)
    return next((happened for _, happened in watch.poll(0)), 0)
