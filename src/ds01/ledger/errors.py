"""What can go wrong with the ledger: each is one sentence with its fix, and none means that something was granted."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from ds01.problems import ReportedError


class LedgerError(ReportedError):
    """The ledger could not do it; nothing was changed."""


class LedgerBusyError(LedgerError):
    """Others hold the ledger, or a statement ran, beyond the deadline."""


class LedgerFullError(LedgerError):
    """No space is left where the ledger is."""


class LedgerReadOnlyError(LedgerError):
    """The ledger or its file system cannot be written."""


class LedgerMissingError(LedgerError):
    """There is no ledger, or it was replaced while it was open."""


class LedgerCorruptError(LedgerError):
    """The file is not a ledger, or is damaged."""


class LedgerVersionError(LedgerError):
    """The ledger was written by a later version of DS01."""


class LedgerNotReadyError(LedgerError):
    """The ledger is new or restored and has not yet been compared with the engine and the GPUs."""


class LedgerConflictError(LedgerError):
    """A rule of the ledger forbids it: a device with a lease, a transition that is not legal, an unknown token."""


class DeviceTakenError(LedgerConflictError):
    """The device has a lease already."""


_RECONCILE: Final = "`ds01 enforce reconcile` sets it aside, keeps it, and makes a new one from what is running"
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT})
_READ_ONLY: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_CORRUPT: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_SCHEMA})


def typed(error: sqlite3.Error, path: Path) -> LedgerError:
    """Return what SQLite said as one of the errors above."""
    # Only the low byte is the kind: the rest says where it happened.
    code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
    if isinstance(error, sqlite3.IntegrityError) or code == sqlite3.SQLITE_CONSTRAINT:
        return LedgerConflictError(f"{path}: {error}")
    if code in _BUSY:
        return LedgerBusyError(
            f"{path}: held by others beyond the deadline: try again; `fuser -v {path}` shows by whom"
        )
    if code == sqlite3.SQLITE_FULL:
        return LedgerFullError(
            f"{path}: no space left on its file system: free some; `df {path.parent}` shows how much"
        )
    if code in _READ_ONLY:
        return LedgerReadOnlyError(f"{path}: cannot be written ({error}): remount its file system read-write")
    if code in _CORRUPT:
        return damaged(path, str(error))
    if code == sqlite3.SQLITE_CANTOPEN:
        if os.path.lexists(path):
            # SQLite says this of its log, too. What is there must never be taken for lost.
            fix = f"`df -i {path.parent}` shows whether a file can be made there, `ls -l` whose it is"
            return LedgerError(f"{path}: it, or its log beside it, cannot be opened: {fix}")
        return LedgerMissingError(f"{path}: cannot be opened: {_RECONCILE}")
    if code == sqlite3.SQLITE_IOERR:
        return LedgerError(f"{path}: {error}: `dmesg` and `df {path.parent}` show what is wrong with its disk")
    return LedgerError(f"{path}: {error}")


def from_os(error: OSError, path: Path) -> LedgerError:
    """Return what the file system said as one of the errors above."""
    text = f"{path}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LedgerFullError(f"{text}: free space on its file system: `df {path.parent}` shows how much there is")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return LedgerReadOnlyError(f"{text}: the ledger is root's, on a file system that can be written")
    if error.errno == errno.ENOENT:
        return missing(path)
    return LedgerError(text)


def missing(path: Path) -> LedgerMissingError:
    """Return the error for a ledger that is not there."""
    return LedgerMissingError(f"{path}: there is no ledger: `ds01 enforce reconcile` makes it from what is running")


def replaced(path: Path) -> LedgerMissingError:
    """Return the error for a ledger whose file was removed or replaced while it was open."""
    return LedgerMissingError(f"{path}: was removed or replaced meanwhile: try again")


def damaged(path: Path, how: str) -> LedgerCorruptError:
    """Return the error for a ledger whose content cannot be right."""
    return LedgerCorruptError(f"{path}: damaged ({how}): {_RECONCILE}")


def not_a_ledger(path: Path) -> LedgerCorruptError:
    """Return the error for a file that something else wrote, or that is empty."""
    return LedgerCorruptError(f"{path}: not a ledger of DS01: {_RECONCILE}")
