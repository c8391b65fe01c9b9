"""One deployment at a time, and none that is dead stands in the way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ds01.host import lease

ME = lease.Holder(machine="desk boot-1", process="100:5", user="ann", since=1000.0)
NEIGHBOUR = lease.Holder(machine="desk boot-1", process="200:9", user="ben", since=1000.0)
FAR = lease.Holder(machine="laptop boot-2", process="100:5", user="cleo", since=1000.0)


def test_nobody_and_myself_are_no_obstacle(tmp_path: Path):
    path = tmp_path / "lease"
    assert lease.other(ME, [], path) is None
    lease.take(ME, path)
    assert lease.other(ME, ["100:5"], path) is None


def test_a_run_on_the_same_machine_counts_while_it_lives(tmp_path: Path):
    path = tmp_path / "lease"
    lease.take(NEIGHBOUR, path)
    assert lease.other(ME, ["100:5", "200:9"], path) == NEIGHBOUR
    assert lease.other(ME, ["100:5"], path) is None


def test_the_same_process_number_of_another_start_is_another_run(tmp_path: Path):
    path = tmp_path / "lease"
    lease.take(NEIGHBOUR, path)
    assert lease.other(ME, ["200:777"], path) is None


def test_a_run_from_elsewhere_counts_for_a_while(tmp_path: Path):
    path = tmp_path / "lease"
    lease.take(FAR, path)
    assert lease.other(ME, [], path, now=1000.0 + lease.STALE_S - 1) == FAR
    assert lease.other(ME, [], path, now=1000.0 + lease.STALE_S) is None


def test_only_ones_own_is_released(tmp_path: Path):
    path = tmp_path / "lease"
    lease.take(FAR, path)
    assert not lease.release(ME, path)
    assert path.exists()
    assert lease.release(FAR, path)
    assert not path.exists()
    assert not lease.release(FAR, path)


def test_a_damaged_lease_is_nobodys(tmp_path: Path):
    path = tmp_path / "lease"
    for text in ("", "{", "[]", '{"machine": "x"}', '{"machine":"a","process":"b","user":"c","since":"soon"}'):
        path.write_text(text, encoding="utf-8")
        assert lease.other(ME, [], path) is None


def test_of_many_that_begin_at_once_one_does(tmp_path: Path):
    path, together = tmp_path / "lease", threading.Barrier(8)
    runs = [lease.Holder(machine="desk boot-1", process=f"{number}:1", user="ann", since=1.0) for number in range(8)]

    def begin(me: lease.Holder) -> bool:
        together.wait(60)
        with lease.undisturbed(tmp_path):
            free = lease.other(me, [run["process"] for run in runs], path) is None
            if free:
                lease.take(me, path)
        return free

    with ThreadPoolExecutor(len(runs)) as pool:
        assert sum(pool.map(begin, runs)) == 1
