"""What of the host somebody may have in a container, found with their own rights and judged as it was found.

Root in a container is root on what is bound into it. Two classes are offered, and nothing else:

- **One's own**: a directory or file that belongs to its owner, where set-uid bits and devices mean nothing (nosuid and
  nodev). Root in the container does there as it likes, and can make nothing that is of use on the host.
- **Shared**: what belongs to others, to read. The kernel shows it through a mapping of ids in which only the owner
  exists, so nobody in the container, root included, reads more there than its owner could without a container.
  The two files by which compose files give a container the server's clock (`_CLOCK`) need none: all may read them.

What is judged is not a path but the object that a descriptor stands for; `pins` gives that very object to the engine.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ds01.gateway import mounting
from ds01.gateway.people import Person
from ds01.gateway.refusals import Refused

PRIVATE_TMP: Final = Path("/tmp/.ds01-private")  # noqa: S108 - only root makes something there
_SOCKETS: Final = frozenset({"/var/run/docker.sock", "/run/docker.sock"})
_CLOSED: Final = tuple(
    Path(name)
    for name in ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var")
)
_CLOCK: Final = frozenset({"/etc/localtime", "/etc/timezone"})
_ZONES: Final = Path("/usr/share/zoneinfo")
_FLAGS: Final = os.ST_NOSUID | os.ST_NODEV
_KINDS: Final = (stat.S_ISDIR, stat.S_ISREG)
_ROOT_INSIDE: Final = frozenset({"", "0", "root"})


@dataclass(frozen=True, slots=True)
class Wish:
    """A bind as its owner wrote it."""

    source: str
    make: bool = False
    """Make the directory if there is none, as `docker -v` does."""

    def is_socket(self, own: Path) -> bool:
        """Whether it is the engine's socket that is wished for; everybody gets their own."""
        return self.source in {*_SOCKETS, str(own)}


@dataclass(frozen=True, slots=True)
class Found:
    """What a wish led to."""

    descriptor: int
    directory: bool
    attributes: int
    """Of the mount that the container gets."""
    uids: dict[int, int] | None = None
    """User on the disk -> user in the container, when nobody else shall exist there; None shows all as they are."""
    gids: dict[int, int] | None = None

    @property
    def shared(self) -> bool:
        """Whether it is somebody else's, and only read."""
        return bool(self.attributes & mounting.READ_ONLY)


def glance(wish: Wish, socket: Path) -> None:
    """Refuse what is the server's by its name alone, before anything is made for the container. Raises Refused."""
    if not wish.is_socket(socket) and wish.source not in _CLOCK:
        _see_open(wish.source, Path(os.path.normpath(wish.source)))


@contextlib.contextmanager
def found(wish: Wish, person: Person, user: str, socket: Path) -> Iterator[Found]:
    """Give what somebody wishes to bind, if they may. Looks at file systems, which may take its time.

    Args:
        wish: What they wrote.
        person: Who.
        user: Whom the container runs as (`User` of the API).
        socket: Their own socket of the engine.

    Raises:
        Refused: They may not.
    """
    source = wish.source
    if not source.startswith("/") or "\n" in source:
        raise refused(source, "it is not a whole path", "write it from / on")
    is_socket = wish.is_socket(socket)
    descriptor = _open_socket(socket) if is_socket else _open(wish, person)
    try:
        yield _socket(source, descriptor) if is_socket else _judged(source, descriptor, person, user)
    finally:
        os.close(descriptor)


def _open_socket(socket: Path) -> int:
    try:
        # Not through a link; `_socket` sees that it is one of root's.
        return mounting.open_path(str(socket), links=False)
    except OSError as error:
        raise refused(str(socket), "it is not there", "start the container once more") from error


def _socket(source: str, descriptor: int) -> Found:
    seen = os.fstat(descriptor)
    if not stat.S_ISSOCK(seen.st_mode) or seen.st_uid != 0:
        raise refused(source, "somebody put something else in its place", "tell the administrator")
    return Found(descriptor, directory=False, attributes=mounting.NOSUID | mounting.NODEV)


