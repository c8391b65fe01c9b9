"""Copies of the ledger: one an hour, made while others go on, the last seven kept."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ds01.files import ensure_directory

from .errors import LedgerCorruptError, LedgerError, from_os, not_a_ledger, typed
from .migrate import is_ledger
from .schema import MIGRATIONS
from .store import Ledger

BACKUPS: Final = Path("/var/lib/ds01/ledger-backups")
KEPT: Final = 7
_GLOB: Final = "ledger-*.db"


def back_up(ledger: Ledger, directory: Path = BACKUPS) -> Path:
    """Make one more copy and remove the oldest beyond `KEPT`.

    Returns:
        The copy.

    Raises:
        LedgerError: It could not be made; no older copy was removed.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    target = directory / f"ledger-{stamp}.db"
    partial = directory / f".{target.name}.part"
    try:
        ensure_directory(directory, mode=0o700)
        for left in directory.glob(".ledger-*.part*"):
            left.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            ledger.backup(partial)
            check(partial)
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
        for old in backups(directory)[KEPT:]:
            old.unlink()
    except OSError as error:
        raise from_os(error, target) from error
    return target


def backups(directory: Path = BACKUPS) -> list[Path]:
    """Return the copies, newest first."""
    return sorted(directory.glob(_GLOB), reverse=True)


def check(path: Path) -> None:
    """Look through a whole database.

    Raises:
        LedgerCorruptError: It is damaged, or not a ledger.
        LedgerError: It cannot be read.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            ours = is_ledger(connection)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            state = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        raise typed(error, path) from error
    if not ours:
        raise not_a_ledger(path)
    if not 0 < version <= len(MIGRATIONS):
        raise LedgerCorruptError(f"{path}: of version {version}, which this DS01 does not know")
    if state != "ok" or broken:
        said = state if state != "ok" else f"a row of {broken[0]} belongs to nothing"
        raise LedgerCorruptError(f"{path}: damaged: {said}")


def newest_good(directory: Path = BACKUPS) -> Path | None:
    """Return the newest copy that is whole, or None."""
    for path in backups(directory):
        with contextlib.suppress(LedgerError):
            check(path)
            return path
    return None
