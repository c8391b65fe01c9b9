"""Devices at the start of somebody else's reservation, with a real ledger and a socket that answers as the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ds01.allocator.answers import Allocation
from ds01.allocator.people import People
from ds01.allocator.request import Request
from ds01.allocator.reservations import NOTICE_MS, Wish, reserve
from ds01.allocator.service import Allocator
from ds01.enforce import displace
from ds01.enforce.displace import TOLD_MS, Displacer
from ds01.engine.api import Engine
from ds01.ledger import Ledger
from ds01.ledger.leases import leases_of
from ds01.ledger.lifecycle import Notice, notices
from ds01.reconcile.apply import Outcome
from tests.allocation import HOUR, UIDS, lab_policy
from tests.unit.enforce.test_restart import Answers, answers
from tests.unit.ledger.conftest import ledger, path, time
from tests.unit.ledger.machine import Time
from tests.unit.reconcile.world import event_log

__all__ = ["answers", "event_log", "ledger", "path", "time"]

DISPLACES = {"gpu_allocation": {"reservations_displace": True}}


class Room:
    """Alice's container runs on the device that Bob has reserved from five hours from now on."""

    def __init__(self, ledger: Ledger, time: Time, people: People, *, starts_in: int = 5 * HOUR) -> None:
        self.ledger, self.time = ledger, time
        self.allocator = Allocator(ledger, people, None, record=lambda **_: None)
        self.displacer, self.outcome = Displacer(), Outcome()
        self.token = self.runs("alice")
        with self.allocator.change() as (tx, facts):
            wish = Wish("bob", None, time.wall + starts_in, time.wall + 9 * HOUR, ("1:0",))
            person = people.person(UIDS["bob"], "bob", time.wall)
            made = reserve(tx, people, wish, person=person, created_by="test", facts=facts)
        assert isinstance(made, tuple)

    def runs(self, name: str) -> str:
        person = self.allocator.people.person(UIDS[name], name, self.time.wall)
        answer = self.allocator.allocate(person, Request.named(["1:0"]))
        assert isinstance(answer, Allocation)
        self.allocator.bind(answer.token, f"c-{name}", name)
        assert isinstance(self.allocator.start(answer.token), Allocation)
        return answer.token

    def look(self) -> None:
        """One pass of the reconciler's, as far as reservations go."""
        held = self.allocator.turn_reservations()
        self.displacer.clear(self.allocator, self.ledger, held, self.outcome)
        self.displacer.wait()

    def states(self) -> list[str]:
        with self.ledger.read() as view:
            return [lease.state for lease in leases_of(view, self.token)]

    def told(self) -> list[Notice]:
        """What Alice finds in her notices."""
        with self.ledger.read() as view:
            return notices(view, UIDS["alice"])


@pytest.fixture(autouse=True)
def _engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displace, "Engine", lambda: Engine(tmp_path / "engine.sock"))


def test_who_runs_there_is_warned_twice_and_then_stopped(
    ledger: Ledger, time: Time, answers: type[Answers], event_log: Path
):
    room = Room(ledger, time, lab_policy(**DISPLACES))
    time.spend(5 * HOUR - NOTICE_MS)
    room.look()
    time.spend(NOTICE_MS - 1)
    room.look()
    assert answers.started == []
    time.spend(1)
    room.look()
    assert answers.started == ["/containers/c-alice/stop?t=60"]
    assert [notice.kind for notice in room.told()] == ["warning", "warning", "stopped"]
    (event,) = [json.loads(line) for line in event_log.read_text().splitlines()]
    assert (event["type"], event["decision"], event["subject"]["name"]) == ("lifecycle.stop", "stopped", "alice")
    assert "bob" in event["reason"]
    # The engine says that it ended: its hold ends at once, and Bob has his device.
    room.allocator.stop(room.token)
    assert room.states() == ["held"]
    room.look()
    assert room.states() == []
    room.runs("bob")


def test_without_a_word_in_the_policy_nothing_that_runs_is_stopped(ledger: Ledger, time: Time, answers: type[Answers]):
    room = Room(ledger, time, lab_policy())
    for _ in range(3):
        time.spend(2 * HOUR)
        room.look()
    assert answers.started == []
    assert room.states() == ["running"]
    room.allocator.stop(room.token)
    room.look()
    assert room.states() == [], "what does not run is given up"


def test_nobody_is_stopped_who_was_told_a_moment_ago(ledger: Ledger, time: Time, answers: type[Answers]):
    room = Room(ledger, time, lab_policy(**DISPLACES), starts_in=1)
    time.spend(1)
    room.look()
    time.spend(TOLD_MS - 1)
    room.look()
    assert answers.started == []
    time.spend(1)
    room.look()
    assert len(answers.started) == 1


def test_an_engine_that_does_not_stop_it_is_asked_again(
    ledger: Ledger, time: Time, answers: type[Answers], event_log: Path
):
    answers.code = 500
    room = Room(ledger, time, lab_policy(**DISPLACES))
    time.spend(5 * HOUR)
    room.look()
    time.spend(TOLD_MS)
    for _ in range(2):
        room.look()
    assert len(answers.started) == 2
    assert {json.loads(line)["decision"] for line in event_log.read_text().splitlines()} == {"failed"}
    assert room.states() == ["running"]
