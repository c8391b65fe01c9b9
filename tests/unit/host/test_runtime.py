"""Versions side by side: what counts, what is chosen, what is removed, and what a version is called."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from ds01.host import bundle, runtime

ROOT = Path(__file__).parents[3]
NAMES = [f"0.1.{number}-0000000{number}" for number in range(5)]


@pytest.fixture
def installations(tmp_path: Path) -> runtime.Runtime:
    (tmp_path / "bin").mkdir()
    found = runtime.Runtime(tmp_path / "opt", tmp_path / "bin" / "ds01")
    for age, name in enumerate(NAMES):
        place = found.home / name
        (place / "bin").mkdir(parents=True)
        mark = place / ".complete"
        needs = runtime.target()
        mark.write_text(f"{needs.python} {needs.machine}\n", encoding="ascii")
        os.utime(mark, (age, age))
    return found


def test_a_version_without_its_mark_does_not_count(installations: runtime.Runtime):
    (installations.home / NAMES[4] / ".complete").unlink()
    assert not installations.complete(NAMES[4])
    assert installations.installed() == NAMES[:4]


def test_a_version_for_another_python_does_not_count(installations: runtime.Runtime):
    (installations.home / NAMES[4] / ".complete").write_text("3.9 x86_64\n", encoding="ascii")
    assert not installations.complete(NAMES[4])


def test_the_link_leads_to_what_was_chosen(installations: runtime.Runtime):
    assert installations.current() is None
    for name in (NAMES[4], NAMES[2]):
        installations.use(name)
        assert installations.in_use(name)
        assert (installations.home / "current").resolve().name == name
        for command in (installations.command, installations.command.with_name("check-limits")):
            assert command.readlink() == installations.home / "current/bin/ds01"
    installations.command.with_name("ds01-status").unlink()
    assert not installations.in_use(NAMES[2])


def test_the_previous_two_stay(installations: runtime.Runtime):
    (installations.home / "0.2.0-99999999").mkdir()
    assert sorted(installations.prune(NAMES[4])) == [*NAMES[:2], "0.2.0-99999999"]
    assert installations.installed() == NAMES[2:]
    assert installations.prune(NAMES[4]) == []


def test_going_back_keeps_what_one_comes_from(installations: runtime.Runtime):
    installations.prune(NAMES[2])
    assert installations.installed() == NAMES[2:]


def test_removing_takes_everything(installations: runtime.Runtime):
    installations.use(NAMES[0])
    assert installations.remove()
    assert not installations.home.exists()
    assert list(installations.command.parent.iterdir()) == []
    assert not installations.remove()


def test_a_command_of_somebody_else_stays(installations: runtime.Runtime):
    installations.command.symlink_to("/usr/bin/true")
    installations.remove()
    assert installations.command.is_symlink()


def test_a_name_that_leads_elsewhere_is_refused(installations: runtime.Runtime, tmp_path: Path):
    with pytest.raises(runtime.RuntimeProblemError, match="not a version"):
        installations.install("../etc", tmp_path / "bundle")


def _copy_of_the_source(target: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src/ds01", target / "src/ds01", ignore=ignored)
    (target / "requirements").mkdir()
    for name in ("pyproject.toml", "requirements/runtime.txt"):
        shutil.copyfile(ROOT / name, target / name)
    return target


def test_the_name_is_made_of_the_content(tmp_path: Path):
    copy = _copy_of_the_source(tmp_path)
    name = bundle.name(copy)
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{8}", name)
    (copy / "src/ds01/__pycache__").mkdir()
    (copy / "src/ds01/__pycache__/x.pyc").write_bytes(b"x")
    assert bundle.name(copy) == name
    (copy / "src/ds01/files.py").write_text("changed", encoding="utf-8")
    changed = bundle.name(copy)
    assert changed != name
    (copy / "requirements/runtime.txt").write_text("click==1.0\n", encoding="utf-8")
    assert bundle.name(copy) not in {name, changed}


def test_no_source_tree_is_said(tmp_path: Path):
    with pytest.raises(bundle.BundleError, match="pyproject"):
        bundle.name(tmp_path)


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8")
    pinned = {name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)==", pins, flags=re.MULTILINE)}
    assert {re.split(r"[<>=]", entry)[0].lower() for entry in project["dependencies"]} <= pinned
