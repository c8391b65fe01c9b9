"""Writers that are killed, stopped or out of disk space: what was not said to be done is undone, never half done."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time as clock
from collections import Counter
from pathlib import Path

import pytest

from ds01.ledger import (
    Ledger,
    LedgerBusyError,
    LedgerError,
    LedgerFullError,
    LedgerReadOnlyError,
    leases,
)
from ds01.ledger.backup import check
from ds01.ledger.turn import Turn
from tests.unit.ledger.killing import STAGES
from tests.unit.ledger.machine import IDS, claim_for

ROOT = Path(__file__).parents[3]
NOBODY = 65534
STOPPED = """
import os, signal, sys
from pathlib import Path
from ds01.ledger import Ledger
with Ledger(Path(sys.argv[1])).transaction() as tx:
    tx.set_unverified("in the middle")
    print("holding", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def script(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.unit.ledger.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def grant(path: Path, device: str, deadline_s: float = 60) -> None:
    with Ledger(path, deadline_s=deadline_s) as ledger, ledger.transaction() as tx:
        leases.grant(tx, claim_for(tx).token, device, expires=tx.now + 1000)


def test_a_kill_at_any_statement_leaves_whole_transactions(path: Path) -> None:
    found = Counter(json.loads(script("killing", path)))
    assert found.keys() == set(STAGES), "each stage was reached, and nothing else"
    assert found.total() > 40


def test_a_crowd_shares_devices_one_at_a_time(path: Path) -> None:
    people, rounds = 64, 30
    result = json.loads(script("crowd", path, people, rounds))
    assert result["failed"] == 0
    assert result["killed"] == people // 8
    assert result["got"] > people
    check(path)
    with Ledger(path) as ledger, ledger.read() as view:
        assert leases.live(view) == []
        assert view.value("SELECT count(*) FROM usage WHERE closed_at IS NULL") == 0
        assert view.value("SELECT count(*) FROM leases WHERE state = 'released'") >= result["got"]


def test_a_stopped_writer_makes_others_give_up_and_its_death_lets_them_go_on(path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", STOPPED, path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        began = clock.monotonic()
        with pytest.raises(LedgerBusyError, match="try again"):
            grant(path, IDS[0], deadline_s=0.3)
        assert clock.monotonic() - began < 60
        with Ledger(path) as ledger, ledger.read() as view:
            assert leases.live(view) == [], "reading never waits"
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
    grant(path, IDS[0])


def test_somebody_who_holds_the_database_itself_makes_others_give_up(path: Path, ledger: Ledger) -> None:
    """An administrator with the sqlite3 command stands in no queue."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerBusyError, match="fuser"), ledger.transaction(deadline_s=0.2):
        pass
    other.execute("ROLLBACK")
    other.close()
    with ledger.transaction():
        pass


def test_a_statement_without_end_is_ended(ledger: Ledger) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(LedgerBusyError), ledger.transaction(deadline_s=0.2) as tx:
        tx.value(endless)
    with ledger.transaction():
        pass


def fill(ledger: Ledger) -> None:
    for _ in range(2000):
        with ledger.transaction() as tx:
            tx.insert("exemptions", uid=1, user="x" * 4000, kind="k", created=1, reason="r", approved_by="a")


def test_a_full_disk_refuses_and_loses_nothing(path: Path, ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.change("PRAGMA max_page_count = 100")
    with pytest.raises(LedgerFullError, match="free some"):
        fill(ledger)
    check(path)
    ledger.close()
    grant(path, IDS[0])


def test_a_file_that_may_not_grow_refuses_and_loses_nothing(path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger(path) as ledger, ledger.transaction() as tx:
        tx.insert("exemptions", uid=1, user="before", kind="k", created=1, reason="r", approved_by="a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with Ledger(path) as ledger, pytest.raises(LedgerError):
            fill(ledger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    check(path)
    with Ledger(path) as ledger, ledger.read() as view:
        assert view.value("SELECT count(*) FROM exemptions WHERE user = 'before'") == 1
    grant(path, IDS[0])


def test_who_may_not_write_is_told(path: Path) -> None:
    path.chmod(0o444)
    path.parent.chmod(0o755)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.chdir(path.parent)
                os.setuid(NOBODY)
            grant(path, IDS[0])
        except LedgerReadOnlyError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_queue_of_writers_may_be_removed_at_any_time(path: Path, ledger: Ledger) -> None:
    queue, removed, lost = (path.with_name(name) for name in ("ledger.turn", "removed.turn", "lost.turn"))
    with ledger.transaction():
        queue.rename(removed)
    grant(path, IDS[1])
    shutil.copy(queue, lost)
    queue.write_text("nonsense")
    ledger.close()
    grant(path, IDS[0])
    for left in (removed, lost):
        Turn(left).destroy()
    # Those who still wait in a queue that is gone make a new one.
    Turn(queue).destroy()
    grant(path, IDS[2])


def test_a_killed_reader_keeps_nobody_waiting(path: Path) -> None:
    child = os.fork()
    if child == 0:
        with Ledger(path).read() as view:
            view.value("SELECT count(*) FROM devices")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    grant(path, IDS[0])


def test_a_second_connection_takes_nothing_from_the_first(path: Path) -> None:
    """Who opens and closes a file loses the locks on it; the next process to leave then takes the log along."""
    with Ledger(path) as first, Ledger(path) as second:
        for number, ledger in enumerate((first, second)):
            with ledger.transaction() as tx:
                tx.change("INSERT INTO meta VALUES (?, '')", (f"before {number}",))
        leaves = "from pathlib import Path; from ds01.ledger import Ledger\n"
        leaves += f"with Ledger(Path({str(path)!r})) as ledger, ledger.transaction() as tx: tx.set_verified()"
        subprocess.run([sys.executable, "-c", leaves], check=True)
        with first.transaction() as tx:
            tx.change("INSERT INTO meta VALUES ('after', '')")
        with second.read() as view, Ledger(path) as third, third.read() as last:
            for each in (view, last):
                assert each.value("SELECT count(*) FROM meta WHERE key IN ('before 0', 'before 1', 'after')") == 3
