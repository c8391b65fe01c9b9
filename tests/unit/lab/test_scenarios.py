"""Molecule passes over what is missing; the runner does not."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from lab import scenarios
from lab.process import LabError


@pytest.mark.parametrize(
    "line",
    [
        "default : actions=11  successful=8  disabled=0  skipped=0  missing=1  failed=0",
        "WARNING  default ➜ side_effect: Executed: Missing playbook (Remove from test_sequence to suppress)",
        "collected 0 items",
        "Skipping, no tests found.",
    ],
)
def test_what_was_not_run_is_noticed(line):
    assert scenarios.passed_over([line]) == [line]


@pytest.mark.parametrize("line", ["actions=11  successful=9  missing=0  failed=0", "collected 10 items"])
def test_what_was_run_is_not_taken_for_missing(line):
    assert scenarios.passed_over([line]) == []


def test_every_scenario_has_an_inventory_and_tests():
    for name in scenarios.names():
        scenario = scenarios.ROOT / "molecule" / name
        assert (scenario / "inventory" / "hosts.yml").is_file(), name


def test_no_test_is_left_out():
    """A filter in a settings file once kept a whole kind of tests from running, for weeks, and everything was green."""
    settings = tomllib.loads((scenarios.ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert not {"python_files", "norecursedirs", "collect_ignore"} & set(settings)
    assert not re.search(r"(^| )(-m|-k|--ignore|--deselect)", str(settings.get("addopts", "")))
    run = re.findall(r"pytest (.*)", (scenarios.ROOT / "Makefile").read_text())
    folders = {word for line in run for word in line.split() if word.startswith("tests/")}
    there = {path.relative_to(scenarios.ROOT) for path in (scenarios.ROOT / "tests").rglob("test_*.py")}
    assert len(there) > 100
    assert {path for path in there if not any(path.is_relative_to(folder) for folder in folders)} == set()


def test_an_unknown_name_ends_the_run_before_it_begins():
    with pytest.raises(LabError, match="default"):
        scenarios.run_all(["default", "nonsense"])


def test_one_that_fails_is_said_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    molecule = tmp_path / "molecule"
    molecule.write_text(f'#!/bin/sh\ntouch {tmp_path}/$4.ran\n[ "$4" != mig ]\n')
    molecule.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(scenarios, "CACHE", scenarios.ROOT / ".cache" / "test-scenarios")
    with pytest.raises(LabError, match=r"^scenarios failed: mig$"):
        scenarios.run_all(["mig", "default", "remove"])
    assert {path.stem for path in tmp_path.glob("*.ran")} == {"default", "mig", "remove"}


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_runs_beside_them_and_counts_as_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
):
    begun, met = tmp_path / "begun", tmp_path / "met"
    molecule = tmp_path / "molecule"
    # It ends when the command has begun, and the command when it has.
    molecule.write_text(f'#!/bin/sh\ntouch {met}\n[ "$4" != mig ] || until [ -e {begun} ]; do sleep 0.05; done\n')
    molecule.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(scenarios, "CACHE", scenarios.ROOT / ".cache" / "test-scenarios")
    script = f"touch {begun}; until [ -e {met} ]; do sleep 0.05; done; echo all; echo said; exit {status}"
    command = f"sh -c '{script}'"
    if status == 0:
        scenarios.run_all(["mig", "default"], command)
        assert "s: said" in capsys.readouterr().err
    else:
        with pytest.raises(LabError, match=r"^scenarios failed: sh -c "):
            scenarios.run_all(["mig", "default"], command)
        assert "failed (exit status 3):\nall\nsaid\n" in capsys.readouterr().err