def _open(wish: Wish, person: Person) -> int:
    with _beginning(wish.source, person) as (below, path), mounting.acting_as(person.uid, person.gid, person.gids):
        try:
            try:
                return mounting.open_path(path, below=below)
            except FileNotFoundError:
                if wish.source in _CLOCK:
                    raise refused(wish.source, "this server has no such file", "leave it out") from None
                if not wish.make:
                    raise
                Path(f"/proc/thread-self/fd/{below}", path).mkdir(mode=0o755, parents=True, exist_ok=True)
                return mounting.open_path(path, below=below)
        except OSError as error:
            reason = f"it cannot be looked at ({error.strerror})"
            raise refused(wish.source, reason, "make the directory first: mkdir -p") from error


@contextlib.contextmanager
def _beginning(source: str, person: Person) -> Iterator[tuple[int, str]]:
    """Give where a path begins for its owner, as a descriptor, and the path from there on.

    In place of /tmp people's logins have directories of their own (role privacy), if they ever logged in.
    """
    path = Path(source)
    own = PRIVATE_TMP / person.name
    private = path.is_relative_to(PRIVATE_TMP.parent) and ".." not in path.parts and own.is_dir()
    # Only root makes something beside it, so that this is the directory which its name says.
    below = mounting.open_path(str(own if private else "/"), links=False)
    try:
        yield below, str(path.relative_to(PRIVATE_TMP.parent)) if private else source
    finally:
        os.close(below)


def _judged(source: str, descriptor: int, person: Person, user: str) -> Found:
    real = Path(f"/proc/thread-self/fd/{descriptor}").readlink()
    seen = os.fstat(descriptor)
    if source in _CLOCK and (str(real) in _CLOCK or real.is_relative_to(_ZONES)) and _is_everybodys(seen):
        return Found(descriptor, directory=False, attributes=mounting.NOSUID | mounting.NODEV | mounting.READ_ONLY)
    _see_open(source, real)
    if not any(kind(seen.st_mode) for kind in _KINDS):
        raise refused(source, "it is neither a directory nor a file", "bind a directory")
    attributes = mounting.NOSUID | mounting.NODEV
    directory = stat.S_ISDIR(seen.st_mode)
    if seen.st_uid == person.uid:
        if os.fstatvfs(descriptor).f_flag & _FLAGS != _FLAGS:
            raise refused(source, "its file system is not mounted nosuid,nodev", "tell the administrator")
        return Found(descriptor, directory, attributes)
    attributes |= mounting.READ_ONLY
    if user.partition(":")[0] in _ROOT_INSIDE:
        # Root in the container is its owner there, and in the group that it is shared with.
        group = seen.st_gid if seen.st_gid in person.gids else person.gid
        return Found(descriptor, directory, attributes, {person.uid: 0}, {group: 0})
    gids = {gid: gid for gid in {*person.gids, person.gid} if gid != 0}
    return Found(descriptor, directory, attributes, {person.uid: person.uid}, gids)


def _is_everybodys(seen: os.stat_result) -> bool:
    """Whether it is a file of root's that all may read and nobody else may change."""
    changed_by_others = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return (
        stat.S_ISREG(seen.st_mode) and seen.st_uid == 0 and not changed_by_others and bool(seen.st_mode & stat.S_IROTH)
    )


def _see_open(source: str, path: Path) -> None:
    if path == Path("/") or any(path.is_relative_to(closed) for closed in _CLOSED):
        raise refused(source, "it belongs to the server", "bind a directory below your home")


def refused(source: str, reason: str, fix: str) -> Refused:
    """Say why a source cannot be bound."""
    return Refused(403, f"{source[:200]} cannot be bound into a container: {reason}", "bind.source", fix)
