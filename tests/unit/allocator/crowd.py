"""Many processes that ask, use and give back at once; each notes on the file system what it was given.

Started in a process of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

from ds01.allocator.answers import Allocation
from ds01.allocator.request import Request
from ds01.allocator.service import Allocator
from ds01.cdi.files import SpecFiles
from ds01.cdi.spec import devices_of
from ds01.ledger import Ledger
from tests.allocation import UIDS, lab_policy
from tests.specs import spec_files
from tests.unit.ledger.machine import IDS

REQUESTS = (Request(), Request(count=2), Request(profile="2g.20gb"), Request.named(["1:0"]), Request(count=None))


def witness(specs: SpecFiles, token: str, uuids: set[str]) -> None:
    """Fail unless the spec of the claim names these devices, and none of them is named by another's."""
    for spec in specs.live.glob("ds01.io-gpu-*.json"):
        try:
            named = set(devices_of(json.loads(spec.read_text())))
        except FileNotFoundError:
            continue
        assert named == uuids if token in spec.name else not named & uuids
    assert (specs.live / f"ds01.io-gpu-{token}.json").is_file()


def work(path: Path, specs: SpecFiles, seed: int, requests: int) -> Counter[str]:
    choice = random.Random(seed)  # noqa: S311 - the same people each time
    people = lab_policy()
    name = choice.choice(sorted(UIDS))
    person = people.person(UIDS[name], name, time.time_ns() // 1_000_000)
    found: Counter[str] = Counter()
    with Ledger(path, deadline_s=60) as ledger:
        allocator = Allocator(ledger, people, specs, record=lambda **_: None)
        for number in range(requests):
            answer = allocator.allocate(person, choice.choice(REQUESTS))
            if not isinstance(answer, Allocation):
                found[answer.kind] += 1
                continue
            # The witness: the file system makes one file of a name, whatever the database thinks.
            marks = [path.with_name(f"held-{device.uuid}") for device in answer.devices]
            for mark in marks:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            witness(specs, answer.token, {device.uuid for device in answer.devices})
            found["granted"] += 1
            if choice.random() < 0.3:
                allocator.bind(answer.token, f"c-{seed}-{number}", "work")
                assert isinstance(allocator.start(answer.token), Allocation)
            for mark in marks:
                mark.unlink()
            allocator.close(answer.token)
    return found


def main() -> None:
    path, people, requests = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    specs = spec_files(path.parent, IDS)
    children = {}
    for seed in range(people):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, json.dumps(work(path, specs, seed, requests)).encode())
            os._exit(0)
        os.close(writing)
        children[child] = reading
    total: Counter[str] = Counter()
    for child, reading in children.items():
        with os.fdopen(reading, "rb") as said:
            text = said.read()
        total["failed"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        total.update(json.loads(text or "{}"))
    print(json.dumps(total))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
