"""Our block of keys in a person's authorized_keys; keys outside it are the person's own and stay."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from .identity import DIRECTORY_FLAGS, UnsafeError, acting_as
from .spec import key_fault

BEGIN: Final = "# BEGIN DS01 keys: replaced by the administrator's list; put your own keys outside these two lines"
END: Final = "# END DS01 keys"
_BEGIN_MARK: Final = "# BEGIN DS01 keys"
FILE: Final = "authorized_keys"
ASIDE: Final = "authorized_keys.ds01-disabled"
"""Name of the file while its owner is off-boarded: sshd does not read it."""
SIZE_MAX: Final = 1 << 20
"""Bytes. A larger file is no list of keys; reading it would only cost memory."""


def merge(old: str, keys: Sequence[str]) -> str:
    """Return the text with our block holding exactly these keys; without keys there is no block.

    Of a block whose end was deleted only the keys listed now are dropped: nobody can tell whose the other lines are.
    """
    kept: list[str] = []
    block: list[str] | None = None
    for line in old.splitlines():
        if line.startswith(_BEGIN_MARK):
            kept += _unclosed(block, keys)
            block = []
        elif line.startswith(END):
            block = None
        elif block is not None:
            block.append(line)
        else:
            kept.append(line)
    kept += _unclosed(block, keys)
    ours = [BEGIN, *keys, END] if keys else []
    lines = [*kept, *ours]
    return "\n".join(lines) + "\n" if lines else ""


def block(text: str) -> list[str]:
    """Return the keys of our block."""
    lines = text.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith(_BEGIN_MARK)), len(lines))
    end = next((number for number, line in enumerate(lines) if number > begin and line.startswith(END)), len(lines))
    return [line for line in lines[begin + 1 : end] if key_fault(line) is None]


def read(home: int, uid: int, gid: int, name: str = FILE) -> str | None:
    """Read authorized_keys below an open home, with the person's own rights.

    Args:
        home: Descriptor of the home.
        uid: The person's uid.
        gid: The person's gid.
        name: The file below ~/.ssh.

    Returns:
        The text, or None where the file or its directory is missing.

    Raises:
        UnsafeError: A link, a pipe, somebody else's file or the like is in its place.
        OSError: The file could not be read.
    """
    with acting_as(uid, gid):
        try:
            directory = _open_ssh(home, uid)
        except FileNotFoundError:
            return None
        try:
            return _read_file(directory, uid, name)
        finally:
            os.close(directory)


def require_writable(home: int, uid: int, gid: int) -> None:
    """Find out beforehand whether `write` has the rights it needs.

    Raises:
        UnsafeError: The person took them away, or as for `read`.
    """
    with acting_as(uid, gid):
        try:
            directory = _open_ssh(home, uid)
        except FileNotFoundError:
            return
        try:
            if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
                raise UnsafeError("~/.ssh cannot be written with its owner's rights")
        finally:
            os.close(directory)


def write(home: int, uid: int, gid: int, text: str) -> None:
    """Replace authorized_keys below an open home, with the person's own rights: the old file or the new one stays.

    Raises:
        UnsafeError: As for `read`, or the person's own rights or quota do not allow it; the old file is untouched.
        OSError: The host could not write; the old file is untouched.
    """
    with _their_own_doing(), acting_as(uid, gid):
        with contextlib.suppress(FileExistsError):
            os.mkdir(".ssh", 0o700, dir_fd=home)
        directory = _open_ssh(home, uid)
        try:
            if os.fstat(directory).st_mode & 0o077:
                os.fchmod(directory, 0o700)
            # What is there now is looked at again: it may have changed since it was read.
            _read_file(directory, uid, FILE)
            _replace(directory, text)
        finally:
            os.close(directory)


def set_aside(home: int, uid: int, gid: int) -> bool:
    """Rename authorized_keys so that sshd finds no key; say whether there was one."""
    return _rename(home, uid, gid, FILE, ASIDE)


def bring_back(home: int, uid: int, gid: int) -> bool:
    """Undo `set_aside`; say whether there was something to bring back."""
    return _rename(home, uid, gid, ASIDE, FILE)


@contextlib.contextmanager
def _their_own_doing() -> Iterator[None]:
    """Tell what a person can bring about (a full quota, a directory without the right to write) from faults."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.EDQUOT}:
            raise
        raise UnsafeError(f"~/.ssh cannot be written with its owner's rights ({error.strerror})") from error


def _rename(home: int, uid: int, gid: int, old: str, new: str) -> bool:
    with _their_own_doing(), acting_as(uid, gid):
        try:
            directory = _open_ssh(home, uid)
        except FileNotFoundError:
            return False
        try:
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)
        except FileNotFoundError:
            return False
        finally:
            os.close(directory)
    return True


def _unclosed(block: list[str] | None, keys: Sequence[str]) -> list[str]:
    return [line for line in block or [] if line not in keys]


def _open_ssh(home: int, uid: int) -> int:
    try:
        directory = os.open(".ssh", DIRECTORY_FLAGS, dir_fd=home)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UnsafeError(f"~/.ssh is not a directory that its owner can open ({error.strerror})") from error
    owner = os.fstat(directory).st_uid
    if owner != uid:
        os.close(directory)
        raise UnsafeError(f"~/.ssh belongs to uid {owner}, not to {uid}")
    return directory


def _read_file(directory: int, uid: int, name: str) -> str | None:
    try:
        # Without O_NONBLOCK a pipe laid here would hold up the whole run.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnsafeError(f"~/.ssh/{name} is not a file that its owner can open ({error.strerror})") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
            raise UnsafeError(f"~/.ssh/{name} is not a regular file of its owner")
        if found.st_size > SIZE_MAX:
            raise UnsafeError(f"~/.ssh/{name} is larger than {SIZE_MAX} bytes")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(SIZE_MAX).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)


def _replace(directory: int, text: str) -> None:
    temporary = f".{FILE}.{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8", "surrogateescape"))
            stream.flush()
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        os.rename(temporary, FILE, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
