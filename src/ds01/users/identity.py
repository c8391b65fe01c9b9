"""Act as a person for a moment, and open directories that a person may have tampered with.

Root follows no link that a user could have laid: what lies below a home is opened with the user's own rights, so
a link to /etc/shadow opens what the user could open, which is nothing.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafeError(Exception):
    """Something below a person's control is not what it must be; the text says what."""


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Use the file-system rights of a person within the block, no more.

    Does nothing for a process that is not root: it has no other rights to take or give back.

    Args:
        uid: The person's uid.
        gid: The person's primary gid, the only group in force within the block.
    """
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    groups = os.getgroups()
    old_gid = os.getegid()
    os.setgroups([gid])
    os.setegid(gid)
    try:
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(old_gid)
        os.setgroups(groups)


def open_owned_directory(path: str, uid: int) -> int:
    """Open a home or scratch directory that must belong to a person.

    A link is followed only where root alone can have laid it: in a directory of root that nobody else may write.

    Returns:
        A descriptor; the caller closes it.

    Raises:
        UnsafeError: It is not a directory of that person.
        FileNotFoundError: It is not there.
    """
    parent_path, name = os.path.split(path.rstrip("/"))
    if not name:
        raise UnsafeError(f"{path} cannot be a person's directory")
    parent = os.open(parent_path or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = DIRECTORY_FLAGS
        found = os.lstat(name, dir_fd=parent)
        if stat.S_ISLNK(found.st_mode):
            above = os.fstat(parent)
            if found.st_uid != 0 or above.st_uid != 0 or above.st_mode & 0o022:
                raise UnsafeError(f"{path} is a link that root did not lay")
            flags &= ~os.O_NOFOLLOW
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except NotADirectoryError:
            raise UnsafeError(f"{path} is not a directory") from None
    finally:
        os.close(parent)
    owner = os.fstat(descriptor).st_uid
    if owner != uid:
        os.close(descriptor)
        raise UnsafeError(f"{path} belongs to uid {owner}, not to {uid}")
    return descriptor
