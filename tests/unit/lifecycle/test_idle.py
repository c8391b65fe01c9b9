"""Idle by each sign, never on what is not known, and only while the evidence has no gap."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.ledger import Ledger
from ds01.ledger.lifecycle import Life
from ds01.lifecycle import decide
from ds01.lifecycle.idle import GAP_MS, State, Verdict, advance, judge
from ds01.lifecycle.passes import follow
from ds01.lifecycle.rules import Lawbook, Rules
from ds01.monitor.model import ContainerSample, DeviceSample, ProcessSample, Sample

MINE, TOKEN = "c" * 64, "t" * 32
STEP = 15_000
HOUR = 3_600_000
RULES = Rules(
    idle_timeout=3_600_000, max_runtime=None, container_hold=None, created_timeout=None, idle_from="", runtime_from="",
    gpu_threshold=5.0, cpu_threshold=2.0, network_threshold=1 << 20, looks=3, grace=0, idle_warn_at=(0.8, 0.95),
    runtime_warn_at=(), high_demand=None, reduction=0.5, keep_max=None, extend_max=None, sigterm_s=1, rehearse=False,
)  # fmt: skip


def process(**others: Any) -> ProcessSample:
    values = {
        "pid": 7, "start_ticks": 70, "kind": "container", "container": MINE, "uid": 5001, "user": "alice",
        "name": "python", "memory": 1 << 30, "cpu_ticks": 100, "computes": True,
    }  # fmt: skip
    return ProcessSample(**{**values, **others})  # type: ignore[arg-type]  # a table of values


def device(number: int = 0, **others: Any) -> DeviceSample:
    values = {
        "id": str(number), "uuid": f"GPU-{number}", "gpu_uuid": f"GPU-{number}", "gpu_index": number, "gi_id": None,
        "profile": "full", "weight": 1.0, "memory_total": 1 << 36, "memory_used": 0, "busy": None,
        "busy_source": "", "processes": (), "unexplained": 0, "token": TOKEN,
    }  # fmt: skip
    return DeviceSample(**{**values, **others})  # type: ignore[arg-type]  # as above


def container(**others: Any) -> ContainerSample:
    values = {
        "id": MINE, "name": "work._.5001", "uid": 5001, "user": "alice", "group": "student", "type": "docker",
        "interface": "", "managed": True, "protected": False, "running": True, "created": 0, "token": TOKEN,
        "names": (), "cpu_us": 0, "memory": 0, "io_bytes": 0, "net_bytes": 0,
    }  # fmt: skip
    return ContainerSample(**{**values, **others})  # type: ignore[arg-type]  # as above


def sample(*devices: DeviceSample | None, at: int = STEP, boot: str = "b", **others: Any) -> Sample:
    known = None if devices == (None,) else tuple(one for one in devices if one)
    return Sample(at=at, boot=boot, boot_ms=at, took_ms=1, devices=known, containers=(container(**others),))


def verdict(before: Sample, after: Sample, **rules: Any) -> Verdict | None:
    return judge(before, after, (after.containers or ())[0], replace(RULES, **rules))


BUSY, STILL = process(cpu_ticks=101), process()
CASES: list[tuple[str, DeviceSample | None, DeviceSample | None, State]] = [
    ("no process on it, whatever the counter says", device(busy=90.0), device(busy=90.0), State.IDLE),
    ("another's process on it", device(), device(processes=(process(container="d" * 64),)), State.IDLE),
    ("only a drawing process", device(), device(processes=(process(computes=False),)), State.IDLE),
    ("a counter below the threshold", device(), device(busy=4.9, processes=(BUSY,)), State.IDLE),
    ("a counter exactly at it", device(), device(busy=5.0, processes=(STILL,)), State.ACTIVE),
    ("MIG without counters, its process worked", device(processes=(STILL,)), device(processes=(BUSY,)), State.UNKNOWN),
    ("MIG without counters, its process slept", device(processes=(STILL,)), device(processes=(STILL,)), State.IDLE),
    ("it slept, and its memory changed", device(processes=(STILL,)),
     device(processes=(process(memory=1),)), State.UNKNOWN),
    ("its memory is not known", device(processes=(process(memory=None),)),
     device(processes=(process(memory=None),)), State.UNKNOWN),
    ("its CPU time is not known", device(processes=(process(cpu_ticks=None),)),
     device(processes=(process(cpu_ticks=None),)), State.UNKNOWN),
    ("another process with its number", device(processes=(STILL,)),
     device(processes=(process(start_ticks=71),)), State.UNKNOWN),
    ("a process that cannot be attributed", device(), device(processes=(process(kind="unknown"),)), State.UNKNOWN),
    ("a device that is silent", device(), device(processes=None), State.UNKNOWN),
    ("no driver", None, None, State.UNKNOWN),
    ("no driver before", None, device(), State.UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "state"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_sign(before: DeviceSample | None, after: DeviceSample | None, state: State) -> None:
    found = verdict(sample(before, at=0), sample(after))
    assert found is not None
    assert found.state is state
    assert found.why


def test_a_container_is_as_busy_as_its_busiest_device() -> None:
    idle, busy = device(0), device(1, busy=80.0, processes=(STILL,))
    found = verdict(sample(idle, busy, at=0), sample(idle, busy))
    assert found is not None
    assert found.state is State.ACTIVE
    # What one device does not tell is not outvoted by another.
    unknown = verdict(sample(idle, device(1), at=0), sample(idle, device(1, processes=None)))
    assert unknown is not None
    assert unknown.state is State.UNKNOWN


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        ({"cpu_us": 0}, {"cpu_us": 15_000 * 10 * 2}, State.ACTIVE),  # 2 % of a CPU
        ({"cpu_us": 0}, {"cpu_us": 15_000 * 10 * 2 - 1}, State.IDLE),
        # It was started again in between, which alone is no work.
        ({"cpu_us": 10**9}, {"cpu_us": 0, "net_bytes": 0}, State.IDLE),
        ({"cpu_us": 10**9}, {"cpu_us": 15_000 * 10 * 2}, State.ACTIVE),
        ({"net_bytes": 1 << 40}, {"net_bytes": 1 << 20}, State.ACTIVE),
        ({"cpu_us": None}, {}, State.UNKNOWN),
        ({"net_bytes": 0}, {"net_bytes": 1 << 20}, State.ACTIVE),
        ({"net_bytes": None}, {"net_bytes": 0}, State.UNKNOWN),
    ],
)
def test_a_download_or_work_on_the_cpu_is_no_idleness(
    before: dict[str, Any], after: dict[str, Any], state: State
) -> None:
    found = verdict(sample(device(), at=0, **before), sample(device(), **after))
    assert found is not None
    assert found.state is state
    # Who switches these signs off has the GPU's alone.
    alone = verdict(
        sample(device(), at=0, **before), sample(device(), **after), cpu_threshold=None, network_threshold=None
    )
    assert alone is not None
    assert alone.state is State.IDLE


def test_without_a_gpu_there_is_nothing_to_be_idle_with() -> None:
    assert verdict(sample(at=0, token=None), sample(token=None)) is None
    # It has a claim, and no device is held for it.
    assert verdict(sample(device(token=None), at=0), sample(device(token=None))) is None


def test_an_adopted_container_is_judged_by_what_it_reaches() -> None:
    others = {"token": None, "names": ("all",)}
    busy = device(3, token=None, busy=50.0, processes=(STILL,))
    found = verdict(sample(busy, at=0, **others), sample(busy, **others))
    assert found is not None
    assert found.state is State.ACTIVE


STEPS = st.lists(
    st.tuples(st.sampled_from(State), st.sampled_from([1_000, 15_000, 60_000, GAP_MS, GAP_MS + 1, 10**7])), max_size=40
)


@given(STEPS)
def test_only_unbroken_evidence_adds_up(steps: list[tuple[State, int]]) -> None:
    """The count is the sum of the idle stretches since the last activity, or gap in the evidence."""
    life = Life(MINE, "work", 5001, 1, 0, "b", 0)
    at = [0]
    for _, length in steps:
        at.append(at[-1] + length)
    samples = [Sample(at=time, boot="b", boot_ms=time, took_ms=0) for time in at]
    expected, evidence = 0, None
    for (before, after), (state, length) in zip(pairwise(samples), steps, strict=True):
        life = advance(life, Verdict(state, "why"), before, after)
        if evidence is None or after.boot_ms - evidence > GAP_MS:
            expected = 0
        if state is State.ACTIVE:
            expected, evidence = 0, after.boot_ms
        elif state is State.IDLE and length <= GAP_MS:
            expected, evidence = expected + length, after.boot_ms
        assert life.idle_ms == expected


def test_a_reboot_begins_anew() -> None:
    life = Life(MINE, "work", 5001, 1, 0, "b", 0, idle_ms=10**7, idle_boot="b", idle_boot_ms=1000, idle_warned=2)
    new = advance(life, Verdict(State.IDLE, "w"), sample(at=1000, boot="n"), sample(at=1000 + STEP, boot="n"))
    assert (new.idle_ms, new.idle_warned) == (STEP, 0)


def samples(states: list[tuple[bool, str | None]]) -> list[Sample]:
    """One sample each 15 seconds: whether the container runs, and the claim that holds device 0."""
    return [
        sample(device(token=token), at=number * STEP, running=running, cpu_us=0)
        for number, (running, token) in enumerate(states)
    ]


def test_a_stop_and_start_while_the_device_is_held_is_no_way_round(book: Lawbook) -> None:
    """What is held for a container is kept from others: a stop adds nothing and takes nothing away."""
    on, off, given = (True, TOKEN), (False, TOKEN), (False, None)

    def idle(states: list[tuple[bool, str | None]]) -> int:
        lives = follow(samples(states), {}, book)
        return lives[MINE].idle_ms // STEP if MINE in lives else 0

    assert idle([on] * 41) == 40
    for stopped in (1, 4, 40):
        # The first look after the start compares with one in which it did not run, and did nothing since.
        assert idle([*[on] * 21, *[off] * stopped, *[on] * 20]) == 40
    # Once it gave its device back, its time begins anew.
    assert idle([*[on] * 21, *[given] * 10, *[on] * 20]) <= 20


@pytest.mark.parametrize(
    ("idle_min", "age_min", "due"),
    [
        (79, 200, False), (80, 200, True),
        # It runs for so long, less the grace of its start.
        (80, 109, False), (80, 110, True),
        # Started again within the stretch: one grace for all of it.
        (109, 1, False), (110, 1, True),
    ],
)  # fmt: skip
def test_a_start_gives_its_grace_once(
    tables: dict[str, Any], ledger: Ledger, idle_min: int, age_min: int, due: bool
) -> None:
    tables["container_types"]["docker"]["idle_timeout"] = None
    tables["defaults"]["idle_timeout"] = 80 * 60
    tables["policies"]["policies.idle_warn_at"] = []
    with ledger.read() as view:
        book = Lawbook(tables, view)
        started = datetime.fromtimestamp((book.now_ms - age_min * 60_000) / 1000, UTC).isoformat()
        inspected = {"Id": MINE, "Name": "/work", "State": {"Running": True, "StartedAt": started}}
        engine: Any = SimpleNamespace(get=lambda _: inspected)
        life = Life(MINE, "work", 5001, 1, 0, "b", 0, idle_ms=idle_min * 60_000)
        found = list(decide.idle(container(), life, book, engine, demand=0))
    assert bool(found) is due


@pytest.mark.parametrize(
    ("kept_min", "due"), [(1, False), (120, False), (48 * 60, False), (400 * 1440, True), (-200, True)]
)
def test_who_is_kept_by_a_clock_that_ran_ahead_is_not_kept(
    tables: dict[str, Any], ledger: Ledger, kept_min: int, due: bool
) -> None:
    """Nobody is granted a year; what a maximum allowed that was shortened since still holds."""
    tables["defaults"] |= {"idle_timeout": 80 * 60, "policies.keepalive_max_duration": 120 * 60}
    tables["container_types"]["docker"]["idle_timeout"] = None
    with ledger.read() as view:
        book = Lawbook(tables, view)
        started = datetime.fromtimestamp((book.now_ms - 10 * HOUR) / 1000, UTC).isoformat()
        inspected = {"Id": MINE, "Name": "/work", "State": {"Running": True, "StartedAt": started}}
        engine: Any = SimpleNamespace(get=lambda _: inspected)
        kept = book.now_ms + kept_min * 60_000
        life = Life(MINE, "work", 5001, 1, 0, "b", 0, idle_ms=3 * HOUR, kept_until=kept)
        assert bool(list(decide.idle(container(), life, book, engine, demand=0))) is due
