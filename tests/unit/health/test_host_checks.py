"""What the health check finds on a host: known escapes, full disks, specs that give too much; and what it mends."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ds01 import events
from ds01.cli.health import health
from ds01.health import gpus, host, run, services
from ds01.health.model import Check, failed, ok, warning
from ds01.ledger import Ledger
from ds01.ledger.leases import grant, open_claim
from tests.unit.ledger.conftest import path

__all__ = ["path"]
FIXED = ((1, 2, 8), (1, 3, 3))
NUMBER = st.integers(0, 20)


@pytest.mark.parametrize(
    ("version", "is_open"),
    [
        ("1.1.15", True), ("1.1.15+ds1", True), ("1.2.7", True), ("1.2.8", False), ("1.3.2", True), ("1.3.3", False),
        ("1.3.3-rc1", False), ("1.4.0", False), ("2.0.0", False),
    ],
)  # fmt: skip
def test_each_branch_has_its_own_correction(version: str, is_open: bool):
    assert host.is_open(version, FIXED) is is_open


@given(st.tuples(NUMBER, NUMBER, NUMBER), st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=4))
def test_what_is_corrected_stays_so(version: tuple[int, int, int], fixed: list[tuple[int, int, int]]):
    newest = max(fixed)
    assert not host.is_open(".".join(map(str, newest)), (newest,))
    text = ".".join(map(str, version))
    if not host.is_open(text, (newest,)):
        assert version >= newest


def test_a_correction_of_the_distribution_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = SimpleNamespace(stdout="runc version 1.1.15+ds1\n", returncode=0)
    monkeypatch.setattr(host, "run", lambda *argv: found if argv[0] == "runc" else SimpleNamespace(stdout=""))
    monkeypatch.setattr(host, "toolkit_version", lambda: "")
    monkeypatch.setattr(host, "_DOCUMENTS", tmp_path)
    assert "CVE-2025-31133 (runc 1.1.15)" in host.check_escapes().detail
    assert "CVE-2024-21626" not in host.check_escapes().detail
    (tmp_path / "runc").mkdir()
    with gzip.open(tmp_path / "runc" / "changelog.Debian.gz", "wt") as text:
        text.write("CVE-2025-31133 CVE-2025-52565 CVE-2025-52881")
    assert host.check_escapes().status == "ok"
    monkeypatch.setattr(host, "toolkit_version", lambda: "1.17.7")
    assert "CVE-2025-23266 (nvidia-container-toolkit 1.17.7)" in host.check_escapes().detail


@pytest.mark.parametrize(("left", "status"), [(0.5, "ok"), (0.05, "warning"), (0.01, "failed"), (0.0, "failed")])
def test_a_full_disk_is_found_by_bytes_and_by_files(monkeypatch: pytest.MonkeyPatch, left: float, status: str):
    for bytes_left, files_left in ((left, 0.9), (0.9, left)):
        found = SimpleNamespace(f_blocks=1000, f_bavail=1000 * bytes_left, f_files=1000, f_favail=1000 * files_left)
        monkeypatch.setattr(os, "statvfs", lambda _, found=found: found)
        assert host.check_disk().status == status


def test_a_late_timer_is_found(monkeypatch: pytest.MonkeyPatch):
    listed = [{"next": 1_000_000_000, "unit": "ds01-a.timer"}, {"next": 2_000_000_000, "unit": "ds01-b.timer"},
              {"next": None, "unit": "ds01-c.timer"}]  # fmt: skip
    monkeypatch.setattr(services, "run", lambda *_: SimpleNamespace(stdout=json.dumps(listed)))
    assert services._late(1_700.0) == ["ds01-a.timer"]


def test_a_spec_that_gives_what_nobody_holds_is_found(path: Path, monkeypatch: pytest.MonkeyPatch):
    given_by: dict[str, tuple[str, ...]] = {}
    monkeypatch.setattr(gpus, "Ledger", lambda: Ledger(path))
    monkeypatch.setattr(gpus, "SpecFiles", lambda: SimpleNamespace(given=lambda: given_by))
    with Ledger(path) as ledger, ledger.transaction() as tx:
        token = open_claim(tx, uid=5, user="games", group_name="g", priority=1, request="{}").token
        grant(tx, token, "MIG-1-0", expires=tx.now + 1000)
    assert gpus.check_specs().status == "warning"
    given_by[token] = ("MIG-1-0",)
    assert gpus.check_specs().status == "ok"
    given_by[token] = ("MIG-1-0", "MIG-1-1")
    found = gpus.check_specs()
    assert (found.status, found.repair) == ("failed", ("ds01", "enforce", "reconcile"))


def test_fix_runs_each_safe_repair_once_and_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log, done = tmp_path / "events.jsonl", tmp_path / "done"
    monkeypatch.setattr(events, "EVENTS_FILE", log)
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "journal")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    repair = ("sh", "-c", f"echo mended >>{done}")

    def checks(*_: object, **__: object) -> list[Check]:
        wrong = failed("slices", "wrong", "by hand", repair), warning("specs", "too", "by hand", repair)
        return [ok("a", "well")] if done.exists() else [*wrong, failed("disk", "full", "delete something")]

    monkeypatch.setattr(run, "run_checks", checks)
    assert CliRunner().invoke(health).exit_code == 2
    assert json.loads(log.read_text().splitlines()[-1])["type"] == "health.fail"
    assert not done.exists()
    said = CliRunner().invoke(health, ["--fix", "--json"])
    assert (said.exit_code, done.read_text()) == (0, "mended\n")
    assert json.loads(said.stdout)["checks"][0]["name"] == "a"
    assert json.loads(log.read_text().splitlines()[-1])["type"] == "health.ok"
