from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ds01.allocator.model import Person
from ds01.allocator.people import People
from ds01.allocator.service import Allocator
from ds01.ledger import Ledger
from tests.allocation import UIDS, lab_policy
from tests.unit.ledger.conftest import ledger, path, path_in_memory, time
from tests.unit.ledger.machine import Time

__all__ = ["ledger", "path", "path_in_memory", "time"]


class Desk:
    """An allocator with its events, and people by name."""

    def __init__(self, ledger: Ledger, people: People, time: Time) -> None:
        self.facts: list[dict[str, Any]] = []
        self.time, self.people = time, people
        self.allocator = Allocator(ledger, people, None, record=lambda **fact: self.facts.append(fact))

    def who(self, name: str) -> Person:
        return self.people.person(UIDS[name], name, self.time.wall)


@pytest.fixture
def desk(ledger: Ledger, time: Time) -> Desk:
    return Desk(ledger, lab_policy(), time)


@pytest.fixture
def desk_with(path: Path, time: Time) -> Callable[..., Desk]:
    return lambda **sections: Desk(Ledger(path, clock=time), lab_policy(**sections), time)
