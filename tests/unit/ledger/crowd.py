"""Many processes that take, use and give back devices at once, with a witness outside the database.

Started by `test_crashes.py` in a process of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from ds01.ledger import DeviceTakenError, Ledger, leases
from tests.unit.ledger.machine import IDS, claim_for


def work(path: Path, seed: int, rounds: int, *, dies: bool) -> int:
    """Do as people do; return how often a device was got. Who dies does so inside a transaction."""
    choice = random.Random(seed)  # noqa: S311 - the same people each time
    ledger = Ledger(path, deadline_s=60)
    got = 0
    for number in range(rounds * 100 if dies else rounds):
        device = choice.choice(IDS)
        try:
            with ledger.transaction() as tx:
                token = claim_for(tx, uid=1000 + seed).token
                leases.grant(tx, token, device, expires=tx.now + 3_600_000)
                if dies and number >= rounds // 2:
                    os.kill(os.getpid(), signal.SIGKILL)
        except DeviceTakenError:
            continue
        # The witness: the file system makes one file of a name, whatever the database thinks.
        mark = path.with_name(f"held-{device}")
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        got += 1
        with ledger.transaction() as tx:
            leases.bind(tx, token, f"container-{token}", "work")
            leases.start(tx, token)
        mark.unlink()
        with ledger.transaction() as tx:
            leases.close_claim(tx, token, "removed")
    return got


def main() -> None:
    path, people, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    children = {}
    for seed in range(people):
        dies = seed % 8 == 0
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(work(path, seed, rounds, dies=dies)).encode())
            os._exit(0)
        os.close(writing)
        children[child] = (reading, dies)
    result = {"got": 0, "killed": 0, "failed": 0}
    for child, (reading, dies) in children.items():
        with os.fdopen(reading, "rb") as said:
            got = said.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        result["got"] += int(got or 0)
        result["killed"] += dies and status == -signal.SIGKILL
        result["failed"] += not dies and status != 0
    print(json.dumps(result))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
