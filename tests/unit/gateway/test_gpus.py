"""The allocator behind requests: what comes too late or is not wanted any more leaves no lease."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ds01.allocator.request import Request
from ds01.gateway import gpus as module
from ds01.gateway.gpu_request import Wish
from ds01.gateway.gpus import Gpus
from ds01.gateway.people import People, Person
from ds01.gateway.refusals import Refused
from ds01.ledger import Ledger
from ds01.ledger.leases import live
from ds01.ledger.waiting import waiting
from ds01.policy import Policy
from tests.allocation import UIDS
from tests.specs import spec_files
from tests.unit.ledger.conftest import ledger, path, time
from tests.unit.ledger.machine import IDS

__all__ = ["ledger", "path", "time"]

TABLES = Policy.model_validate(
    {
        "default_group": "student",
        "defaults": {"max_mig_instances": 3, "max_gpus_per_container": 4},
        "groups": {"student": {"members": ["alice"]}},
    }
).tables
ONE = Wish(Request(profile="2g.20gb"))
ALICE = Person(UIDS["alice"], 100, "alice", "/home/alice", frozenset(), frozenset())


class Desk:
    """The GPUs of a gateway on a ledger of its own."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.gpus = Gpus(Ledger(path), People(lambda: TABLES), spec_files(folder, IDS))
        self.gone = asyncio.Event()

    async def ask(self, wish: Wish = ONE, wait_s: int | None = None) -> str:
        return (await self.gpus.allocate(ALICE, wish, wait_s, self.gone)).token

    def left(self) -> tuple[int, int]:
        """How many leases there are, and how many requests wait."""
        with Ledger(self.path) as ledger, ledger.read() as view:
            return len(live(view)), len(waiting(view))

    async def until(self, leases: int, waits: int) -> None:
        async with asyncio.timeout(60):
            while self.left() != (leases, waits):  # noqa: ASYNC110 - the ledger tells nobody
                await asyncio.sleep(0.05)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody holds the ledger."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


@pytest.fixture
def place(ledger: Ledger, path: Path) -> Path:
    """The ledger knows the devices, and grants them."""
    ledger.close()
    return path


def test_what_comes_too_late_goes_back(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_ANSWER_S", 0.3)

    async def main() -> None:
        desk = Desk(place, tmp_path)
        with locked(place):
            with pytest.raises(Refused) as error:
                await desk.ask()
            assert error.value.status == 503
            for _ in range(3):
                other = asyncio.create_task(desk.ask())
                await asyncio.sleep(0.05)
                other.cancel()
        # In order: when this has an answer, the others have theirs.
        await asyncio.sleep(1)
        await desk.until(0, 0)
        # Whoever asks now has the time that an answer takes on a machine with much to do.
        desk.gpus._workers._deadline = 60
        token = await desk.ask()
        assert token
        assert desk.left() == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["gone", "cancelled", "late"])
def test_whoever_does_not_wait_any_more_is_out_of_the_queue(place: Path, tmp_path: Path, how: str):
    async def main() -> None:
        desk = Desk(place, tmp_path)
        tokens = [await desk.ask(Wish(Request.named([uuid]))) for uuid in IDS[1:3]]
        with pytest.raises(Refused) as error:
            await desk.ask(Wish(Request.named([IDS[1]])))
        assert error.value.status == 409
        task = asyncio.create_task(desk.ask(Wish(Request.named([IDS[1]])), 1 if how == "late" else 60))
        await desk.until(2, 1)
        if how == "gone":
            desk.gone.set()
        elif how == "cancelled":
            task.cancel()
        with pytest.raises((Refused, asyncio.CancelledError)):
            await task
        await desk.until(2, 0)
        desk.gpus.close(ALICE, tokens[0])
        await desk.until(1, 0)

    asyncio.run(main())


def test_a_refusal_is_in_the_form_of_the_api(place: Path, tmp_path: Path):
    async def main() -> Refused:
        desk = Desk(place, tmp_path)
        with pytest.raises(Refused) as error:
            await desk.ask(Wish(Request(count=4, profile="2g.20gb")))
        return error.value

    error = asyncio.run(main())
    facts: dict[str, Any] = dict(error.facts)
    assert (error.status, error.said) == (403, True)
    assert (facts["rule"], facts["current"], facts["requested"], facts["limit"]) == ("max_mig_instances", 0, 4, 3)
    assert facts["fix"] == error.fix


def test_what_somebody_removed_a_moment_ago_is_free_for_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The reconciler may take a second, and more where there is much to do; a script is faster."""
    monkeypatch.setattr(module, "_SETTLE_S", 60.0)

    async def main() -> None:
        desk = Desk(place, tmp_path)
        tokens = [await desk.ask() for _ in range(3)]
        desk.gpus.ended()
        later = asyncio.create_task(desk.ask())
        await asyncio.sleep(0.5)
        desk.gpus.close(ALICE, tokens[0])
        assert await later
        assert desk.left() == (3, 0)

    asyncio.run(main())
