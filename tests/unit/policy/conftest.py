"""Helpers for tests of the policy: real files in a temporary directory, nothing replaced."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from ds01.policy import LoadedPolicy, PolicyError, Problem, load_policy

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BASE = "default_group: student\ndefaults: {max_gpu_equivalents: 1}\ngroups: {student: {members: [alice]}}\n"


class Lab(Protocol):
    def __call__(self, text: str, **files: str) -> Path: ...


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Write a policy, and beside it files given by name with `__` for `/` and `_dot_` for `.`."""

    def write(text: str, **files: str) -> Path:
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        policy = tmp_path / "policy.yaml"
        policy.write_text(text, encoding="utf-8")
        return policy

    return write


@pytest.fixture
def load(lab: Lab) -> Callable[..., LoadedPolicy]:
    """Load a policy given as text."""

    def loaded(text: str, **files: str) -> LoadedPolicy:
        return load_policy(lab(text, **files), now=NOW)

    return loaded


@pytest.fixture
def findings(lab: Lab) -> Callable[..., list[Problem]]:
    """Return every finding about a policy given as text, errors first."""

    def found(text: str, **files: str) -> list[Problem]:
        try:
            return list(load_policy(lab(text, **files), now=NOW).warnings)
        except PolicyError as error:
            return list(error.problems)

    return found
