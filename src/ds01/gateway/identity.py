"""Who is at the other end of a socket: what the kernel says, and the proof that it is a process of this host.

A process in a container is any uid it likes, root included. So on the shared socket a uid counts only if its process
lives in the host's own process and user namespaces and in no container's cgroup. Mount namespaces are not compared:
a private /tmp gives each login its own.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time
from dataclasses import dataclass
from functools import cache
from typing import Final

from ds01.gateway.refusals import Refused
from ds01.slices.names import ROOT_SLICE

_SO_PEERPIDFD: Final = 77
"""asm-generic/socket.h; Linux 6.5 and later have it, Python has no name for it yet."""
_CREDENTIALS: Final = struct.Struct("iII")
_CONTAINER: Final = re.compile(rf"/{re.escape(ROOT_SLICE)}(?=/|$)|[-:/][0-9a-f]{{64}}(?:\.scope)?(?=/|$)", re.MULTILINE)
_NAMESPACES: Final = ("pid", "user")
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_FIELD: Final = 19
"""Index of starttime in /proc/<pid>/stat behind the name, proc(5)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that opened a connection; `host` is whether it is one of this host, and not in a container."""

    pid: int
    uid: int
    host: bool


def peer(connection: socket.socket, accepted: float) -> Peer:
    """Return who opened a connection.

    Args:
        connection: The accepted socket.
        accepted: When it was accepted, by the clock that counts from boot (CLOCK_BOOTTIME).

    Raises:
        Refused: The process is gone, or cannot be told from another one; nobody can say who asks.
    """
    pid, uid = credentials(connection)
    if pid <= 0:
        # It is in a namespace beside ours or above it, so certainly not one of this host's.
        return Peer(pid, uid, host=False)
    descriptor, exact = _pidfd(connection, pid)
    try:
        started = None if exact else _started(pid)
        if started is not None and started > accepted:
            raise _unknown()
        found = Peer(pid, uid, host=_is_host(pid))
        # The number belonged to the same process all the while, so what was read is about it. Where the descriptor is
        # the kernel's own, that the process has not ended says it.
        if _ended(descriptor) or (started is not None and _started(pid) != started):
            raise _unknown()
    except (OSError, ValueError, IndexError) as error:
        raise _unknown() from error
    finally:
        os.close(descriptor)
    return found


def credentials(connection: socket.socket) -> tuple[int, int]:
    """Return the process and the uid that opened a connection, as the kernel kept them then."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def boot_seconds() -> float:
    """Now, by the clock that process start times use."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def in_container(cgroups: str) -> bool:
    """Whether a /proc/<pid>/cgroup names a container's cgroup, of any engine, or one below DS01's slice."""
    return _CONTAINER.search(cgroups) is not None


def _pidfd(connection: socket.socket, pid: int) -> tuple[int, bool]:
    """Return a descriptor of the peer's process, and whether it is surely the one that connected."""
    try:
        return struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))[0], True
    except OSError:
        pass
    try:
        return os.pidfd_open(pid), False
    except OSError as error:
        raise _unknown() from error


def _is_host(pid: int) -> bool:
    # Every connection waits for this: a Path costs more than the call.
    if any(os.readlink(f"/proc/{pid}/ns/{name}") != own for name, own in _own_namespaces().items()):  # noqa: PTH115
        return False
    return not in_container(_read(pid, "cgroup"))


@cache
def _own_namespaces() -> dict[str, str]:
    """Those of this process, which it never leaves."""
    return {name: os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES}  # noqa: PTH115 - as it is compared


def _read(pid: int, name: str) -> str:
    """Return a file of /proc/<pid>. Raises OSError when the process is gone."""
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(descriptor, 1 << 16):
            data += piece
        return data.decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def _started(pid: int) -> float:
    """When a process started, in seconds since boot. Raises OSError when it is gone."""
    return int(_read(pid, "stat").rpartition(")")[2].split()[_START_FIELD]) / _CLOCK_TICKS


def _ended(descriptor: int) -> bool:
    watch = select.poll()
    watch.register(descriptor, select.POLLIN)
    return bool(watch.poll(0))


def _unknown() -> Refused:
    return Refused(
        403,
        "the process that opened this connection is gone, so nobody can say who asks",
        "identity.process",
        "connect again from a program that keeps running",
    )
