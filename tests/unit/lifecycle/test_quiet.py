"""Who looks idle where nothing can prove it is asked, and never stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ds01.ledger import Ledger, lifecycle
from ds01.ledger.lifecycle import Life
from ds01.lifecycle import passes
from ds01.lifecycle.idle import State
from ds01.lifecycle.passes import follow
from ds01.lifecycle.quiet import Quiets
from ds01.lifecycle.rules import Lawbook
from ds01.monitor.history import History
from ds01.monitor.model import DeviceSample, Sample
from tests.unit.ledger.machine import Time
from tests.unit.lifecycle.test_idle import HOUR, MINE, STEP, device, process, sample, verdict

TICKS = iter(range(10**9))
LITTLE, MUCH = 15_000 * 10, 15_000 * 10 * 3
"""Microseconds of CPU time in a step: 1 and 3 % of a CPU."""


def notebook(**others: Any) -> DeviceSample:
    """A MIG instance without counters, with a process that wakes up now and then."""
    return device(processes=(process(cpu_ticks=next(TICKS), **others),))


@pytest.mark.parametrize(
    ("before", "after", "cpu_us", "quiet"),
    [
        (notebook(), notebook(), LITTLE, True),
        (notebook(), notebook(), MUCH, False),
        (notebook(), notebook(memory=1), LITTLE, False),
        (notebook(memory=None), notebook(memory=None), LITTLE, False),
        (notebook(), notebook(start_ticks=71), LITTLE, False),
        (device(processes=None), device(processes=None), LITTLE, False),
        (device(), notebook(kind="unknown"), LITTLE, False),
    ],
)
def test_only_what_shows_no_sign_of_work_at_all_looks_idle(
    before: DeviceSample, after: DeviceSample, cpu_us: int, *, quiet: bool
) -> None:
    found = verdict(sample(before, at=0), sample(after, cpu_us=cpu_us))
    assert found is not None
    assert (found.state, found.quiet) == (State.UNKNOWN, quiet)
    # A second device that is as busy as can be speaks for it.
    busy = device(1, busy=90.0, processes=(process(),))
    found = verdict(sample(before, busy, at=0), sample(after, busy, cpu_us=cpu_us))
    assert found is not None
    assert not found.quiet


def test_only_an_unbroken_look_of_idleness_counts(book: Lawbook) -> None:
    def looks(*cpu: int, step: int = STEP) -> list[Sample]:
        used = 0
        return [sample(notebook(), at=at * step, cpu_us=(used := used + us)) for at, us in enumerate(cpu, 1)]

    def quiet(samples: list[Sample]) -> int:
        quiets: Quiets = {}
        assert all(life.idle_ms == 0 for life in follow(samples, {}, book, quiets=quiets).values())
        return quiets[MINE].ms if MINE in quiets else 0

    assert quiet(looks(*[0] * 41)) == 40 * STEP
    assert quiet(looks(*[0] * 20, MUCH, *[0] * 10)) == 10 * STEP
    assert quiet(looks(*[0] * 20, step=120_000)) == 0
    again = [*looks(*[0] * 20), *(sample(notebook(), at=HOUR + at * STEP) for at in range(5))]
    assert quiet(again) == 4 * STEP


class Lab:
    """Looks of the monitor at one notebook, and the pass after each quarter of an hour."""

    def __init__(self, tmp_path: Path, path: Path, time: Time, ledger: Ledger, tables: dict[str, Any]) -> None:
        self.time, self.ledger, self.tables = time, ledger, tables
        self.history = History(tmp_path / "samples.db")
        self.place = passes.Place(
            ledger=path, history=tmp_path / "samples.db", engine=tmp_path / "no-engine", tables=lambda _: tables,
            clock=time, patience_s=0,
        )  # fmt: skip

    def pass_time(self, quarters: int) -> None:
        for _ in range(quarters):
            for _ in range(15):
                self.time.spend(60_000)
                now = self.time()
                look = sample(notebook(), boot=now.boot, at=now.boot_ms)
                self.history.add(look)
            assert passes.idle(self.place).lines == []

    def told(self) -> list[str]:
        with self.ledger.read() as view:
            return [one.text for one in lifecycle.notices(view, 5001) if one.kind == "notice"]


@pytest.fixture
def lab(tmp_path: Path, path: Path, time: Time, ledger: Ledger, tables: dict[str, Any]) -> Iterator[Lab]:
    found = Lab(tmp_path, path, time, ledger, tables)
    yield found
    found.history.close()


def test_owners_are_asked_once_a_day_and_nothing_ends(lab: Lab) -> None:
    lab.pass_time(4)
    assert lab.told() == []
    lab.pass_time(5)
    (text,) = lab.told()
    assert "Nothing is stopped for this" in text
    assert "docker stop work" in text
    lab.pass_time(24 * 4)
    assert lab.told() == [text, text]


def test_who_keeps_it_is_not_asked_nor_anybody_in_a_rehearsal(lab: Lab) -> None:
    with lab.ledger.transaction() as tx:
        lifecycle.observed(tx, Life(MINE, "work._.5001", 5001, 1, 0, "", 0))
        lifecycle.keep(tx, MINE, tx.now + 3 * HOUR, 0)
    lab.pass_time(8)
    assert lab.told() == []
    lab.tables["policies"]["policies.rehearse"] = True
    lab.pass_time(8)
    assert lab.told() == []
