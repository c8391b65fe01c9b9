"""The samples that are kept: bounded, and never in the way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ds01.monitor.history import History, read_after, read_latest, write_latest
from ds01.monitor.model import Sample


def sample(number: int, at: int | None = None) -> Sample:
    return Sample(at=number if at is None else at, boot="b", boot_ms=number, took_ms=1.0)


def test_samples_come_back_in_order_and_after_a_number(tmp_path: Path) -> None:
    path = tmp_path / "s/samples.db"
    kept = History(path)
    for number in range(5):
        kept.add(sample(number))
    found = list(read_after(0, path))
    assert [one for _, one in found] == [sample(number) for number in range(5)]
    assert [one.at for _, one in read_after(found[2][0], path)] == [3, 4]
    assert [one.at for _, one in read_after(0, path, at_most=2)] == [3, 4]
    assert path.stat().st_mode & 0o077 == 0
    kept.close()
    assert len(list(read_after(0, path))) == 5


def test_a_clock_that_jumps_neither_fills_nor_empties_it(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    kept = History(path, rows_max=250)
    for number in range(1000):
        kept.add(sample(number, at=number if number % 2 else 10**15))
    rows = sqlite3.connect(path).execute("SELECT count(*), max(boot_ms) FROM samples").fetchone()
    assert 250 <= rows[0] < 250 + 200
    assert rows[1] == 999


def test_a_damaged_history_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    path.write_bytes(b"no database" * 1000)
    kept = History(path)
    kept.add(sample(1))
    assert [one.at for _, one in read_after(0, path)] == [1]


def test_what_another_version_wrote_is_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "samples.db"
    kept = History(path)
    kept.add(sample(1))
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("INSERT INTO samples (at, boot, boot_ms, body) VALUES (2, 'b', 2, x'00')")
    kept.add(sample(3))
    assert [one.at for _, one in read_after(0, path)] == [1, 3]


def test_without_a_monitor_there_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ds01-monitor\.service"):
        list(read_after(0, tmp_path / "samples.db"))


def test_the_latest_sample(tmp_path: Path) -> None:
    path = tmp_path / "run/latest.json"
    assert read_latest(path) is None
    write_latest(sample(7), path)
    assert read_latest(path) == sample(7)
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("{}")
    assert read_latest(path) is None
