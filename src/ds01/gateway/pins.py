"""Pins: places that only root reaches, where what was judged is mounted, so that nobody can put something else there.

The engine follows paths, at every start, at every restart of its own and whenever it copies files. A path through
somebody's home leads tomorrow where they let it lead. So the engine gets `<root>/<token>/<name>` instead, one directory
for each container, and what is mounted there was looked at as an object (`binds`), not as a path. They are made anew at
each start by its owner; a reboot takes them all, and then the engine starts nothing that had one, until its owner does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from ds01.gateway import mounting
from ds01.gateway.binds import Found, Wish, found, refused
from ds01.gateway.people import Person
from ds01.gateway.refusals import Refused

ROOT: Final = Path("/run/ds01/binds")
_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_NEW: Final = ".new"
_ABANDONED_S: Final = 600.0
"""Seconds after which pins of no container were left behind, and are not of one that is just being made."""


def new_token() -> str:
    """Return a name for the pins of one container."""
    return secrets.token_hex(8)


def token_of(source: str) -> tuple[str, str] | None:
    """Return token and name of a place that the engine was given; None for any other path."""
    parts = Path(source).relative_to(ROOT).parts if source.startswith(f"{ROOT}/") else ()
    return (parts[0], parts[1]) if len(parts) == 2 and _TOKEN.fullmatch(parts[0]) else None  # noqa: PLR2004 - both


def place(token: str, name: str) -> str:
    """Return what the engine is given for a bind."""
    return str(ROOT / token / name)


def pin(token: str, wishes: Mapping[str, Wish], person: Person, user: str, socket: Path) -> list[str]:
    """Make the pins of a container what its owner's paths lead to now: all of them at one instant, or none.

    Args:
        token: The container's.
        wishes: Name of each pin, and what its owner wrote.
        person: The owner.
        user: Whom the container runs as.
        socket: The owner's own socket of the engine.

    Returns:
        The names of those that belong to others, and are only read.

    Raises:
        Refused: One may not be bound, or cannot.
    """
    with contextlib.ExitStack() as stack:
        # What may take long comes first: a hanging file system must not keep the others waiting.
        sources = {
            name: stack.enter_context(found(wish, person, user, socket)) for name, wish in wishes.items()
        }  # fmt: skip
        with _turn():
            new, there = ROOT / f"{token}{_NEW}", ROOT / token
            _clear(new)
            new.mkdir(mode=0o700)
            try:
                for name, source in sources.items():
                    _attach(wishes[name], source, new / name)
                if there.exists():
                    mounting.exchange(new, there)
                else:
                    new.rename(there)
            finally:
                _clear(new)
        return [name for name, source in sources.items() if source.shared]


def exists(token: str) -> bool:
    """Whether a container has its pins; after a reboot it has none."""
    return (ROOT / token).exists()


def release(token: str) -> None:
    """Let go of what a container had, when it is gone. Raises OSError."""
    if not _TOKEN.fullmatch(token):
        return
    with _turn():
        _clear(ROOT / token)


def sweep(tokens: Collection[str]) -> None:
    """Let go of what no container has: a gateway ended between the pins and the container. Raises OSError."""
    with _turn():
        for left in sorted(ROOT.iterdir()):
            if left.is_dir() and left.name not in tokens and time.time() - left.stat().st_mtime > _ABANDONED_S:
                _clear(left)


def is_own(source: str, person: Person, *, fixed: bool = False) -> bool:
    """Whether a path leads to what is somebody's own: for containers that were made without pins.

    Args:
        source: The path.
        person: Who.
        fixed: Whether it must be one that nobody but root could let lead somewhere else.
    """
    path = Path(source)
    with contextlib.suppress(OSError, RuntimeError, Refused), found(Wish(source), person, "", ROOT) as judged:
        return not judged.shared and (
            not fixed or (path.resolve() == path and all(_only_roots(parent) for parent in path.parents))
        )
    return False


def _only_roots(directory: Path) -> bool:
    seen = directory.stat()
    return seen.st_uid == 0 and not seen.st_mode & 0o022


def _attach(wish: Wish, source: Found, target: Path) -> None:
    if source.directory:
        target.mkdir(mode=0o700)
    else:
        target.touch(mode=0o600)
    try:
        if source.uids is None or source.gids is None:
            mounting.attach(source.descriptor, target, source.attributes)
            return
        with mounting.user_namespace(source.uids, source.gids) as mapping:
            mounting.attach(source.descriptor, target, source.attributes, mapping)
    except OSError as error:
        reason = f"the kernel cannot mount it ({error.strerror})"
        if error.errno == errno.EINVAL and source.uids is not None:
            reason = "it is not yours, and its file system cannot show itself to one person only"
        raise refused(wish.source, reason, "copy what you need to a directory of yours") from error


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One at a time, in this process and in one that drains."""
    ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file of its own: what people can open, they can lock, and with it everybody's binds.
    lock = os.open(ROOT.with_name("binds.lock"), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        mounting.see_host()
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ROOT.is_mount():
            mounting.memory_file_system(ROOT)
        yield
    except OSError as error:
        # Fail closed: without pins nothing is bound.
        raise Refused(
            503, f"nothing can be bound into containers now: {error}", "bind.pins", "tell the administrator"
        ) from error
    finally:
        os.close(lock)


def _clear(directory: Path) -> None:
    """Remove pins. What is mounted is never looked into: a directory that is not empty stays."""
    if not directory.exists():
        return
    for entry in directory.iterdir():
        mounting.detach(entry)
        if entry.is_dir():
            entry.rmdir()
        else:
            entry.unlink()
    directory.rmdir()
