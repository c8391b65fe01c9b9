"""A monitor that does not look any more is noticed, and a container that nobody with an account owns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ds01.health import monitor
from ds01.health.model import Status
from ds01.ledger import system_clock
from ds01.monitor import history
from ds01.monitor.model import Sample
from tests.unit.monitor.conftest import run_by


def test_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.json"
    monkeypatch.setattr(monitor, "read_latest", lambda: history.read_latest(path))
    monkeypatch.setattr(monitor, "_FIRST_S", 0.1)
    assert monitor.check_monitor().status is Status.FAILED
    now = system_clock()
    good = Sample(at=now.wall_ms, boot=now.boot, boot_ms=now.boot_ms, took_ms=1)
    for sample, status in (
        (good, Status.OK),
        (replace(good, problems=("the engine does not answer",)), Status.WARNING),
        (replace(good, boot_ms=now.boot_ms - 200_000), Status.FAILED),
        (replace(good, boot="another"), Status.FAILED),
    ):
        history.write_latest(sample, path)
        found = monitor.check_monitor()
        assert found.status is status
        assert bool(found.fix) is (status is not Status.OK)


def test_who_has_no_account_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latest.json"
    monkeypatch.setattr(monitor, "read_latest", lambda: history.read_latest(path))
    assert monitor.check_owners().status is Status.OK
    now = system_clock()
    mine, gone, stopped, nobodys = (
        run_by("mine", 0), run_by("gone", 4_000_000_001), run_by("off", 4_000_000_001, running=False),
        run_by("old", None),
    )  # fmt: skip
    good = Sample(at=now.wall_ms, boot=now.boot, boot_ms=now.boot_ms, took_ms=1)
    history.write_latest(replace(good, containers=(mine, stopped, nobodys)), path)
    assert monitor.check_owners().status is Status.OK
    history.write_latest(replace(good, containers=(mine, gone, stopped, nobodys)), path)
    found = monitor.check_owners()
    assert (found.status, found.detail.rpartition(": ")[2]) == (Status.WARNING, "gone (uid 4000000001)")
    assert "docker stop" in found.fix
