"""Change files so that an interruption, a full disk or a strict umask never leaves half a file behind.

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import stat
from pathlib import Path
from typing import Final

TEMP_SUFFIX: Final = ".ds01-tmp"
"""End of the name of every temporary file made here: what a killed run leaves can be found and removed by it."""

_NAME_PART: Final = 200
"""Characters of the target's name in that of its temporary file, which may have 255 bytes."""


def atomic_write(
    path: str | Path,
    data: str | bytes,
    *,
    mode: int,
    uid: int | None = None,
    gid: int | None = None,
) -> bool:
    """Make `path` a regular file with exactly this content, mode and owner.

    The content goes to a new file beside the target, is synced and renamed over it: a reader sees the old
    content or the new one. The mode does not depend on the umask. A symbolic link at `path` is replaced, not followed.

    Args:
        path: The file. Its directory must exist.
        data: The whole content; text is stored as UTF-8.
        mode: Permission bits.
        uid: Owner; None keeps the owner of an existing file, else the process's.
        gid: Group; None keeps the group of an existing file, else the process's.

    Returns:
        True if anything was changed.

    Raises:
        OSError: It could not be written (no space, no permission, `path` is a directory). The old file is untouched.
    """
    target = Path(path)
    content = data.encode() if isinstance(data, str) else data
    before = _lstat(target)
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if before is not None and stat.S_ISREG(before.st_mode):
        uid = before.st_uid if uid is None else uid
        gid = before.st_gid if gid is None else gid
        if before.st_size == len(content) and _read(target) == content:
            return _set_attributes(target, before, mode, uid, gid)
    try:
        _replace(target, content, mode, uid, gid)
    except OSError as error:
        # People know the file, not what was beside it for a moment.
        error.filename, error.filename2 = str(target), None
        raise
    return True


def read_exactly(path: str | Path) -> str | None:
    """Return what a file says, to compare it with what it should say; None if it is missing.

    Exactly: a file that somebody saved with other line ends or in another encoding has another text.

    Raises:
        OSError: It cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def ensure_directory(path: str | Path, *, mode: int, uid: int | None = None, gid: int | None = None) -> bool:
    """Make `path` a directory with this mode and owner; missing parents are made 0755.

    Args:
        path: The directory. A symbolic link in its place is refused.
        mode: Permission bits, independent of the umask.
        uid: Owner; None leaves it.
        gid: Group; None leaves it.

    Returns:
        True if anything was changed.

    Raises:
        NotADirectoryError: Something else, or a symbolic link, is there.
        OSError: It could not be made or changed.
    """
    target = Path(path)
    created = False
    before = _lstat(target)
    if before is None:
        if _lstat(target.parent) is None:
            ensure_directory(target.parent, mode=0o755)
        # Another run may make it at the same moment.
        with contextlib.suppress(FileExistsError):
            target.mkdir(mode=0o700)
            created = True
        before = target.lstat()
    if not stat.S_ISDIR(before.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(target))
    uid = before.st_uid if uid is None else uid
    gid = before.st_gid if gid is None else gid
    return _set_attributes(target, before, mode, uid, gid) or created


def remove_file(path: str | Path) -> bool:
    """Remove a file or symbolic link, and what killed writes of it left beside it.

    Returns:
        True if there was one.

    Raises:
        OSError: It is a directory, or may not be removed.
    """
    target = Path(path)
    for left in target.parent.glob(f".{glob.escape(target.name[:_NAME_PART])}.{'[0-9a-f]' * 16}{TEMP_SUFFIX}"):
        left.unlink(missing_ok=True)
    try:
        target.unlink()
    except FileNotFoundError:
        return False
    _sync_directory(target.parent)
    return True


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _set_attributes(path: Path, before: os.stat_result, mode: int, uid: int, gid: int) -> bool:
    changed = False
    if (before.st_uid, before.st_gid) != (uid, gid):
        os.chown(path, uid, gid, follow_symlinks=False)
        changed = True
    if changed or stat.S_IMODE(before.st_mode) != mode:
        path.chmod(mode)
        return True
    return False


def _replace(target: Path, content: bytes, mode: int, uid: int | None, gid: int | None) -> None:
    # A fresh, unguessable name opened exclusively: in a directory of a user nobody can have put a link in its place.
    temporary = target.parent / f".{target.name[:_NAME_PART]}.{os.urandom(8).hex()}{TEMP_SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            if uid is not None or gid is not None:
                os.fchown(descriptor, -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        temporary.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot sync a directory; the rename itself has happened.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
