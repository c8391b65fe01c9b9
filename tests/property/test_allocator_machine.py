"""Any order of everything that can happen to the allocator, on a real ledger file: what must never be wrong is not.

The truth is kept beside it: what containers run, and for how long each device was really kept from others.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from ds01.allocator import picture
from ds01.allocator.answers import Allocation, Queued
from ds01.allocator.model import Person, Refusal
from ds01.allocator.request import Request
from ds01.allocator.reservations import Wish, reserve
from ds01.allocator.service import Allocator
from ds01.cdi.files import SpecFiles
from ds01.gpu.model import Inventory
from ds01.ledger import Ledger, LedgerError, Transaction, create
from ds01.ledger.devices import devices, mark, occupy, take_inventory, vacate
from ds01.ledger.leases import claim, leases_of, live
from ds01.ledger.rows import Occupant, UsageInterval
from ds01.ledger.specs import LeasedSpecs
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from tests.allocation import UIDS, lab_policy
from tests.specs import check_specs, spec_files
from tests.unit.ledger.machine import Time, device, machine

MINUTE = 60_000
PEOPLE = lab_policy()
NAMES = st.sampled_from(sorted(UIDS))
LAYOUTS: tuple[Inventory, ...] = (
    machine((device(0),), (device(1, 0), device(1, 1), device(1, 2))),
    machine((device(0),), (device(1),)),
    machine((device(0, 0), device(0, 1)), (device(1, 0), device(1, 3))),
)
REQUESTS = st.one_of(
    st.builds(Request, count=st.none() | st.integers(1, 3)),
    st.builds(Request, count=st.integers(1, 2), profile=st.just("2g.20gb")),
    st.just(Request(full=True)),
    st.builds(Request.named, st.lists(st.sampled_from(["0", "1", "1:0", "1:1", "0:0"]), min_size=1, max_size=2)),
)
UUIDS = st.sampled_from(sorted({found.uuid for layout in LAYOUTS for found in layout.devices}))
TINY = 1e-6


class PowerLostError(Exception):
    """The process is gone; `committed`: after the transaction, while it wrote specs."""

    def __init__(self, *, committed: bool) -> None:
        super().__init__()
        self.committed = committed


class Breaking(Ledger):
    """A ledger whose process dies at a chosen statement of the next transactions, or at a spec."""

    dies_after: int | None = None

    def dies_now(self) -> bool:
        if self.dies_after is None:
            return False
        self.dies_after -= 1
        return self.dies_after < 0

    @contextmanager
    def transaction(self, *, deadline_s: float | None = None, keep: bool = True) -> Iterator[Transaction]:
        with super().transaction(deadline_s=deadline_s, keep=keep) as tx:
            # What is rolled back anyway only keeps others out while specs are written: the change was committed.
            yield Dying(tx, self, committed=not keep)


class Dying(Transaction):
    def __init__(self, tx: Transaction, ledger: Breaking, *, committed: bool) -> None:
        super().__init__(tx._connection, tx._path, tx.moment)
        self._ledger, self._committed = ledger, committed

    def _run(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        if self._ledger.dies_now():
            # What the kernel does with the file of a process that ends: nobody rolls back in an orderly way.
            self._connection.close()
            raise PowerLostError(committed=self._committed)
        return super()._run(statement, parameters)


@dataclass(frozen=True)
class BreakingSpecs(SpecFiles):
    """Specs of such a process; it dies before or after it changed one."""

    ledger: Breaking | None = None

    def write(self, token: str, uuids: Iterable[str], base: Mapping[str, Any] | None = None) -> bool:
        self._die(committed=True)
        changed = super().write(token, uuids, base)
        self._die(committed=True)
        return changed

    def remove(self, token: str) -> bool:
        self._die(committed=False)
        changed = super().remove(token)
        self._die(committed=False)
        return changed

    def _die(self, *, committed: bool) -> None:
        if self.ledger is not None and self.ledger.dies_now():
            raise PowerLostError(committed=committed)


class AllocatorMachine(RuleBasedStateMachine):
    claims: Bundle[str] = Bundle("claims")
    bound: Bundle[str] = Bundle("bound")
    waiting: Bundle[int] = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.path = Path(self.directory.name, "ledger.db")
        create(self.path)
        uuids = sorted({found.uuid for layout in LAYOUTS for found in layout.devices})
        self.files = spec_files(Path(self.directory.name), uuids)
        self.time = Time()
        self.layout = LAYOUTS[0]
        self.runs: dict[str, set[str]] = {}
        self.truth: Counter[str] = Counter()
        self.facts: list[dict[str, Any]] = []
        self.number = 0
        self.restart_us()
        with self.ledger.transaction() as tx:
            take_inventory(tx, self.layout)
            tx.set_verified()

    def teardown(self) -> None:
        self.ledger.close()
        Turn(turn_path(self.path)).destroy()
        self.directory.cleanup()

    def who(self, name: str) -> Person:
        return PEOPLE.person(UIDS[name], name, self.time.wall)

    def answered(self, person: Person, answer: Allocation | Queued | Refusal) -> None:
        if isinstance(answer, Refusal):
            assert answer.message
            assert answer.fix
            assert answer.kind != "internal"
            return
        if isinstance(answer, Allocation):
            with self.ledger.read() as view:
                rows = {found.uuid: found for found in devices(view)}
                bookings = picture.bookings(view)
            for given in answer.devices:
                found = rows[given.uuid]
                assert (found.state, found.foreign_use) == ("ok", 0)
                assert found.profile != "full" or person.limits.allow_full_gpu
                for window in bookings:
                    theirs = window.is_for(person) or not window.starts <= self.time.wall < window.ends
                    assert theirs or given.uuid not in window.devices
                assert not any(
                    o.gpu_uuid == found.gpu_uuid and o.gi is not None for o in rows.values() if found.gi is None
                )

    @rule(target=claims, name=NAMES, asked=REQUESTS)
    def allocate(self, name: str, asked: Request) -> Any:
        answer = self.allocator.allocate(self.who(name), asked)
        assert not isinstance(answer, Queued)
        self.answered(self.who(name), answer)
        return answer.token if isinstance(answer, Allocation) else multiple()

    @rule(target=waiting, name=NAMES, asked=REQUESTS, minutes=st.integers(1, 600))
    def wait(self, name: str, asked: Request, minutes: int) -> Any:
        answer = self.allocator.allocate(self.who(name), asked, wait_s=minutes * 60)
        self.answered(self.who(name), answer)
        return answer.number if isinstance(answer, Queued) else multiple()

    @rule(number=consumes(waiting))
    def cancel(self, number: int) -> None:
        self.allocator.cancel(number)

    @rule(target=claims, number=consumes(waiting))
    def collect(self, number: int) -> Any:
        with self.ledger.read() as view:
            token = view.value("SELECT token FROM queue WHERE id = ? AND state = 'granted'", (number,))
        return token or multiple()

    @rule(target=bound, token=consumes(claims))
    def bind(self, token: str) -> Any:
        self.number += 1
        try:
            self.allocator.bind(token, f"c{self.number}", f"job{self.number}")
        except LedgerError:
            # It was not bound in time.
            with self.ledger.read() as view:
                assert claim(view, token).state == "closed"
            return multiple()
        return token

    @rule(token=bound)
    def start(self, token: str) -> None:
        before = self.runs.get(token)
        answer = self.allocator.start(token)
        if isinstance(answer, Allocation):
            uuids = {found.uuid for found in answer.devices}
            assert uuids
            assert before in {None, frozenset(uuids)} or before == uuids
            with self.ledger.read() as view:
                owner = claim(view, token)
            if before is None:
                self.answered(self.who(owner.user), answer)
            self.runs[token] = uuids
        else:
            assert before is None, answer

    @rule(token=bound)
    def stop(self, token: str) -> None:
        self.allocator.stop(token)
        self.runs.pop(token, None)

    @rule(token=consumes(bound))
    def remove(self, token: str) -> None:
        self.allocator.close(token)
        self.runs.pop(token, None)

    @rule(token=bound)
    def release(self, token: str) -> None:
        answer = self.allocator.release(token, "asked for")
        assert isinstance(answer, Refusal) == (token in self.runs)

    @rule()
    def engine_restarts(self) -> None:
        """Every container stops; the events of some are lost, and the reconciler closes those."""
        for number, token in enumerate(sorted(self.runs)):
            if number % 2:
                self.allocator.close(token, "its container vanished")
            else:
                self.allocator.stop(token)
        self.runs.clear()

    @rule(layout=st.sampled_from(LAYOUTS))
    def change_layout(self, layout: Inventory) -> None:
        """A GPU is only divided anew where no container runs."""
        busy = {uuid for uuids in self.runs.values() for uuid in uuids}
        rows = {found.uuid: found for found in self.layout.devices}
        if {rows[uuid].gpu_uuid for uuid in busy if uuid in rows}:
            return
        self.layout = layout
        with self.ledger.transaction() as tx:
            take_inventory(tx, layout)

    @rule(uuid=UUIDS, state=st.sampled_from(["ok", "ok", "unhealthy", "draining"]))
    def health(self, uuid: str, state: Any) -> None:
        with self.ledger.transaction() as tx:
            tx.change("UPDATE devices SET state = ? WHERE uuid = ? AND state <> 'gone'", (state, uuid))

    @rule(token=bound, state=st.sampled_from(["unhealthy", "draining"]))
    def device_fails_while_stopped(self, token: str, state: Any) -> None:
        self.stop(token)
        with self.ledger.transaction() as tx:
            for lease in leases_of(tx, token)[:1]:
                mark(tx, lease.device, state, "Xid 79")
        self.start(token)

    @rule(uuid=UUIDS, pid=st.integers(1, 2), there=st.booleans())
    def stranger(self, uuid: str, pid: int, there: bool) -> None:
        with self.ledger.transaction() as tx:
            known = tx.value("SELECT 1 FROM devices WHERE uuid = ?", (uuid,))
            one = Occupant("process", str(pid), uuid, "python3", None, tx.now, legacy=False)
            if known and there:
                occupy(tx, one)
            elif known:
                vacate(tx, [one])

    @rule(minutes=st.sampled_from([1, 4, 5, 16, 31, 120, 1500]))
    def spend(self, minutes: int) -> None:
        with self.ledger.read() as view:
            for lease in live(view):
                if lease.state in {"running", "held"}:
                    self.truth[lease.device] += minutes * MINUTE
        self.time.spend(minutes * MINUTE)

    @rule(minutes=st.integers(-3000, 3000))
    def clock_is_set(self, minutes: int) -> None:
        self.time.set_wall(minutes * MINUTE)

    @rule()
    def expire(self) -> None:
        self.allocator.expire()
        with self.ledger.read() as view:
            for lease in live(view):
                # Five minutes until it is bound, then half an hour until it runs.
                if lease.state in {"pending", "bound"} and lease.expires is not None:
                    assert view.now < lease.expires <= view.now + 35 * MINUTE
                if lease.state == "held" and lease.hold_until is not None:
                    assert view.now < lease.hold_until <= view.now + 16 * MINUTE

    @rule(token=bound, name=NAMES, asked=REQUESTS, statements=st.integers(0, 25), step=st.integers(0, 4))
    def process_dies(self, token: str, name: str, asked: Request, statements: int, step: int) -> None:
        """It dies in the middle of a step: nothing of the step is there, or all of it but its specs."""
        with self.ledger.read() as view:
            before = content(view)
        self.ledger.dies_after = statements
        try:
            if step == 0:
                self.allocator.allocate(self.who(name), asked, wait_s=60)
            elif step == 1:
                if isinstance(self.allocator.start(token), Allocation):
                    with self.ledger.read() as view:
                        self.runs[token] = {lease.device for lease in leases_of(view, token)}
            elif step == 2:
                self.allocator.stop(token)
                self.runs.pop(token, None)
            elif step == 3:
                self.allocator.release(token, "asked for")
            else:
                self.allocator.expire()
        except PowerLostError as error:
            committed = error.committed
        else:
            self.ledger.dies_after = None
            return
        self.restart_us()
        with self.ledger.read() as view:
            check_specs(self.files, view)
            assert committed or content(view) == before
            if committed and step == 1:
                # The engine is not asked to start it, but the ledger says so until the reconciler looks.
                self.runs[token] = {lease.device for lease in leases_of(view, token)}
        if committed and step == 2:
            self.runs.pop(token, None)
        assert LeasedSpecs(self.ledger, self.files).write_all() == []

    @rule(name=NAMES, gpus=st.integers(1, 2), start=st.integers(-60, 300), minutes=st.sampled_from([20, 60, 600]))
    def reserve(self, name: str, gpus: int, start: int, minutes: int) -> None:
        starts = self.time.wall + start * MINUTE
        wish = Wish(name, None, starts, starts + minutes * MINUTE, (), gpus)
        with self.allocator.change() as (tx, facts):
            reserve(tx, PEOPLE, wish, person=self.who(name), created_by="root", facts=facts)

    @rule()
    def turn_reservations(self) -> None:
        self.allocator.turn_reservations()

    @invariant()
    def nothing_is_reserved_twice(self) -> None:
        with self.ledger.read() as view:
            windows = picture.bookings(view)
        for one, other in combinations(windows, 2):
            apart = one.ends <= other.starts or other.ends <= one.starts
            assert apart or not set(one.devices) & set(other.devices)

    @rule()
    def restart_us(self) -> None:
        with suppress(AttributeError):
            self.ledger.close()
        self.ledger = Breaking(self.path, clock=self.time)
        specs = BreakingSpecs(self.files.live, self.files.kept, self.files.bases, self.ledger)
        self.allocator = Allocator(self.ledger, PEOPLE, specs, record=lambda **fact: self.facts.append(fact))

    @invariant()
    def nothing_is_wrong(self) -> None:
        with self.ledger.read() as view:
            assert check_specs(self.files, view), "something that is held has no spec"
            held = live(view)
            rows = {found.uuid: found for found in devices(view, gone=True)}
            intervals = view.rows(UsageInterval, "SELECT * FROM usage ORDER BY device, opened_at, id")
            for lease in held:
                assert claim(view, lease.token).state == "open"
        assert len({lease.device for lease in held}) == len(held)
        leased = {token: {lease.device for lease in held if lease.token == token} for token in self.runs}
        assert leased == self.runs
        assert {lease.token for lease in held if lease.state == "running"} == set(self.runs)
        for name, uid in UIDS.items():
            limits = self.who(name).limits
            mine = [lease for lease in held if lease.uid == uid]
            assert limits.max_mig_instances is None or len(mine) <= limits.max_mig_instances
            weight = sum(rows[lease.device].weight for lease in mine)
            assert limits.max_gpu_equivalents is None or weight <= limits.max_gpu_equivalents + TINY
        faculty = sum(rows[lease.device].weight for lease in held if lease.group_name == "faculty")
        assert faculty <= 1.2 + TINY
        self.usage_is_true(intervals)

    def usage_is_true(self, intervals: list[UsageInterval]) -> None:
        found: Counter[str] = Counter()
        ended: dict[str, int] = {}
        for interval in intervals:
            assert interval.opened_at >= ended.get(interval.device, 0)
            length = interval.gpu_ms
            if interval.closed_at is None or length is None:
                length = self.time.since_boot - interval.opened_boot_ms
                ended[interval.device] = interval.opened_at
            else:
                ended[interval.device] = interval.closed_at
            found[interval.device] += length
        assert +found == +self.truth


def content(view: Any) -> list[Any]:
    tables = ("claims", "leases", "queue", "usage", "usage_daily")
    return [view._all(view._run(f"SELECT * FROM {table}", ())) for table in tables]  # noqa: S608 - constants


TestAllocatorMachine = AllocatorMachine.TestCase
TestAllocatorMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
