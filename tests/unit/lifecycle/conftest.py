"""A ledger, a policy, and the limits that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ds01.ledger import Ledger
from ds01.lifecycle.rules import Lawbook
from ds01.policy import load_policy
from tests.unit.ledger.conftest import ledger, path, time

__all__ = ["ledger", "path", "time"]

POLICY = """
default_group: student
defaults: {max_runtime: 10h, idle_timeout: 1h, container_hold_after_stop: 1h}
groups: {student: {members: [alice, bob]}}
container_types: {docker: {idle_timeout: 1h, max_runtime: 10h, sigterm_grace: 3s}}
policies: {runtime_warn_at: [0.75, 0.9], keepalive_max_duration: 4h, extend_max_duration: 2h}
user_overrides: {bob: {max_runtime: 20h, reason: thesis, approved_by: carol, expires: 2099-01-01}}
exemptions: [{user: bob, exempt_from: [idle_timeout], reason: teaching, expires: 2026-11-30}]
"""


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    """The tables of a policy."""
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(POLICY)))
    found: dict[str, Any] = load_policy(file).policy.tables
    return found


@pytest.fixture
def book(tables: dict[str, Any], ledger: Ledger) -> Iterator[Lawbook]:
    """The limits at the ledger's present."""
    with ledger.read() as view:
        yield Lawbook(tables, view)
