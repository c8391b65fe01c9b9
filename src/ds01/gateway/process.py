"""The life of the process: take the sockets, serve, hand over on SIGHUP, drain, end on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ds01.gateway import systemd
from ds01.gateway.flood import Flood
from ds01.gateway.gateway import Gateway
from ds01.gateway.listener import Sockets
from ds01.host.runtime import CURRENT, HOME
from ds01.host.supervisor import notify, watchdog_seconds

_SUCCESSOR_S: Final = 50.0
"""Seconds for a successor to serve; otherwise this process goes on. Its first start compiles it, perhaps on a machine
that people keep busy; less than `host.gateway` waits for it, and than systemd does (90 s)."""

log = logging.getLogger(__name__)


class Process:
    """One gateway process."""

    def __init__(self, gateway: Gateway, sockets: Sockets, command: Callable[[], Sequence[str]]) -> None:
        """Take its parts.

        Args:
            gateway: What serves connections.
            sockets: Where they come in.
            command: Says what starts a successor.
        """
        self._gateway = gateway
        self._sockets = sockets
        self._command = command
        self._end = asyncio.Event()
        self._flood: Flood
        self._successor: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until told to end. Raises Refused when there is no ledger to serve from."""
        loop = asyncio.get_running_loop()
        _raise_file_limit()
        succeeds = systemd.HANDED_OVER in os.environ
        given = systemd.take_sockets(os.environ)
        self._sockets.open(given)
        await self._gateway.recall(self._sockets)
        if not succeeds:
            # Everybody's socket listens. At boot the engine starts after this, and with it containers that bind one.
            notify("READY=1", "STATUS=waiting for the engine")
        self._feed_watchdog()
        await self._gateway.compare()
        loop.add_signal_handler(signal.SIGTERM, self._end.set)
        loop.add_signal_handler(signal.SIGINT, self._end.set)
        loop.add_signal_handler(signal.SIGHUP, self._hand_over)
        self._flood = Flood(self._sockets.shared, self._gateway.shared.people, self._gateway.shared.audit)
        self._sockets.accept(self._gateway.accepted, self._flood.sift)
        notify("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving")
        systemd.tell_predecessor(os.environ)
        following = loop.create_task(self._gateway.follow())
        await self._end.wait()
        following.cancel()
        self._flood.end()
        await self._gateway.end_connections()
        self._gateway.close()

    def _hand_over(self) -> None:
        if self._successor is None or self._successor.done():
            self._successor = asyncio.get_running_loop().create_task(self._start_successor())

    async def _start_successor(self) -> None:
        """Start a process that serves from now on, and end when the last connection here has ended."""
        systemd.reloading()
        reading, writing = os.pipe()
        sockets = self._sockets.numbers()
        environment = dict(os.environ)
        environment[systemd.HANDED_OVER] = " ".join(f"{number}={name}" for name, number in sockets.items())
        environment[systemd.READY_FD] = str(writing)
        environment.pop("WATCHDOG_PID", None)
        try:
            successor = subprocess.Popen(  # noqa: ASYNC220 - it is fork and exec, nothing to wait for
                self._command(), env=environment, pass_fds=[*sockets.values(), writing]
            )
        except OSError:
            log.exception("the successor could not be started; this process goes on")
            os.close(reading)
            os.close(writing)
            notify("READY=1")
            return
        os.close(writing)
        if not await _told(reading):
            log.error("the successor did not serve; this process goes on")
            successor.kill()
            await asyncio.to_thread(successor.wait)
            notify("READY=1", f"MAINPID={os.getpid()}", "STATUS=serving; the reload failed")
            return
        self._sockets.stop()
        self._flood.end()
        if self._watchdog is not None:
            # From now on the successor has to prove that it is alive.
            self._watchdog.cancel()
        log.info("process %d serves; %d connections end here", successor.pid, self._gateway.connections)
        await self._gateway.drained()
        self._end.set()

    def _feed_watchdog(self) -> None:
        """Tell systemd that the loop turns, twice as often as it asks for."""
        seconds = watchdog_seconds(os.environ)
        if seconds is not None:
            notify("WATCHDOG=1")
            self._watchdog = asyncio.get_running_loop().call_later(seconds / 2, self._feed_watchdog)


async def _told(reading: int) -> bool:
    """Wait for the successor's word; its end without one is an answer too."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(reading, _wake, ready)
    try:
        async with asyncio.timeout(_SUCCESSOR_S):
            await ready
        return os.read(reading, 1) == b"1"
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(reading)
        os.close(reading)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def successor_command(home: Path = HOME) -> list[str]:
    """What this process was started with, by the version that is in use now.

    Each process runs by the real path of its version, so that what it imports late is of the same one.
    """
    python, *arguments = sys.orig_argv
    path = Path(python)
    if path.is_relative_to(home):
        path = (home / CURRENT).resolve() / Path(*path.relative_to(home).parts[1:])
    return [str(path), *arguments]
