"""Home and scratch directories: made whole or not at all, never through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .identity import UnsafeError, open_owned_directory

SKEL: Final = Path("/etc/skel")
PRIVATE: Final = 0o700
STAGING_PREFIX: Final = ".ds01-new-"
"""Begins the name of a home that is being made; what an interrupted run leaves is known by it and removed."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is at the place of a person's directory."""

    state: Literal["absent", "private", "open", "unsafe"]
    detail: str = ""
    uid: int | None = None
    """Owner, where something is there."""


def look(path: str, uid: int) -> Found:
    """Look at a home or scratch directory.

    Returns:
        `private` for a directory of this uid with mode 0700, `open` for one with another mode, `unsafe` with the
        reason for anything that is not this uid's directory.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return Found("absent")
    except OSError as error:
        return Found("unsafe", f"{path} cannot be looked at ({error.strerror})")
    try:
        descriptor = open_owned_directory(path, uid)
    except (UnsafeError, OSError) as error:
        return Found("unsafe", str(error), found.st_uid)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    return Found("private" if mode == PRIVATE else "open", f"{mode:04o}", uid)


def make_private(path: str, uid: int, gid: int) -> None:
    """Give a person's directory mode 0700 and the person's group.

    Raises:
        UnsafeError: It is not that person's directory.
        OSError: The mode could not be set.
    """
    descriptor = open_owned_directory(path, uid)
    try:
        os.fchown(descriptor, -1, gid)
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def make_home(path: str, uid: int, gid: int, keys_text: str | None, *, skel: Path = SKEL) -> None:
    """Make a home from the skeleton, with its ssh keys, under another name, and rename it when it is whole.

    Args:
        path: Where it will be.
        uid: Its owner.
        gid: Its group.
        keys_text: The content of authorized_keys, or None.
        skel: The skeleton; links in it are copied as links.

    Raises:
        OSError: It could not be made (no space, no permission); nothing is left of it.
    """
    target = Path(path)
    _ensure_parents(target.parent)
    staged = target.parent / f"{STAGING_PREFIX}{target.name[:200]}"
    _discard(staged)
    try:
        staged.mkdir(mode=PRIVATE)
        if skel.is_dir():
            shutil.copytree(skel, staged, symlinks=True, dirs_exist_ok=True)
        if keys_text:
            _add_keys(staged, keys_text)
        _give(staged, uid, gid)
        _rename_new(staged, target)
    except shutil.Error as error:
        _discard(staged)
        # One entry for each file that could not be copied: from, to, why.
        raise OSError(errno.EIO, str(error.args[0][0][2]), path) from error
    except BaseException:
        _discard(staged)
        raise


def make_directory(path: str, uid: int, gid: int) -> None:
    """Make an empty private directory, owned by a person from its first moment under this name.

    Raises:
        OSError: It could not be made; nothing is left of it.
    """
    target = Path(path)
    staged = target.parent / f"{STAGING_PREFIX}{target.name[:200]}"
    _discard(staged)
    try:
        staged.mkdir(mode=PRIVATE)
        staged.chmod(PRIVATE)
        os.chown(staged, uid, gid, follow_symlinks=False)
        staged.rename(target)
    except BaseException:
        _discard(staged)
        raise


def ensure_base(path: str, mode: int) -> bool:
    """Make the directory that holds people's directories, root's, if it is missing; say whether it was."""
    base = Path(path)
    if os.path.lexists(base):
        return False
    _ensure_parents(base.parent)
    base.mkdir(mode=mode)
    base.chmod(mode)
    return True


def remove_home(path: str, uid: int, gid: int) -> None:
    """Take away a home that this run made and that nobody has used; anything else stays."""
    with contextlib.suppress(OSError, UnsafeError):
        os.close(open_owned_directory(path, uid))
        if os.lstat(path).st_gid == gid:
            shutil.rmtree(path)


def sweep(base: str) -> list[str]:
    """Remove what an interrupted run left half made below a directory; return the names."""
    try:
        names = [path.name for path in Path(base).iterdir() if path.name.startswith(STAGING_PREFIX)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        _discard(Path(base) / name)
    return names


def _ensure_parents(path: Path) -> None:
    if not path.is_dir():
        _ensure_parents(path.parent)
        path.mkdir(mode=0o755)
        path.chmod(0o755)


def _add_keys(home: Path, text: str) -> None:
    directory = home / ".ssh"
    directory.mkdir(mode=PRIVATE, exist_ok=True)
    directory.chmod(PRIVATE)
    file = directory / "authorized_keys"
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)


def _give(top: Path, uid: int, gid: int) -> None:
    for directory, _, files, descriptor in os.fwalk(top, follow_symlinks=False):
        for name in files:
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)
        if Path(directory) != top:
            os.fchown(descriptor, uid, gid)
    # The top comes last: until then nobody but root is inside.
    os.chown(top, uid, gid, follow_symlinks=False)
    top.chmod(PRIVATE)


def _rename_new(staged: Path, target: Path) -> None:
    # rename(2) would silently replace an empty directory.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    staged.rename(target)


def _discard(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
