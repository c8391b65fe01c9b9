"""The pass of each minute: cheap to start, and nothing that keeps one job from its work keeps another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ds01.engine.api import Engine
from ds01.ledger import Ledger, LedgerMissingError, lifecycle
from ds01.ledger.lifecycle import Life
from ds01.lifecycle import passes
from ds01.lifecycle.acts import Act, carry_out
from ds01.monitor.history import History


def place(tmp_path: Path, ledger: Path, tables: dict[str, Any]) -> passes.Place:
    return passes.Place(
        ledger=ledger, history=tmp_path / "samples.db", engine=tmp_path / "no-engine", tables=lambda _: tables,
        patience_s=0,
    )  # fmt: skip


def test_it_loads_nothing_that_takes_long() -> None:
    """A process is started for it each minute: the validator alone would take longer than all its work."""
    program = "import sys, ds01.cli.main, ds01.cli.enforce, ds01.lifecycle.passes; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pydantic", "yaml", "pynvml", "docker", "asyncio", "concurrent.futures", "ds01.gpu.nvml", "rich"}
    assert heavy.isdisjoint(loaded)


def test_what_keeps_one_job_keeps_no_other(
    tmp_path: Path, path: Path, ledger: Ledger, tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del ledger  # It made the file.
    where = place(tmp_path, path, tables)
    # Without samples nothing is known of idleness; that the engine is away is found by the other jobs.
    outcome = passes.everything(where)
    assert ["no samples yet" in line for line in outcome.lines] == [True]
    assert ["no answer from the engine" in line for line in outcome.problems] == [True]
    History(where.history).close()
    outcome = passes.everything(where)
    assert (outcome.lines, len(outcome.problems)) == ([], 1)
    done = passes.Outcome(["stopped"], [])
    monkeypatch.setattr(passes, "_by_time", lambda *_, **__: done)
    where.history.write_bytes(b"no database" * 100)
    outcome = passes.everything(where)
    assert outcome.lines == ["stopped"]
    assert ["the samples cannot be read" in line for line in outcome.problems] == [True]


def test_without_a_ledger_nothing_is_done(tmp_path: Path, tables: dict[str, Any]) -> None:
    with pytest.raises(LedgerMissingError):
        passes.everything(place(tmp_path, tmp_path / "none.db", tables))


def test_who_gets_more_time_while_others_are_stopped_is_spared(tmp_path: Path, ledger: Ledger) -> None:
    """Sixteen are stopped at once, each with its grace: minutes may pass between the judgement and a stop."""
    nobody = Engine(tmp_path / "no-engine")
    act = Act("stop", "c" * 64, "work", 5001, "alice", "max_runtime", "defaults", "over", "", granted=(None, 0))
    with ledger.transaction() as tx:
        lifecycle.observed(tx, Life(act.container, "work", 5001, 1, tx.now, "b", 0))
    # As it was judged: it would be ended, if there was an engine.
    assert len(carry_out(nobody, ledger, [act], dry_run=False).problems) == 1
    for more in (lifecycle.extend, lambda tx, container, by: lifecycle.keep(tx, container, tx.now + by, by)):
        with ledger.transaction() as tx:
            more(tx, act.container, 60_000)
        outcome = carry_out(nobody, ledger, [act], dry_run=False)
        assert (outcome.lines, outcome.problems) == ([], [])
