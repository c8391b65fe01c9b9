"""Run a lease through its whole life and be killed before statement N, for each N; look at what is left each time.

Started by `test_crashes.py` in a process of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from ds01.ledger import Ledger, leases
from ds01.ledger.backup import check
from ds01.ledger.usage import intervals
from tests.unit.ledger.machine import IDS, claim_for

STAGES = ("", "pending", "bound", "running", "held", "released")


def live(path: Path, at: int, said: int) -> None:
    """Make each step of a life, and note on `said` when one was done; killed before statement `at`."""
    seen = 0
    ledger = Ledger(path, deadline_s=60)
    with ledger.read():
        pass

    def count(statement: str) -> None:
        nonlocal seen
        seen += not statement.startswith("PRAGMA")
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    assert ledger._connection is not None
    ledger._connection.set_trace_callback(count)
    with ledger.transaction() as tx:
        token = claim_for(tx).token
        for uuid in IDS[:2]:
            leases.grant(tx, token, uuid, expires=tx.now + 60_000)
    os.write(said, b"\n")
    steps = (
        lambda tx: leases.bind(tx, token, "container", "work._.1000"),
        lambda tx: leases.start(tx, token),
        lambda tx: leases.stop(tx, token, hold_ms=60_000, reason=""),
        lambda tx: leases.close_claim(tx, token, "removed"),
    )
    for step in steps:
        with ledger.transaction() as tx:
            step(tx)
        os.write(said, b"\n")


def look(path: Path, done: int) -> str:
    """Return the stage that is found; what was said to be done must be, and nothing may be half done."""
    check(path)
    with Ledger(path) as ledger, ledger.read() as view:
        rows = leases.live(view)
        states = {row.state for row in rows}
        assert len(states) <= 1, "the two devices of one claim are in one state"
        assert len(rows) in {0, 2}, "a claim has both of its devices, or none"
        begun = view.value("SELECT count(*) FROM leases")
        found = states.pop() if states else ("released" if begun else "")
        assert STAGES.index(found) in {done, done + 1}, f"{found} after {done} steps were done"
        opened = [row for row in intervals(view, since=0) if row.closed_at is None]
        assert len(opened) == (2 if found in {"running", "held"} else 0)
    # Whoever comes next is served.
    with Ledger(path, deadline_s=60) as ledger, ledger.transaction() as tx:
        leases.grant(tx, claim_for(tx).token, IDS[2], expires=tx.now + 60_000)
    return found


def main() -> None:
    path = Path(sys.argv[1])
    template = path.with_name("template.db")
    with Ledger(path) as ledger:
        ledger.backup(template)
    found: list[str] = []
    for at in range(1, 1000):
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        shutil.copy(template, path)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            live(path, at, writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            done = len(said.read())
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found.append(look(path, done))
        if not killed:
            break
    print(json.dumps(found))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
