"""What the monitor saw last, as people and administrators may see it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.desk import Desk
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.monitor import history
from ds01.policy import Policy
from tests.unit.api.samples import GIB, keep, sample
from tests.unit.ledger.conftest import path

__all__ = ["path"]
ROOT = Asker(0, "root", admin=True, via="command")
GAMES = Asker(5, "games", admin=False, via="docker.sock")
POLICY = {
    "default_group": "student",
    "defaults": {"aggregate": {"max_cpus": 8, "memory_max": "16g", "tasks_max": 500}},
    "groups": {"student": {"members": ["games", "mail"]}},
}


@pytest.fixture
def desk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(history, "HISTORY", tmp_path / "monitor" / "samples.db")
    with Ledger(path) as ledger:
        yield Desk(Policy.model_validate(POLICY).tables, ledger, specs=False, engine=Engine(tmp_path / "none"))


def asked(desk: Desk, asker: Asker) -> Any:
    return resources.answer(desk, asker, "GET", ["activity"])


def test_no_monitor_is_nothing_known(desk: Desk):
    found = asked(desk, ROOT)
    assert found == {"at": None, "age_s": None, "devices": None, "people": [], "logins": {}, "problems": []}


def test_an_old_sample_says_how_old_it_is_and_nothing_else(desk: Desk):
    keep(history.HISTORY, sample(age_s=600))
    found = asked(desk, ROOT)
    assert found["at"] is None
    assert found["age_s"] >= 600
    assert (found["devices"], found["people"], found["logins"], found["problems"]) == (None, [], {}, [])


def test_a_sample_of_before_the_boot_says_nothing(desk: Desk):
    keep(history.HISTORY, replace(sample(), boot="another"))
    assert (asked(desk, ROOT)["at"], asked(desk, ROOT)["age_s"]) == (None, None)


def test_how_many_cpus_are_in_use_takes_two_samples(desk: Desk):
    keep(history.HISTORY, sample(cpu_us=0))
    assert asked(desk, GAMES)["people"][0]["cpus"] is None
    first = sample(age_s=10, cpu_us=5_000_000)
    keep(history.HISTORY, first, replace(sample(cpu_us=30_000_000), boot_ms=first.boot_ms + 10_000))
    [mine] = asked(desk, GAMES)["people"]
    assert mine == {
        "user": "games", "group": "student", "cpus": 2.5, "cpus_max": 8, "memory": 4 * GIB, "memory_max": 16 * GIB,
        "tasks": 120, "tasks_max": 500,
    }  # fmt: skip


def test_what_is_of_others_only_administrators_see(desk: Desk):
    keep(history.HISTORY, sample())
    whole, mine = asked(desk, ROOT), asked(desk, GAMES)
    assert [one["user"] for one in whole["people"]] == ["games", "mail"]
    assert [one["user"] for one in mine["people"]] == ["games"]
    assert (whole["logins"], mine["logins"]) == ({"games": 2, "mail": 1}, {"games": 2})
    assert (len(whole["problems"]), mine["problems"]) == (1, [])
    seen = {one["id"]: one["processes"] for one in mine["devices"]}
    assert seen["0"] == {"count": 1, "listed": []}
    assert [one["pid"] for one in seen["1:1"]["listed"]] == [41]
    assert seen["1:2"] == {"count": None, "listed": None}
    assert [one["user"] for one in whole["devices"][0]["processes"]["listed"]] == ["root"]
    # How busy a device is explains to everybody what is worth waiting for.
    assert [one["busy"] for one in mine["devices"]] == [95.0, 3.0, None, None]
