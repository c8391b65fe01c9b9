import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01.ledger import Ledger, create
from ds01.ledger.devices import take_inventory
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from tests.unit.ledger.machine import GPUS, Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A ledger that was compared with a machine of four devices."""
    yield from compared(tmp_path)


@pytest.fixture
def path_in_memory() -> Iterator[Path]:
    """The same where nothing waits for a disk: for what is killed hundreds of times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield from compared(Path(folder))


def compared(folder: Path) -> Iterator[Path]:
    found = folder / "ledger.db"
    create(found)
    with Ledger(found) as ledger, ledger.transaction() as tx:
        take_inventory(tx, GPUS)
        tx.set_verified()
    yield found
    Turn(turn_path(found)).destroy()


@pytest.fixture
def ledger(path: Path, time: Time) -> Iterator[Ledger]:
    with Ledger(path, clock=time) as opened:
        yield opened
