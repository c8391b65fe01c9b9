"""Processes that are killed at any statement, and many at once: nothing is given twice, and nothing leaks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ds01.ledger import Ledger
from ds01.ledger.backup import check
from ds01.ledger.leases import live
from tests.unit.allocator.killing import AFTER

ROOT = Path(__file__).parents[3]


def script(name: str, *arguments: object) -> Any:
    command = [sys.executable, "-m", f"tests.unit.allocator.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_kill_at_any_statement_or_file_is_made_good_by_the_same_step_or_by_time(path_in_memory: Path):
    found = Counter(script("killing", path_in_memory))
    assert found.keys() == set(AFTER), "each stage was reached, and nothing else"
    assert found.total() > 200


def test_a_crowd_never_shares_a_device_nor_names_one_twice(path_in_memory: Path):
    people, requests = 32, 20
    found = script("crowd", path_in_memory, people, requests)
    assert found["failed"] == 0
    assert "internal" not in found
    assert sum(found.values()) == people * requests
    assert found["granted"] > requests
    check(path_in_memory)
    with Ledger(path_in_memory) as ledger, ledger.read() as view:
        assert live(view) == []
