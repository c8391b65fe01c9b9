"""The samples of the last two weeks, in a database of their own: losing it loses nothing that is owed to anybody."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ds01.files import atomic_write, ensure_directory
from ds01.monitor.model import Sample, from_json

HISTORY: Final = Path("/var/lib/ds01/monitor/samples.db")
LATEST: Final = Path("/run/ds01/monitor/latest.json")
"""The last sample, for whoever needs no more; root's alone, since it says what everybody does."""
KEPT_MS: Final = 14 * 86_400_000
_TRIM_EVERY: Final = 200
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS samples"
    " (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, boot TEXT NOT NULL, boot_ms INTEGER NOT NULL, body BLOB NOT NULL)"
)


class History:
    """Keeps a bounded number of samples, whatever the clock says."""

    def __init__(self, path: Path = HISTORY, *, rows_max: int = KEPT_MS // 15_000) -> None:
        """Open it, making it anew where it is missing or no database.

        Args:
            path: The database.
            rows_max: How many samples are kept.

        Raises:
            OSError: It cannot be made here.
        """
        ensure_directory(path.parent, mode=0o700)
        self._path = path
        self._rows_max = rows_max
        self._added = 0
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError:
            # Two weeks of samples are no reason to stay blind.
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            self._database = _open(path)

    def close(self) -> None:
        """Close it."""
        self._database.close()

    def add(self, sample: Sample) -> None:
        """Keep a sample; a full disk loses it, and no more. Raises sqlite3.Error."""
        body = zlib.compress(sample.to_json().encode("ascii"), 6)
        row = (sample.at, sample.boot, sample.boot_ms, body)
        self._database.execute("INSERT INTO samples (at, boot, boot_ms, body) VALUES (?, ?, ?, ?)", row)
        self._added += 1
        if self._added % _TRIM_EVERY == 1:
            # By number and not by time: a clock that was years ahead once must not keep or delete everything.
            self._database.execute(
                "DELETE FROM samples WHERE id <= (SELECT max(id) FROM samples) - ?", (self._rows_max,)
            )


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(_TABLE)
        database.execute("SELECT count(*) FROM samples WHERE id < 0").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def read_after(number: int, path: Path = HISTORY, *, at_most: int = 10_000) -> Iterator[tuple[int, Sample]]:
    """Yield the samples with a higher number than this, oldest first, each with its own; of more only the last.

    Raises:
        OSError: There is no history, or it cannot be read.
    """
    if not path.exists():
        raise FileNotFoundError(2, "no samples yet: is ds01-monitor.service running?", str(path))
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(
                # A history that was begun anew counts from one again.
                "SELECT id, body FROM samples, (SELECT max(id) AS newest FROM samples)"
                " WHERE id > iif(:after > newest, 0, :after) AND id > newest - :at_most ORDER BY id",
                {"after": number, "at_most": at_most},
            )
            for found, body in rows:
                # One of another version, after an upgrade, is a gap.
                with contextlib.suppress(ValueError, zlib.error):
                    yield found, from_json(zlib.decompress(body))
    except sqlite3.Error as error:
        raise OSError(5, f"the samples cannot be read: {error}", str(path)) from error


def write_latest(sample: Sample, path: Path = LATEST) -> None:
    """Put a sample where it is found. Raises OSError."""
    ensure_directory(path.parent, mode=0o700)
    atomic_write(path, sample.to_json() + "\n", mode=0o600)


def read_latest(path: Path = LATEST) -> Sample | None:
    """Return the last sample of this boot, or None if there is none that can be read."""
    try:
        return from_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
