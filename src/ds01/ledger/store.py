"""Open the ledger, read it, change it: one transaction at a time, with a deadline, in the order of arrival.

Durability: WAL with `synchronous=NORMAL`. A killed process loses nothing; a power loss may lose the transactions since
the last checkpoint, never half of one. Such a loss cannot give a device to two: power loss ends every container as
well, and each start afterwards asks the ledger (docs/decisions).
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, TypeAlias, TypeVar

from .clock import Clock, Moment, system_clock
from .errors import (
    LedgerBusyError,
    LedgerError,
    LedgerNotReadyError,
    LedgerReadOnlyError,
    from_os,
    missing,
    not_a_ledger,
    replaced,
    typed,
)
from .migrate import bring_up_to_date, is_ledger
from .turn import Turn

LEDGER: Final = Path("/var/lib/ds01/ledger.db")
DEADLINE_S: Final = 5.0
"""Seconds a transaction may take, its wait included: what somebody at a terminal waits without wondering."""
JOB_DEADLINE_S: Final = 60.0
"""Likewise for a job that runs by itself: one that gave up on a slow disk would count as failed until its next time."""
_STEPS_BETWEEN_LOOKS: Final = 20_000
"""Virtual machine instructions of SQLite between two looks at the deadline: about a millisecond."""

Row = TypeVar("Row", bound=NamedTuple)
"""Named tuples, because frozen dataclasses take six times as long to make, and a decision makes many."""
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]


class View:
    """A consistent state of the ledger, to read."""

    def __init__(self, connection: sqlite3.Connection, path: Path, moment: Moment) -> None:
        """Read through this connection, at this moment."""
        self._connection = connection
        self._path = path
        self.moment: Final = moment

    @property
    def now(self) -> int:
        """UTC milliseconds at which this began."""
        return self.moment.wall_ms

    def rows(self, kind: type[Row], query: str, parameters: Parameters = ()) -> list[Row]:
        """Return the answer as values of `kind`, whose fields (two or more) are the columns, in any order."""
        cursor = self._run(query, parameters)
        names = [column[0] for column in cursor.description]
        in_order = itemgetter(*map(names.index, kind._fields))
        return [kind._make(in_order(row)) for row in self._all(cursor)]

    def row(self, kind: type[Row], query: str, parameters: Parameters = ()) -> Row | None:
        """Return the first row of the answer, or None."""
        found = self.rows(kind, query, parameters)
        return found[0] if found else None

    def value(self, query: str, parameters: Parameters = ()) -> Any:
        """Return the first column of the first row, or None."""
        found = self._all(self._run(query, parameters))
        return found[0][0] if found else None

    def _run(self, statement: str, parameters: Parameters) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise typed(error, self._path) from error

    def _all(self, cursor: sqlite3.Cursor) -> list[tuple[Any, ...]]:
        try:
            return cursor.fetchall()
        except sqlite3.Error as error:
            raise typed(error, self._path) from error


class Transaction(View):
    """A change of the ledger: whole when its block ends, or nothing."""

    def change(self, statement: str, parameters: Parameters = ()) -> int:
        """Run one statement and return how many rows it changed. Raises LedgerConflictError where a rule forbids it."""
        return self._run(statement, parameters).rowcount

    def insert(self, table: str, **values: Any) -> int:
        """Insert one row and return its number. `table` and the names are the caller's own, never input."""
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        cursor = self._run(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 - see above
        return int(cursor.lastrowid or 0)

    def require_verified(self) -> None:
        """Raise LedgerNotReadyError while nothing may be granted."""
        reason = self.value("SELECT value FROM meta WHERE key = 'unverified'")
        if reason is not None:
            raise LedgerNotReadyError(
                f"{self._path}: {reason}, and not yet compared with what is running: `ds01 enforce reconcile` does that"
            )

    def set_verified(self) -> None:
        """From now on devices may be granted."""
        self.change("DELETE FROM meta WHERE key = 'unverified'")

    def set_unverified(self, reason: str) -> None:
        """Let nothing be granted until the ledger has been compared with what is running."""
        self.change("INSERT OR REPLACE INTO meta VALUES ('unverified', ?)", (reason,))


class Ledger:
    """A connection to the ledger; for one thread. It is opened on first use, and again when the file was replaced."""

    def __init__(self, path: Path = LEDGER, *, clock: Clock = system_clock, deadline_s: float = DEADLINE_S) -> None:
        """Remember where it is.

        Args:
            path: The database. It must exist: `ds01.ledger.recovery` makes it.
            clock: What time it is.
            deadline_s: Seconds that a transaction may take, unless it says otherwise.
        """
        self.path: Final = path
        self._clock = clock
        self._deadline_s = deadline_s
        self._turn = Turn(turn_path(path))
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._deadline = 0.0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connection; the next use opens one again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def transaction(self, *, deadline_s: float | None = None, keep: bool = True) -> Iterator[Transaction]:
        """Change the ledger in the body of this block; an exception there undoes all of it.

        Args:
            deadline_s: Seconds that it may take; None: what the ledger was opened with.
            keep: False for a rehearsal, which is undone at its end.

        Raises:
            LedgerError: One of its kinds says why. Nothing was changed.
        """
        self._begin_deadline(deadline_s)
        # First, for the queue makes a file: beside what is no ledger, a name mistyped, it would be left behind.
        self._ready()
        with self._turn.taken(self._deadline):
            connection = self._ready()
            self._run(connection, "BEGIN IMMEDIATE")
            try:
                # Somebody may have removed the file while we waited: what is written to it now would be lost.
                self._check_identity()
                yield Transaction(connection, self.path, self._clock())
                self._run(connection, "COMMIT" if keep else "ROLLBACK")
            except BaseException:
                self._roll_back(connection)
                raise
            self._check_identity()

    @contextmanager
    def read(self) -> Iterator[View]:
        """Read one consistent state; neither waits for writers nor keeps them waiting.

        Raises:
            LedgerError: It cannot be read.
        """
        self._begin_deadline(None)
        connection = self._ready()
        self._run(connection, "BEGIN")
        try:
            yield View(connection, self.path, self._clock())
        finally:
            self._roll_back(connection)

    def checkpoint(self) -> None:
        """Bring what was committed to the database file, and that to the disk, as far as readers allow."""
        self._begin_deadline(None)
        self._run(self._ready(), "PRAGMA wal_checkpoint(PASSIVE)")

    def backup(self, target: Path) -> None:
        """Write a consistent copy to a file that does not exist yet, while others go on.

        Raises:
            LedgerError: It could not be read or written.
        """
        self._begin_deadline(None)
        connection = self._ready()
        # The whole at once: page by page it would begin again with each change that others make.
        try:
            with closing(sqlite3.connect(target)) as copy:
                connection.backup(copy)
        except sqlite3.Error as error:
            raise typed(error, target) from error

    def _begin_deadline(self, deadline_s: float | None) -> None:
        self._deadline = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None and identity(self.path) == self._identity:
            return self._connection
        self.close()
        found = identity(self.path)
        if found is None:
            raise missing(self.path)
        self._identity = found
        self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        connection = connect(self.path, self._left())
        try:
            bring_up_to_date(connection, self.path)
            connection.set_progress_handler(self._too_late, _STEPS_BETWEEN_LOOKS)
        except sqlite3.Error as error:
            connection.close()
            raise typed(error, self.path) from error
        except LedgerError:
            connection.close()
            raise
        return connection

    def _run(self, connection: sqlite3.Connection, statement: str) -> None:
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(self._left() * 1000)}")
            connection.execute(statement)
        except sqlite3.Error as error:
            raise typed(error, self.path) from error

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # Closing undoes it as well; the next use opens a new connection.
            self.close()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise LedgerBusyError(f"{self.path}: not done before the deadline: try again")
        return left

    def _too_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _check_identity(self) -> None:
        if identity(self.path) != self._identity:
            self.close()
            raise replaced(self.path)


def connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """Open an existing database with our settings.

    Raises:
        LedgerError: It cannot be opened.
    """
    if not os.access(path, os.W_OK) and path.exists():
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            fix = "`dmesg` says why, often a broken disk; then remount it read-write or reboot"
            raise LedgerReadOnlyError(f"{path}: {os.strerror(errno.EROFS)}: {fix}")
        raise LedgerReadOnlyError(f"{path}: {os.strerror(errno.EACCES)}: the ledger is root's; users ask the gateway")
    try:
        # No URI mode that creates: a file that somebody removed must be noticed, not replaced by an empty one.
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout_s, isolation_level=None
        )
    except sqlite3.Error as error:
        raise typed(error, path) from error
    try:
        ours = is_ledger(connection)
        # The settings would turn an empty file, or anybody's database, into something else.
        if ours:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        connection.close()
        raise typed(error, path) from error
    if not ours:
        connection.close()
        raise not_a_ledger(path)
    return connection


def turn_path(path: Path) -> Path:
    """Return the file that names the queue of writers of a ledger."""
    # Not `with_suffix`, which raises for what has no name: / and nothing at all.
    return path.parent / f"{path.stem}.turn"


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file is at a path now, or None. Raises LedgerError if that cannot be said."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os(error, path) from error
    return status.st_dev, status.st_ino
