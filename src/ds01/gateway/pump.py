"""Streams from socket to socket inside the kernel: none of their bytes is read here, and none waits in our memory.

A stream that is idle costs two descriptors. What its other side does not take at once waits in a pipe, and nothing
more is read from its source: that is the back-pressure.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ds01.gateway.wire import Wire, hung_up
from ds01.gateway.workers import ASKER

PIECE: Final = 256 << 10
"""Bytes moved at once: a little more than a socket holds by default (net.core.wmem_default)."""
_PIPES_KEPT: Final = 16
_NOW: Final = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE

_BUSY_BYTES: Final = 64 << 10
_BUSY_LOOKS: Final = 16
_BUSY_S: Final = 0.01
"""A flow that moves more than so many bytes, or is looked at more often, in so many seconds gets a carrier."""
_CARRIERS: Final = 16
_CARRIERS_EACH: Final = _CARRIERS // 2
"""Threads that carry busy flows: the engine writes what a program prints as it comes, 4 KiB or a line at a time, and a
turn of the loop for each costs more than all else. In all, and for one person; what finds none free stays in the loop,
where many busy flows gather bytes for each other."""
_QUIET_MS: Final = 50
"""How long nothing moves before a carrier leaves a flow to the loop again."""
_BULK: Final = 16 << 10
_GATHER_S: Final = 0.0001
"""After a piece of at least so many bytes a carrier lets the next ones gather for so long. The engine copies by 32 KiB,
a socket holds six of these, and a trip for each costs what it moves: without the pause 1 GiB takes a tenth longer.
Smaller pieces may be questions that wait for an answer."""

Pipe = tuple[int, int]


class _Pipes:
    """Empty pipes: a flow needs one only while something is on its way."""

    def __init__(self) -> None:
        self._kept: list[Pipe] = []

    def take(self) -> Pipe:
        """Return an empty pipe. Raises OSError when this process has too many descriptors."""
        if self._kept:
            return self._kept.pop()
        pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # The kernel may have no more room for somebody without CAP_SYS_RESOURCE: then it stays at 64 KiB.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIECE)
        return pipe

    def give_back(self, pipe: Pipe, *, empty: bool) -> None:
        """Keep a pipe for the next one, or close it."""
        if empty and len(self._kept) < _PIPES_KEPT:
            self._kept.append(pipe)
        else:
            for end in pipe:
                os.close(end)


_PIPES: Final = _Pipes()


def _interrupt_nobody() -> None:
    """Let this thread wait for a processor like a batch job (SCHED_BATCH in sched(7)).

    Else each piece that arrives interrupts whoever writes the next one, and streams lose a tenth of their speed.
    """
    # Where a kernel does not allow it, streams are slower: no reason to carry none.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class _Carriers:
    """Threads for flows that are busy now."""

    def __init__(self) -> None:
        """Start without any; each is started when it is first needed."""
        self._pool = ThreadPoolExecutor(_CARRIERS, "carrier", _interrupt_nobody)
        self._busy: Counter[int | None] = Counter()

    def carry(self, work: Callable[[], None]) -> asyncio.Future[None] | None:
        """Begin some work, or return None where no thread is free for the person that this task works for."""
        asker = ASKER.get()
        if self._busy.total() >= _CARRIERS or self._busy[asker] >= _CARRIERS_EACH:
            return None
        self._busy[asker] += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(lambda _: self._free(asker))
        return future

    def _free(self, asker: int | None) -> None:
        self._busy[asker] -= 1
        if not self._busy[asker]:
            del self._busy[asker]


_CARRY: Final = _Carriers()


class _Flow:
    """One direction of a stream."""

    def __init__(self, source: socket.socket, sink: socket.socket, first: bytes, ended: Callable[[bool], None]) -> None:
        """Take both ends.

        Args:
            source: Where the bytes come from.
            sink: Where they go.
            first: Bytes of the source that were read already.
            ended: Called once: the source says that this was all (True), or the sink takes no more (False).
        """
        self._loop = asyncio.get_running_loop()
        self._source, self._sink = source, sink
        self._first = memoryview(first)
        self._ended = ended
        self._pipe: Pipe | None = None
        self._held = 0
        """Bytes in the pipe."""
        self._since = 0.0
        self._moved = self._looks = 0
        """Since when how many bytes were moved, and in how many pieces."""
        self.carried: asyncio.Future[None] | None = None
        """A thread has this flow: until it has left, pipe and sockets are the thread's."""
        self.over = False

    def push(self) -> None:
        """Send what was taken from the source; go on reading when all of it is gone."""
        try:
            while self._first:
                self._first = self._first[self._sink.send(self._first) :]
            self._pour()
        except BlockingIOError:
            self._loop.remove_reader(self._source.fileno())
            self._loop.add_writer(self._sink.fileno(), self.push)
            return
        except OSError:
            self.end(whole=False)
            return
        self._loop.remove_writer(self._sink.fileno())
        self._let_go()
        self._loop.add_reader(self._source.fileno(), self._pull)

    def end(self, *, whole: bool) -> None:
        """Stop, and say so."""
        if self.over:
            return
        self.over = True
        self._loop.remove_reader(self._source.fileno())
        self._loop.remove_writer(self._sink.fileno())
        if self.carried is None:
            self._let_go()
        self._ended(whole)

    def _pull(self) -> None:
        try:
            taken = self._take()
        except BlockingIOError:
            self._let_go()
            return
        except OSError:
            # Reset by a peer that had not read everything: after the last of its bytes this is an end like any other.
            taken = 0
        if not taken:
            self.end(whole=True)
            return
        if self._busy() and (carried := _CARRY.carry(self._carry)) is not None:
            self._loop.remove_reader(self._source.fileno())
            self.carried = carried
            carried.add_done_callback(self._left)
        else:
            self.push()

    def _take(self) -> int:
        """Take what the source has into the pipe; 0 is its end. Raises BlockingIOError when there is nothing now."""
        if self._pipe is None:
            self._pipe = _PIPES.take()
        self._held = os.splice(self._source.fileno(), self._pipe[1], PIECE, flags=_NOW)
        return self._held

    def _pour(self) -> None:
        """Empty the pipe into the sink. Raises BlockingIOError when it takes no more now, OSError when never again."""
        while self._held and self._pipe is not None:
            self._held -= os.splice(self._pipe[0], self._sink.fileno(), self._held, flags=_NOW)

    def _busy(self) -> bool:
        """Whether so much is moving that a turn of the loop for each piece is too dear."""
        now = self._loop.time()
        if now - self._since > _BUSY_S:
            self._since, self._moved, self._looks = now, 0, 0
        self._moved += self._held
        self._looks += 1
        return self._moved > _BUSY_BYTES or self._looks > _BUSY_LOOKS

    def _carry(self) -> None:
        """Move bytes until nothing moves for a while or the flow ends. Runs in a thread; the loop does the rest."""
        more, room = select.poll(), select.poll()
        more.register(self._source.fileno(), select.POLLIN)
        room.register(self._sink.fileno(), select.POLLOUT)
        taken = self._held
        while not self.over:
            try:
                self._pour()
                if not more.poll(_QUIET_MS):
                    return
                if taken >= _BULK:
                    time.sleep(_GATHER_S)
                else:
                    # A moment for whoever writes: one trip for two pieces costs half, an idle processor waits for none.
                    os.sched_yield()
                if not (taken := self._take()):
                    return
            except BlockingIOError:
                if self._held and not room.poll(_QUIET_MS):
                    return
            except OSError:
                return

    def _left(self, carried: asyncio.Future[None]) -> None:
        """Take the flow back from a thread: what it met is met again here, and dealt with."""
        del carried
        self.carried = None
        if self.over:
            self._let_go()
        else:
            self.push()

    def _let_go(self) -> None:
        if self._pipe is not None:
            _PIPES.give_back(self._pipe, empty=not self._held)
            self._pipe = None


