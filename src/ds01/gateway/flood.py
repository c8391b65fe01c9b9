"""Who connects without end is shut out of the shared socket for a while, by the kernel.

The backlog of that socket is everybody's. A loop that connects and hangs up fills it faster than any process empties
it, and then nobody gets in, root neither. So what one person has waiting at the same moment is counted where it is
accepted, and an entry in the access list of the socket turns away whoever has too much before it takes a place in the
backlog. How often somebody connects is no matter: who waits for each answer has one connection waiting, however fast
the answers come. At the sockets of single persons only the owner waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
import struct
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ds01.gateway.audit import Audit
from ds01.gateway.gateway import CONNECTIONS_PER_USER
from ds01.gateway.identity import credentials
from ds01.gateway.listener import SHARED
from ds01.gateway.people import Caller, People
from ds01.gateway.refusals import Refused

WAITING: Final = 2 * CONNECTIONS_PER_USER
"""Connections of one person that wait at the same moment. One who has too many open is to be told that, so twice as
many as anybody may have; a quarter of the backlog."""
_FIRST_S: Final = 10.0
_LONGEST_S: Final = 80.0
_FORGOTTEN_S: Final = 60.0
"""Who floods again so soon is shut out twice as long: each beginning is a moment in which others do not get in."""
_ACL: Final = "system.posix_acl_access"
_HEADER: Final = struct.pack("<I", 2)
"""POSIX_ACL_XATTR_VERSION of linux/posix_acl_xattr.h, as are the tags below."""
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NO_ID: Final = 0xFFFF_FFFF

log = logging.getLogger(__name__)


class Flood:
    """Keeps the shared socket free for everybody."""

    def __init__(self, path: Path, people: People, audit: Audit) -> None:
        """Open the socket to those whom a process before this one has shut out.

        Args:
            path: Of the shared socket.
            people: Says who is an administrator; those are never shut out.
            audit: Is told who is.
        """
        self._path = path
        self._people = people
        self._audit = audit
        self._last: dict[int, tuple[float, float]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._shut: dict[int, asyncio.TimerHandle] = {}
        self._supported = True
        self._write()

    def end(self) -> None:
        """Shut nobody out any more; a successor judges by itself."""
        for task in self._tasks.values():
            task.cancel()
        for timer in self._shut.values():
            timer.cancel()
        if self._shut:
            self._shut.clear()
            self._write()

    def sift(self, connections: Sequence[socket.socket]) -> Sequence[socket.socket]:
        """Return those of the connections that are to be served, and end those of whoever is or should be shut out.

        Args:
            connections: All that were waiting at the shared socket at this moment.
        """
        if len(connections) <= WAITING and not self._shut:
            return connections
        uids = [credentials(connection)[1] for connection in connections]
        flooding = {uid for uid, number in Counter(uids).items() if uid and number > WAITING}
        for uid in flooding - self._shut.keys() - self._tasks.keys():
            if uid in self._last:
                # At once: what they do in the meantime would fill the backlog.
                self._shut_out(uid)
            self._tasks[uid] = asyncio.get_running_loop().create_task(self._judge(uid))
            self._tasks[uid].add_done_callback(partial(self._judged, uid))
        admitted = []
        for connection, uid in zip(connections, uids, strict=True):
            if uid in flooding or uid in self._shut:
                connection.close()
            else:
                admitted.append(connection)
        return admitted

    async def _judge(self, uid: int) -> None:
        """Shut somebody out who is no administrator, and record it."""
        caller: Caller | None = None
        with contextlib.suppress(Refused):
            person = await self._people.person(uid)
            caller = Caller(person, await self._people.is_admin(person), SHARED)
        if caller is not None and caller.admin:
            return
        if uid not in self._shut:
            self._shut_out(uid)
        seconds = self._last[uid][1]
        reason = f"uid {uid} had more than {WAITING} connections waiting and is shut out for {seconds:.0f} s"
        log.warning("%s", reason)
        await self._audit.record(
            "gateway.refuse",
            caller,
            {"kind": "socket", "name": "shared"},
            "refused",
            rule="gateway.flood",
            reason=reason,
            fix="end the program that connects without waiting for answers",
            details={"request": "connection", "uid": uid, "seconds": seconds},
        )

    def _judged(self, uid: int, _: asyncio.Task[None]) -> None:
        del self._tasks[uid]

    def _shut_out(self, uid: int) -> None:
        seconds = self._seconds(uid, time.monotonic())
        self._shut[uid] = asyncio.get_running_loop().call_later(seconds, self._open, uid)
        self._write()

    def _seconds(self, uid: int, now: float) -> float:
        """How long somebody who has too many stays outside from now on."""
        self._last = {known: last for known, last in self._last.items() if now - last[0] < _FORGOTTEN_S}
        before = self._last.get(uid)
        length = _FIRST_S if before is None else min(before[1] * 2, _LONGEST_S)
        self._last[uid] = now + length, length
        return length

    def _open(self, uid: int) -> None:
        del self._shut[uid]
        self._write()

    def _write(self) -> None:
        """Bring the access list of the socket to who is shut out now, and to nobody else."""
        if not self._supported:
            return
        try:
            if self._shut:
                mode = stat.S_IMODE(self._path.stat().st_mode)
                os.setxattr(self._path, _ACL, access_list(mode, self._shut))
            else:
                os.removexattr(self._path, _ACL)
        except OSError as error:
            if error.errno == errno.ENODATA:
                return
            self._supported = error.errno != errno.ENOTSUP
            log.warning("nobody is shut out of %s by the kernel: %s", self._path, error)


def access_list(mode: int, shut: Collection[int]) -> bytes:
    """Return the access list that leaves a mode as it is, but for the users who have nothing."""
    owner, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    entries = [
        (_USER_OBJ, owner, _NO_ID),
        # The kernel wants them in this order.
        *((_USER, 0, uid) for uid in sorted(shut)),
        (_GROUP_OBJ, group, _NO_ID),
        # The mode shows this as the rights of the group.
        (_MASK, group, _NO_ID),
        (_OTHER, other, _NO_ID),
    ]
    return _HEADER + b"".join(_ENTRY.pack(*entry) for entry in entries)
