"""How long a decision takes: ours, in one transaction, against asking the engine about every container as others do.

With 10,000 past leases and 28 devices (4 GPUs x 7 MIG devices), at 1, 16 and 64 processes that ask at the same time.
Two crowds: one never pauses, so its waits are those of a queue; the other asks as often as 64 busy people and scripts
might, four times a second each. The engine is the one of this machine, in the same run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import pytest

from ds01.allocator.answers import Allocation
from ds01.allocator.people import People
from ds01.allocator.request import Request
from ds01.allocator.service import Allocator
from ds01.ledger import Ledger, create, leases
from ds01.ledger.devices import take_inventory
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from lab import engine
from tests.allocation import lab_policy
from tests.unit.ledger.machine import claim_for, device, machine

PAST_LEASES = 10_000
REQUESTS = {1: 300, 16: 60, 64: 25}
PAUSE_S = 0.25
CONTAINERS = (4, 50, 200)
IMAGE = "ds01-bench-empty"
DEVICES = machine(*(tuple(device(gpu, part) for part in range(7)) for gpu in range(4)))


def people() -> People:
    members = [f"user{number:02}" for number in range(64)]
    return lab_policy(default_group="student", groups={"student": {"members": members, "max_gpu_equivalents": 1}})


@pytest.fixture
def ledger_path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ledger.db"
    create(path)
    with Ledger(path, deadline_s=60) as ledger, ledger.transaction() as tx:
        take_inventory(tx, DEVICES)
        tx.set_verified()
        for number in range(PAST_LEASES):
            token = claim_for(tx, uid=1000 + number % 100).token
            leases.grant(tx, token, DEVICES.devices[number % 28].uuid, expires=tx.now)
            leases.close_claim(tx, token, "past")
    yield path
    Turn(turn_path(path)).destroy()


class Crowd(NamedTuple):
    path: Path
    requests: int
    pause_s: float
    begin: Barrier
    answers: Queue[list[float]]


def ask(crowd: Crowd, seed: int) -> None:
    """Ask, and give back what was got; note how long each decision took."""
    path, count, pause_s, begin, answers = crowd
    chance, limits = random.Random(seed), people()  # noqa: S311 - the same crowd each time
    person = limits.person(2000 + seed, f"user{seed:02}", time.time_ns() // 1_000_000)
    waits = []
    with Ledger(path, deadline_s=60) as ledger:
        allocator = Allocator(ledger, limits, None, record=lambda **_: None)
        with ledger.read():
            begin.wait()
        for _ in range(count):
            if pause_s:
                time.sleep(chance.expovariate(1 / pause_s))
            started = time.perf_counter()
            answer = allocator.allocate(person, Request())
            waits.append((time.perf_counter() - started) * 1000)
            if isinstance(answer, Allocation):
                allocator.close(answer.token)
    answers.put(waits)


def measure(path: Path, number: int, pause_s: float) -> list[float]:
    context = multiprocessing.get_context("fork")
    crowd = Crowd(path, REQUESTS[number], pause_s, context.Barrier(number), context.Queue())
    processes = [context.Process(target=ask, args=(crowd, seed)) for seed in range(number)]
    for process in processes:
        process.start()
    waits = sorted(wait for _ in processes for wait in crowd.answers.get())
    for process in processes:
        process.join()
    return waits


def part(waits: list[float], share: float) -> float:
    return waits[min(len(waits) - 1, int(len(waits) * share))]


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def containers() -> Iterator[list[str]]:
    """Containers that exist; created is enough, since what counts is asking for them."""
    engine.ensure()
    subprocess.run(["docker", "import", "-", IMAGE], input=empty_tar(), check=True, capture_output=True)
    made: list[str] = []
    yield made
    for start in range(0, len(made), 50):
        docker("rm", "--force", *made[start : start + 50])
    docker("rmi", IMAGE)


def empty_tar() -> bytes:
    return bytes(10240)


def by_asking_the_engine() -> float:
    """Decide as stateless allocators do: list the containers, inspect each, count what is taken."""
    started = time.perf_counter()
    taken = 0
    for number in docker("ps", "--all", "--quiet", "--no-trunc").split():
        found = json.loads(docker("inspect", number))[0]
        taken += len(found["HostConfig"]["DeviceRequests"] or [])
    return (time.perf_counter() - started) * 1000


def test_allocate(ledger_path: Path, containers: list[str]) -> None:
    print(f"\nmilliseconds of one allocate, {PAST_LEASES} past leases, 28 devices, {os.cpu_count()} CPUs")
    print(f"{'processes':>24} {'median':>9} {'99 %':>9} {'worst':>9}")
    alone = 0.0
    for number in REQUESTS:
        for pause_s in (0.0, PAUSE_S) if number > 1 else (0.0,):
            waits = measure(ledger_path, number, pause_s)
            name = f"{number}, {'4 a second each' if pause_s else 'without a pause'}"
            print(f"{name:>24} {part(waits, 0.5):9.2f} {part(waits, 0.99):9.2f} {waits[-1]:9.2f}")
            alone = alone or part(waits, 0.5)
    print(f"{'containers':>24} {'engine':>9} {'ratio':>9}   (docker ps, then one inspect each, against 1 process)")
    ratios = {}
    for number in CONTAINERS:
        while len(made := docker("ps", "--all", "--quiet").split()) < number:
            containers.append(docker("create", IMAGE, "/nothing").strip())
        times = [by_asking_the_engine() for _ in range(3 if number < 200 else 1)]
        ratios[number] = min(times) / alone
        print(f"{len(made):>24} {min(times):9.0f} {ratios[number]:9.0f}")
    assert ratios[50] > 50


def test_64_processes_ask_1000_times_each(tmp_path: Path) -> None:
    """Every device has a file beside the ledger while somebody has it; a second one of that name ends the run."""
    path = tmp_path / "ledger.db"
    create(path)
    with Ledger(path) as ledger, ledger.transaction() as tx:
        take_inventory(tx, machine((device(0),), (device(1, 0), device(1, 1), device(1, 2))))
        tx.set_verified()
    started = time.perf_counter()
    command = [sys.executable, "-m", "tests.unit.allocator.crowd", str(path), "64", "1000"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    took = time.perf_counter() - started
    Turn(turn_path(path)).destroy()
    found = json.loads(done.stdout)
    print(f"\n64 processes x 1,000 requests: {took:.0f} s, {64_000 / took:.0f} a second: {found}")
    assert found["failed"] == 0
    assert "internal" not in found
    assert sum(found.values()) == 64_000
