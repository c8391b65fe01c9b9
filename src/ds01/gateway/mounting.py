"""System calls that Python has no functions for: paths opened with somebody's own rights, and mounts made of them.

Everything here belongs into a thread of its own kind (`workers`): it may wait for a disk, and it changes who the
calling thread is.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

NOSUID: Final = 0x2
NODEV: Final = 0x4
READ_ONLY: Final = 0x1
"""Attributes of a mount, as in linux/mount.h (MOUNT_ATTR_*)."""
_IDMAP: Final = 0x00100000
_PRIVATE: Final = 1 << 18
_SAFE: Final = 0x2 | 0x4 | 0x8
"""Flags of mount(2): nosuid, nodev, noexec."""
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1
_MOVE_FROM_FD: Final = 4
_DETACH: Final = 2
_EXCHANGE: Final = 2
_NO_MAGIC_LINKS: Final = 0x02
_NO_LINKS: Final = 0x04
_USER_NAMESPACE_S: Final = 5.0

# The same on every architecture since 5.1; setgroups is older. glibc's own setgroups changes all threads.
_OPENAT2, _OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 437, 428, 429, 442
_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159}
_libc: Final = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


def see_host() -> None:
    """See that what is mounted here is mounted for the engine too.

    Raises:
        OSError: The service has mounts of its own; the engine would bind the empty places where ours are.
    """
    if Path("/proc/1/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink():
        raise OSError(errno.EXDEV, "the service is not in the mount namespace of the host")


@contextlib.contextmanager
def acting_as(uid: int, gid: int, gids: Collection[int]) -> Iterator[None]:
    """Have somebody's rights to files, no more and no fewer, in this thread alone.

    Raises:
        OSError: Not root.
    """
    before = os.getgroups()
    try:
        _set_groups(gids)
        _file_ids(uid, gid)
        yield
    finally:
        _file_ids(os.geteuid(), os.getegid())
        _set_groups(before)


def open_path(path: str, *, links: bool = True, below: int = _AT_FDCWD) -> int:
    """Return a descriptor that stands for whatever is there now, without opening it. Raises OSError.

    Args:
        path: From / on, or from `below` on.
        links: Whether it may lead through symbolic links. Those of /proc are never followed.
        below: Descriptor of a directory.
    """
    how = _How(os.O_PATH | os.O_CLOEXEC, 0, _NO_MAGIC_LINKS if links else _NO_MAGIC_LINKS | _NO_LINKS)
    return _done(_libc.syscall(_OPENAT2, below, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)), path)


def attach(found: int, place: Path, attributes: int, mapping: int | None = None) -> None:
    """Mount what a descriptor stands for, without what is mounted below it, in a place.

    Args:
        found: From `open_path`.
        place: An empty directory or file, as what is mounted there.
        attributes: Such as NOSUID.
        mapping: A user namespace through which owners of files are seen.

    Raises:
        OSError: The kernel or the file system cannot.
    """
    tree = _done(_libc.syscall(_OPEN_TREE, found, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH), str(place))
    try:
        wanted = _Attributes(attributes | (_IDMAP if mapping is not None else 0), 0, _PRIVATE, mapping or 0)
        _done(
            _libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), ctypes.sizeof(wanted)),
            str(place),
        )
        _done(_libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(place), _MOVE_FROM_FD), str(place))
    finally:
        os.close(tree)


def memory_file_system(place: Path) -> None:
    """Mount a small file system in memory that only root can enter and that no other mount namespace follows."""
    options = b"mode=0700,size=1m"
    _done(_libc.mount(b"ds01-binds", os.fsencode(place), b"tmpfs", _SAFE, options), str(place))
    _done(_libc.mount(b"none", os.fsencode(place), None, _PRIVATE, None), str(place))


def detach(place: Path) -> None:
    """Unmount everything in a place. Raises OSError."""
    while True:
        try:
            _done(_libc.umount2(os.fsencode(place), _DETACH), str(place))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # Nothing is mounted there any more.
            return


def exchange(one: Path, other: Path) -> None:
    """Let two directories change places, at one instant. Raises OSError."""
    _done(_libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE), str(one))


@contextlib.contextmanager
def user_namespace(uids: Mapping[int, int], gids: Mapping[int, int]) -> Iterator[int]:
    """Give a descriptor of a user namespace in which only these ids of files exist.

    Args:
        uids: User on the disk -> user that a container sees.
        gids: The same for groups.

    Raises:
        OSError: The kernel does not allow it.
    """
    holder = subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        namespace = Path(f"/proc/{holder.pid}/ns/user")
        ours = Path("/proc/self/ns/user").readlink()
        end = time.monotonic() + _USER_NAMESPACE_S
        while namespace.readlink() == ours:
            if time.monotonic() > end:
                raise TimeoutError(f"unshare made no user namespace within {_USER_NAMESPACE_S:.0f} s")
            time.sleep(0.001)
        for name, ids in (("uid_map", uids), ("gid_map", gids)):
            lines = "".join(f"{disk} {seen} 1\n" for disk, seen in sorted(ids.items()))
            Path(f"/proc/{holder.pid}/{name}").write_text(lines)
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        holder.kill()
        holder.communicate()


def _file_ids(uid: int, gid: int) -> None:
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    # Neither says whether it worked; asked for nonsense, both answer what holds.
    if (_libc.setfsuid(-1) & 0xFFFFFFFF, _libc.setfsgid(-1) & 0xFFFFFFFF) != (uid, gid):
        raise PermissionError(errno.EPERM, f"cannot act as uid {uid}")


def _set_groups(gids: Collection[int]) -> None:
    array = (ctypes.c_uint32 * len(gids))(*gids)
    _done(_libc.syscall(_SETGROUPS[platform.machine()], len(gids), array))


def _done(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
