"""The CDI specs follow the leases, whoever ends or begins them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ds01.allocator.answers import Allocation, Queued
from ds01.allocator.model import Person, Refusal
from ds01.allocator.request import Request
from ds01.allocator.service import Allocator
from ds01.cdi.spec import CdiError
from ds01.ledger import Ledger
from ds01.ledger.leases import leases_of
from tests.allocation import UIDS, lab_policy
from tests.specs import check_specs, given, spec_files
from tests.unit.ledger.machine import IDS, Time

MINUTE = 60_000


class Lab:
    """An allocator with specs. Carol's devices are free at once after a stop, alice's held for 15 minutes."""

    def __init__(self, ledger: Ledger, folder: Path, time: Time) -> None:
        self.ledger, self.time = ledger, time
        self.files = spec_files(folder, IDS)
        self.facts: list[dict[str, Any]] = []
        self.allocator = Allocator(ledger, lab_policy(), self.files, record=lambda **fact: self.facts.append(fact))

    def who(self, name: str) -> Person:
        return self.allocator.people.person(UIDS[name], name, self.time.wall)

    def granted(self, name: str, request: Request | None = None) -> str:
        answer = self.allocator.allocate(self.who(name), request or Request())
        assert isinstance(answer, Allocation)
        return answer.token

    def runs(self, name: str) -> str:
        token = self.granted(name)
        self.allocator.bind(token, f"c-{token}", name)
        assert isinstance(self.allocator.start(token), Allocation)
        return token

    def specs(self) -> dict[str, tuple[str, ...]]:
        with self.ledger.read() as view:
            assert check_specs(self.files, view), "something that is held has no spec"
        return given(self.files.live)


@pytest.fixture
def lab(ledger: Ledger, tmp_path: Path, time: Time) -> Lab:
    return Lab(ledger, tmp_path, time)


def stop_without_hold(lab: Lab) -> None:
    lab.allocator.stop(lab.runs("carol"))


def expire_a_hold(lab: Lab) -> None:
    lab.allocator.stop(lab.runs("alice"))
    assert lab.specs(), "what is held may be started again"
    lab.time.spend(16 * MINUTE)
    lab.allocator.expire()


def expire_a_grant(lab: Lab) -> None:
    lab.granted("alice")
    lab.time.spend(6 * MINUTE)
    lab.allocator.turn_reservations()


def remove_while_it_runs(lab: Lab) -> None:
    lab.allocator.close(lab.runs("alice"))


def give_back(lab: Lab) -> None:
    token = lab.runs("alice")
    lab.allocator.stop(token)
    lab.allocator.release(token, "asked for")


@pytest.mark.parametrize(
    "end", [stop_without_hold, expire_a_hold, expire_a_grant, remove_while_it_runs, give_back], ids=lambda f: f.__name__
)
def test_each_end_takes_the_spec(lab: Lab, end: Callable[[Lab], None]) -> None:
    end(lab)
    assert lab.specs() == {}


def test_who_waited_gets_a_spec_and_who_had_it_has_none(lab: Lab) -> None:
    first = lab.runs("carol")
    with lab.ledger.transaction() as tx:
        tx.change("UPDATE devices SET state = 'draining' WHERE uuid <> ?", (given(lab.files.live)[first][0],))
    assert isinstance(lab.allocator.allocate(lab.who("gina"), Request(), wait_s=3600), Queued)
    lab.allocator.stop(first)
    (second,) = lab.specs()
    assert second != first


def test_a_start_with_another_device_changes_the_spec(lab: Lab) -> None:
    token = lab.runs("carol")
    (before,) = lab.specs()[token]
    lab.allocator.stop(token)
    other = lab.granted("alice", Request.named([before]))
    assert lab.specs() == {other: (before,)}
    assert isinstance(lab.allocator.start(token), Allocation)
    assert lab.specs()[token] != (before,)


def test_a_start_writes_what_a_killed_one_left_out(lab: Lab) -> None:
    token = lab.runs("alice")
    lab.files.remove(token)
    assert isinstance(lab.allocator.start(token), Allocation)
    assert token in lab.specs()


def test_a_rehearsal_touches_no_spec(lab: Lab) -> None:
    token = lab.runs("carol")
    before = lab.specs()
    lab.allocator.stop(token, dry_run=True)
    lab.allocator.allocate(lab.who("alice"), Request(), dry_run=True)
    assert lab.specs() == before


def test_a_spec_that_cannot_be_removed_keeps_the_lease(lab: Lab) -> None:
    token = lab.runs("carol")
    spec = lab.files.live / f"ds01.io-gpu-{token}.json"
    spec.unlink()
    spec.mkdir()
    with pytest.raises(CdiError, match=token):
        lab.allocator.stop(token)
    with lab.ledger.read() as view:
        assert [lease.state for lease in leases_of(view, token)] == ["running"]
    spec.rmdir()
    lab.allocator.stop(token)
    assert lab.specs() == {}


def test_without_a_base_nothing_starts_and_it_says_why(lab: Lab) -> None:
    base = lab.files.live / "nvidia.json"
    text = base.read_text()
    base.unlink()
    answer = lab.allocator.allocate(lab.who("alice"), Request())
    assert isinstance(answer, Allocation)
    assert "nvidia-ctk cdi generate" in str(answer.note)
    lab.allocator.bind(answer.token, "c1", "job")
    refusal = lab.allocator.start(answer.token)
    assert isinstance(refusal, Refusal)
    assert refusal.kind == "internal"
    assert given(lab.files.live) == {}
    base.write_text(text)
    assert isinstance(lab.allocator.start(answer.token), Allocation)
    assert lab.specs()[answer.token] == (answer.devices[0].uuid,)


def test_a_ledger_that_no_engine_works_by_has_no_specs(ledger: Ledger) -> None:
    people = lab_policy()
    allocator = Allocator(ledger, people, None, record=lambda **_: None)
    answer = allocator.allocate(people.person(UIDS["alice"], "alice", 0), Request())
    assert isinstance(answer, Allocation)
    assert answer.note is None
