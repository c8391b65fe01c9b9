"""Listening sockets: the shared one, and one for each person below /run/ds01/users.

Connections are accepted here and not by asyncio's server: that one unlinks the path of a socket on close (Python 3.13),
and a socket that systemd or a successor still listens on must keep it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ds01.files import ensure_directory

SHARED: Final = "docker.sock"
"""Name of the socket that everybody uses, as FileDescriptorName= in its unit."""
_BACKLOG: Final = 4096
"""As in ds01-gateway.socket; as much as the kernel allows (net.core.somaxconn)."""
_SERVED_AT_ONCE: Final = 64
"""Connections that begin in one turn of the loop: each is some work, and whoever was served before waits for it."""
_FULL_PAUSE_S: Final = 0.2
_USER: Final = "user-"

Accepted = Callable[[socket.socket, int | None], None]
Sift = Callable[[Sequence[socket.socket]], Sequence[socket.socket]]


def user_name(uid: int) -> str:
    """What the socket of a person is called among the sockets handed over."""
    return f"{_USER}{uid}"


def owner_of(name: str) -> int | None:
    """Whose socket has this name; None for the shared one."""
    return int(name.removeprefix(_USER)) if name.startswith(_USER) else None


def bind(path: Path, mode: int = 0o666) -> socket.socket:
    """Listen on a path, in place of whatever stale socket is there. Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                # The engine makes one for a container that binds what is not there.
                path.rmdir()
            else:
                path.unlink()
        listening.bind(str(path))
        path.chmod(mode)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def bind_user(root: Path, uid: int) -> socket.socket:
    """Listen for one person: in a directory of root's that nobody else enters. Raises OSError.

    The engine binds this path into containers as root, and follows what it finds there. On the host its owner has no
    need of it: they use the shared socket.
    """
    directory = root / str(uid)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    return bind(directory / SHARED)


class Listener:
    """Accepts connections on one socket."""

    def __init__(self, name: str, listening: socket.socket) -> None:
        """Take the socket, which listens: whoever connects waits until `accept`.

        Args:
            name: What it is called when it is handed over.
            listening: The socket.
        """
        self.name = name
        self.socket = listening
        self._accepted: Accepted
        self._sift: Sift | None
        self._taken: deque[socket.socket] = deque()
        self._owner = owner_of(name)
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        listening.setblocking(False)  # noqa: FBT003 - its only argument

    def accept(self, accepted: Accepted, sift: Sift | None = None) -> None:
        """Begin to accept.

        Args:
            accepted: Called with each connection and the person whose socket it is.
            sift: Is given all connections that were waiting, and returns those to be served; it closes the others.
        """
        self._accepted = accepted
        self._sift = sift
        self._listen()

    def stop(self) -> None:
        """Accept no more; what was accepted is served. The path stays, for whoever else listens on it."""
        self._pause()
        self.socket.close()
        while self._taken:
            self._accepted(self._taken.popleft(), self._owner)

    def _listen(self) -> None:
        self._loop.add_reader(self.socket.fileno(), self._accept)

    def _pause(self) -> None:
        self._loop.remove_reader(self.socket.fileno())
        if self._resume is not None:
            self._resume.cancel()

    def _accept(self) -> None:
        # Who has how many of them can be told only when all are there.
        self._taken.extend(self._sift(self._take(_BACKLOG)) if self._sift else self._take(_SERVED_AT_ONCE))
        self._serve()

    def _serve(self) -> None:
        for _ in range(min(_SERVED_AT_ONCE, len(self._taken))):
            self._accepted(self._taken.popleft(), self._owner)
        if self._taken:
            # Others come after them.
            self._pause()
            self._resume = self._loop.call_later(0, self._go_on)

    def _go_on(self) -> None:
        self._serve()
        if not self._taken:
            self._listen()

    def _take(self, most: int) -> list[socket.socket]:
        connections: list[socket.socket] = []
        while len(connections) < most:
            try:
                connection, _ = self.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    raise
                # The backlog holds them; asking again at once would only burn the processor.
                self._pause()
                self._resume = self._loop.call_later(_FULL_PAUSE_S, self._go_on)
                break
            connection.setblocking(False)  # noqa: FBT003 - its only argument
            connections.append(connection)
        return connections


class Sockets:
    """All sockets of this process."""

    def __init__(self, directory: Path, users: Path) -> None:
        """Take where they are.

        Args:
            directory: Of the shared socket; used only when nobody hands one over.
            users: Has one directory for each person.
        """
        self._directory = directory
        self._users = users
        self._listeners: dict[str, Listener] = {}
        self._accepted: Accepted | None = None

    def open(self, given: dict[str, socket.socket]) -> None:
        """Take the sockets handed over; the shared one is made if it was not. Raises OSError."""
        ensure_directory(self._users, mode=0o755)
        if SHARED not in given:
            given = {**given, SHARED: bind(self._directory / SHARED)}
        for name, listening in given.items():
            self._listeners[name] = Listener(name, listening)

    def accept(self, accepted: Accepted, sift: Sift) -> None:
        """Accept connections from now on, on these and on those to come; `sift` is for the shared socket."""
        self._accepted = accepted
        for name, item in self._listeners.items():
            item.accept(accepted, sift if name == SHARED else None)

    @property
    def shared(self) -> Path:
        """Where the shared socket is, which systemd may have made. There are sockets only after `open`."""
        return Path(self._listeners[SHARED].socket.getsockname())

    def path(self, uid: int) -> Path:
        """Where the socket of a person is, or would be."""
        return self._users / str(uid) / SHARED

    def ensure(self, uid: int) -> Path:
        """Return the socket of a person, which listens from now on. Raises OSError."""
        name = user_name(uid)
        if name not in self._listeners:
            self._listeners[name] = Listener(name, bind_user(self._users, uid))
            if self._accepted is not None:
                self._listeners[name].accept(self._accepted)
        return self.path(uid)

    def numbers(self) -> dict[str, int]:
        """The descriptors to hand over, by name."""
        return {name: item.socket.fileno() for name, item in self._listeners.items()}

    def stop(self) -> None:
        """Accept no more."""
        for item in self._listeners.values():
            item.stop()
        self._listeners.clear()
