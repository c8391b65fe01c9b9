"""A ledger that is missing or damaged: set aside and kept, then a new one from the newest backup, else an empty one.

Nothing is granted from it before it has been compared with what is running (`Transaction.require_verified`), so what a
backup does not know yet is never given away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ds01 import events
from ds01.files import ensure_directory
from ds01.locks import exclusive
from ds01.problems import ApplyError

from .backup import BACKUPS, check, newest_good
from .errors import LedgerBusyError, LedgerCorruptError, LedgerMissingError, from_os, typed
from .migrate import create
from .store import LEDGER, Ledger, connect, turn_path

_WAIT_S: Final = 30.0


@dataclass(frozen=True)
class Recovery:
    """What was done: why, where the damaged file is now, and which backup the new ledger is a copy of."""

    reason: str
    kept: Path | None
    restored: Path | None


def ensure(path: Path = LEDGER, directory: Path = BACKUPS, *, deep: bool = False) -> Recovery | None:
    """See that there is a good ledger, and make one where there is none. Returns what was done, or None.

    A full disk, a read-only file system or a busy ledger is no damage: nothing is set aside for those.

    Args:
        path: The ledger.
        directory: Its backups.
        deep: Look at every page, which takes a second for each few hundred megabytes.

    Raises:
        LedgerError: It can be neither read nor made now.
    """
    try:
        ensure_directory(path.parent, mode=0o755)
        with exclusive(path.with_suffix(".recovery"), _WAIT_S, "another recovery of the ledger runs: wait for it"):
            return _ensure(path, directory, deep=deep)
    except ApplyError as error:
        raise LedgerBusyError(str(error)) from error
    except OSError as error:
        raise from_os(error, path) from error


def _ensure(path: Path, directory: Path, *, deep: bool) -> Recovery | None:
    try:
        _probe(path, deep=deep)
    except LedgerMissingError as error:
        reason = str(error)
        traces = (turn_path(path), *(path.with_name(path.name + end) for end in ("-wal", "-shm")))
        first = not any(trace.exists() for trace in traces)
    except LedgerCorruptError as error:
        reason, first = str(error), False
    else:
        return None
    kept = _set_aside(path)
    restored = newest_good(directory)
    if restored is not None:
        _restore(restored, path)
    else:
        create(path)
    done = Recovery(reason, kept, restored)
    # The first ledger of a host is no incident.
    if not first or restored is not None:
        _announce(path, done)
    return done


def _probe(path: Path, *, deep: bool) -> None:
    with Ledger(path) as ledger, ledger.read() as view:
        view.value("SELECT count(*) FROM leases JOIN claims USING (token) WHERE leases.state <> 'released'")
    if deep:
        check(path)


def _set_aside(path: Path) -> Path | None:
    """Rename the database and what belongs to it. Who has it open notices before and after each change."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.damaged.{stamp}")
    # The database first: a log without its database is nobody's, a database without its log would lose changes.
    for end in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(kept.with_name(kept.name + end))
    return kept if kept.exists() else None


def _restore(backup: Path, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}.restored")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target, backup.open("rb") as source:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        with contextlib.closing(connect(partial, _WAIT_S)) as connection:
            said = f"restored from the backup {backup.name}"
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('unverified', ?)", (said,))
        partial.rename(path)
    except sqlite3.Error as error:
        raise typed(error, path) from error
    finally:
        for left in partial.parent.glob(f"{partial.name}*"):
            left.unlink()


def _announce(path: Path, done: Recovery) -> None:
    backup = done.restored
    source = f"restored from the backup {backup.name}" if backup else "begun anew, as there is no good backup"
    events.record(
        "health.fail",
        actor=events.this_process("recovery"),
        subject={"kind": "ledger", "name": str(path)},
        decision="changed",
        rule="ledger",
        reason=f"{done.reason}. It was {source}. Nothing was stopped; what is running is compared next.",
        fix="Requests that waited and holds after a stop may be lost: people ask again."
        + (f" The damaged file is {done.kept}." if done.kept else ""),
    )
