"""How long writers of the ledger wait: our queue against SQLite's own wait, 1, 16 and 64 at once, in the same run."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ds01.ledger import Ledger, Transaction, create, leases
from ds01.ledger.devices import take_inventory
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from tests.unit.ledger.machine import GPUS, claim_for

WRITES = {1: 400, 16: 50, 64: 25}
PAST_LEASES = 10_000
Worker = Callable[[Path, int, "Barrier", "Queue[list[float]]"], None]


def in_turn(path: Path, count: int, begin: Barrier, answers: Queue[list[float]]) -> None:
    ledger, waits = Ledger(path, deadline_s=60), []
    with ledger.read():
        begin.wait()
    for _ in range(count):
        started = time.perf_counter()
        with ledger.transaction() as tx:
            leases.live(tx)
            claim_for(tx)
        waits.append(time.perf_counter() - started)
    answers.put(waits)


def by_sqlite(path: Path, count: int, begin: Barrier, answers: Queue[list[float]]) -> None:
    """The same work, with nothing but `BEGIN IMMEDIATE` and a busy timeout."""
    ledger, waits = Ledger(path), []
    with ledger.read() as view:
        moment = view.moment
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")

    begin.wait()
    for _ in range(count):
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        tx = Transaction(connection, path, moment)
        leases.live(tx)
        claim_for(tx)
        connection.execute("COMMIT")
        waits.append(time.perf_counter() - started)
    answers.put(waits)


def measure(worker: Worker, path: Path, writers: int) -> list[float]:
    context = multiprocessing.get_context("fork")
    begin, answers = context.Barrier(writers), context.Queue()
    crowd = [context.Process(target=worker, args=(path, WRITES[writers], begin, answers)) for _ in range(writers)]
    for one in crowd:
        one.start()
    waits = sorted(wait for _ in crowd for wait in answers.get())
    for one in crowd:
        one.join()
    return waits


@pytest.fixture
def ledger_path(tmp_path: Path):
    path = tmp_path / "ledger.db"
    create(path)
    with Ledger(path, deadline_s=60) as ledger, ledger.transaction() as tx:
        take_inventory(tx, GPUS)
        tx.set_verified()
        for number in range(PAST_LEASES):
            token = claim_for(tx, uid=1000 + number % 100).token
            leases.release(tx, leases.grant(tx, token, GPUS.devices[number % 4].uuid, expires=tx.now).id, "past")
    yield path
    Turn(turn_path(path)).destroy()


def test_waits_of_writers(ledger_path: Path) -> None:
    print(f"\nmilliseconds of one change, with {PAST_LEASES} past leases; SQLite's own wait / ours")
    print(f"{'writers':>8} {'median':>16} {'99 in 100':>16} {'worst':>16}   ratio of the worst")
    for writers in WRITES:
        own, ours = (measure(worker, ledger_path, writers) for worker in (by_sqlite, in_turn))
        cells = []
        for part in (0.5, 0.99, 1.0):
            one, other = (waits[min(len(waits) - 1, int(len(waits) * part))] * 1000 for waits in (own, ours))
            cells.append(f"{one:7.2f} / {other:6.2f}")
        print(f"{writers:>8} {' '.join(f'{cell:>16}' for cell in cells)}   {own[-1] / ours[-1]:.1f}")
