"""Make a new ledger, and bring an older one up to this version."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from .errors import LedgerVersionError, damaged, from_os, typed
from .schema import MIGRATIONS

APPLICATION_ID: Final = 0x44533031
"""The letters DS01: what `file` and we tell our database by."""


def create(path: Path) -> bool:
    """Make a ledger where there is none; whoever is first makes it. Returns whether it was made.

    Raises:
        LedgerError: It cannot be made here.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
            bring_up_to_date(connection, temporary)
            # Complete in its one file before it gets its name.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    except sqlite3.Error as error:
        raise typed(error, path) from error
    except OSError as error:
        raise from_os(error, path) from error
    finally:
        for left in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm"))):
            with contextlib.suppress(OSError):
                left.unlink()
    return True


def bring_up_to_date(connection: sqlite3.Connection, path: Path, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Apply the migrations that this database lacks, all or none, after a copy of it was put beside it.

    Raises:
        LedgerVersionError: It was written by a later version.
        LedgerCorruptError: It says that it has no version, and has tables.
        LedgerError: It could not be copied or changed.
    """
    if (version := _version(connection, path)) == len(migrations):
        return
    if version > len(migrations):
        raise LedgerVersionError(
            f"{path}: of version {version}, this DS01 knows {len(migrations)}: install the later DS01 again, or move "
            f"{path}* elsewhere: `ds01 enforce reconcile` begins with the newest copy that this DS01 knows"
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while we waited.
        version = _version(connection, path)
        if 0 < version < len(migrations):
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            _copy(path, path.with_name(f"{path.name}.before-version-{len(migrations)}.{stamp}"))
        for script in migrations[version:]:
            for statement in statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_ledger(connection: sqlite3.Connection) -> bool:
    """Whether a database is ours; the question changes no file. Raises sqlite3.Error for what is no database.

    Asked of SQLite, never of the file: when a process closes any other descriptor of a database, it loses the locks of
    all its connections to it (https://www.sqlite.org/howtocorrupt.html, 2.2); the next who leaves takes the log along.
    """
    return bool(connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID)


def statements(script: str) -> list[str]:
    """Return the statements of a script one by one: `executescript` would commit before the first."""
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version < 0 or (version == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone()):
        raise damaged(path, f"its version is {version}")
    return version


def _copy(path: Path, target: Path) -> None:
    """Copy what is committed, by a second connection: the first one is in the middle of its transaction."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