class _Stream:
    """Two sockets, and what flows between them, until its end."""

    def __init__(self, sockets: tuple[socket.socket, socket.socket]) -> None:
        self._sockets = sockets
        self._flows: list[_Flow] = []
        self._watches: list[select.epoll] = []
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def flow(self, source: int, first: bytes) -> None:
        """Add one direction: from the first socket (0) or the second one (1)."""
        begin, end = self._sockets[source], self._sockets[1 - source]

        def ended(whole: bool) -> None:
            # Half a close is passed on as one. A sink that takes no more may still have something to say.
            if all(flow.over for flow in self._flows) or (whole and hung_up(begin)):
                self.end()
            elif whole:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_WR)
                self._await_hangup(begin)

        self._flows.append(_Flow(begin, end, first, ended))

    def watch(self, sink: int) -> None:
        """Notice when a socket that nothing is read from ends its side, or goes away."""
        loop, end, other = asyncio.get_running_loop(), self._sockets[sink], self._sockets[1 - sink]

        def heard() -> None:
            loop.remove_reader(end.fileno())
            with contextlib.suppress(OSError):
                if end.recv(1, socket.MSG_PEEK):
                    return
                if not hung_up(end):
                    other.shutdown(socket.SHUT_WR)
                    return
            self.end()

        loop.add_reader(end.fileno(), heard)

    def _await_hangup(self, end: socket.socket) -> None:
        """Notice when a peer that sends no more also stops to read: nothing else says so before there is output."""
        watch = select.epoll()
        watch.register(end.fileno(), 0)
        self._watches.append(watch)
        asyncio.get_running_loop().add_reader(watch.fileno(), self.end)

    async def run(self) -> None:
        """Let it flow until all directions have ended; close both sockets, however it ends."""
        try:
            for flow in self._flows:
                flow.push()
            await self._over
        finally:
            self.end()
            await self._left()
            ends: list[socket.socket | select.epoll] = [*self._watches, *self._sockets]
            for end in ends:
                asyncio.get_running_loop().remove_reader(end.fileno())
                end.close()

    async def _left(self) -> None:
        """Wait until no thread uses the sockets any more."""
        if carried := [flow.carried for flow in self._flows if flow.carried is not None]:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            await asyncio.wait(carried)

    def end(self) -> None:
        """End whatever still flows."""
        if not self._over.done():
            self._over.set_result(None)
        for flow in self._flows:
            flow.end(whole=False)


async def tunnel(first: Wire, second: Wire) -> None:
    """Join two connections, each end of input passed on, until both directions have ended. Raises OSError."""
    stream, (early, late) = await _take(first, second)
    stream.flow(0, early)
    stream.flow(1, late)
    await stream.run()


async def pour(source: Wire, sink: Wire) -> None:
    """Move what comes from one connection to the other one until its end, and close both. Raises OSError.

    What the sink says is not listened to, but its end of input is passed on, and its going away ends everything.
    """
    stream, (early, _) = await _take(source, sink)
    stream.flow(0, early)
    stream.watch(1)
    await stream.run()


async def _take(first: Wire, second: Wire) -> tuple[_Stream, tuple[bytes, bytes]]:
    one, early = await first.detach()
    try:
        other, late = await second.detach()
    except BaseException:
        one.close()
        raise
    return _Stream((one, other)), (early, late)
