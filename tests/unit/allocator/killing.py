"""Take a container through its whole life and be killed at point N, for each N; then go on where it stopped.

A point is before a statement of the ledger, and before each step of writing or removing a CDI spec.

Started by `test_allocator_crashes.py` in a process of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from ds01.allocator.answers import Allocation
from ds01.allocator.request import Request
from ds01.allocator.service import Allocator
from ds01.cdi.files import SpecFiles
from ds01.ledger import Ledger, leases
from ds01.ledger.backup import check
from ds01.ledger.usage import intervals
from tests.allocation import UIDS, lab_policy
from tests.specs import check_specs, spec_files
from tests.unit.ledger.machine import IDS, START_MS, Time

TOKEN = "a" * 32
OTHER = "b" * 32
STEPS = (
    "allocate",
    "bind",
    "start",
    "stop",
    "start again",
    "stop again",
    "release",
    "another takes one",
    "start elsewhere",
    "stop elsewhere",
    "close",
    "the other closes",
)
# What a claim's leases are after each step.
AFTER = ("", "pending", "bound", "running", "held", "running", "held", "", "", "running", "held", "", "")
FILE_STEPS = {"open", "os.remove", "os.rename", "os.mkdir"}
HOUR_MS = 3_600_000


def step(allocator: Allocator, number: int) -> None:
    """Make one step of the life of a container with two devices."""
    name = STEPS[number]
    if name == "allocate":
        alice = allocator.people.person(UIDS["alice"], "alice", START_MS)
        assert isinstance(allocator.allocate(alice, Request(count=2), token=TOKEN), Allocation)
    elif name == "bind":
        allocator.bind(TOKEN, "c1", "job._.1001")
    elif name.startswith("start"):
        assert isinstance(allocator.start(TOKEN), Allocation)
    elif name.startswith("stop"):
        allocator.stop(TOKEN)
    elif name == "release":
        assert isinstance(allocator.release(TOKEN, "asked for"), list)
    elif name == "another takes one":
        bob = allocator.people.person(UIDS["bob"], "bob", START_MS)
        assert isinstance(allocator.allocate(bob, Request.named([IDS[1]]), token=OTHER), Allocation)
    elif name == "the other closes":
        allocator.close(OTHER)
    else:
        allocator.close(TOKEN)


def desk(path: Path, specs: SpecFiles, time: Time | None = None) -> tuple[Allocator, Ledger]:
    ledger = Ledger(path, clock=time or Time(), deadline_s=60)
    return Allocator(ledger, lab_policy(), specs, record=lambda **_: None), ledger


def live(path: Path, specs: SpecFiles, at: int, said: int) -> None:
    """Make all steps, noting on `said` when one was done; killed at point `at`."""
    allocator, ledger = desk(path, specs)
    with ledger.read():
        pass
    seen = 0

    def point() -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(text: str) -> None:
        if not text.startswith("PRAGMA"):
            point()

    def file_step(event: str, arguments: tuple[object, ...]) -> None:
        if event in FILE_STEPS and "ds01.io-gpu-" in str(arguments[0]):
            point()

    assert ledger._connection is not None
    ledger._connection.set_trace_callback(statement)
    sys.addaudithook(file_step)
    for number in range(len(STEPS)):
        step(allocator, number)
        os.write(said, b"\n")


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as view:
        found = [lease.state for lease in leases.live(view) if lease.token == TOKEN]
        opened = [row for row in intervals(view, since=0) if row.closed_at is None]
        assert len(opened) == sum(state in {"running", "held"} for state in found)
    return found


def look(path: Path, specs: SpecFiles, done: int) -> str:
    """Return what is found: what was said to be done is, nothing is half done, and what is left leads to the end."""
    check(path)
    allocator, ledger = desk(path, specs)
    with ledger.read() as view:
        check_specs(specs, view)
    found = states(ledger)
    assert found in [[AFTER[number]] * 2 if AFTER[number] else [] for number in (done, done + 1) if number < len(AFTER)]
    # Nobody comes back: what does not run is free after its time.
    copy = path.with_name("alone.db")
    with ledger:
        ledger.backup(copy)
    time = Time()
    time.spend(HOUR_MS)
    beside = SpecFiles(path.with_name("alone-live"), path.with_name("alone-kept"), specs.bases)
    for source, target in ((specs.live, beside.live), (specs.kept, beside.kept)):
        shutil.copytree(source, target)
    alone, other = desk(copy, beside, time)
    alone.expire()
    assert states(other) in ([], ["running"] * 2)
    with other.read() as view:
        check_specs(beside, view)
    other.close()
    for folder in (beside.live, beside.kept):
        shutil.rmtree(folder)
    for end in ("", "-wal", "-shm"):
        copy.with_name(copy.name + end).unlink(missing_ok=True)
    # Whoever was killed comes back and makes the same step again.
    for number in range(done, len(STEPS)):
        step(allocator, number)
        with ledger.read() as view:
            assert check_specs(specs, view), f"after {STEPS[number]} something that is held has no spec"
    assert states(ledger) == []
    ledger.close()
    return found[0] if found else ""


def main() -> None:
    path = Path(sys.argv[1])
    template = path.with_name("template.db")
    specs = spec_files(path.parent, IDS)
    with Ledger(path) as ledger:
        ledger.backup(template)
    found: list[str] = []
    for at in range(1, 2000):
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        shutil.copy(template, path)
        shutil.rmtree(specs.kept, ignore_errors=True)
        specs.kept.mkdir()
        for left in specs.live.glob("*ds01*"):
            left.unlink()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            live(path, specs, at, writing)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            done = len(said.read())
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found.append(look(path, specs, done))
        if not killed:
            assert done == len(STEPS)
            break
    print(json.dumps(found))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
