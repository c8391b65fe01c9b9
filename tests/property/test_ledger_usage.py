"""GPU time is counted exactly, whatever is done with leases and however the clock is set meanwhile."""

from __future__ import annotations

import itertools
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ds01.ledger import Ledger, LedgerConflictError, create, leases, usage
from ds01.ledger.devices import take_inventory
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from tests.unit.ledger.machine import GPUS, IDS, Time, claim_for

HOUR = 3_600_000
DAY = 24 * HOUR
KEY = tuple[int, str, str]


class Usage(RuleBasedStateMachine):
    """Truth is counted by hand: for each device, whose it is now, of what kind, and for how long."""

    tokens = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "ledger.db"
        create(path)
        self.time = Time()
        self.ledger = Ledger(path, clock=self.time)
        with self.ledger.transaction() as tx:
            take_inventory(tx, GPUS)
            tx.set_verified()
        self.kept: dict[str, tuple[str, int, str]] = {}
        self.truth: dict[KEY, int] = defaultdict(int)

    def teardown(self) -> None:
        self.ledger.close()
        Turn(turn_path(self.ledger.path)).destroy()
        self.folder.cleanup()

    @rule(target=tokens, uid=st.integers(1000, 1002), devices=st.sets(st.sampled_from(IDS), min_size=1, max_size=2))
    def create(self, uid: int, devices: set[str]) -> str:
        with self.ledger.transaction() as tx:
            token = claim_for(tx, uid).token
            free = devices - {lease.device for lease in leases.live(tx)}
            for device in free:
                leases.grant(tx, token, device, expires=tx.now + HOUR)
            leases.bind(tx, token, f"container-{token}", "work")
        return token

    @rule(token=tokens)
    def start(self, token: str) -> None:
        with self.ledger.transaction() as tx:
            uid = leases.claim(tx, token).uid
            for lease in leases.start(tx, token):
                self.kept[lease.device] = (token, uid, "running")

    @rule(token=tokens, hold=st.sampled_from([0, HOUR, 30 * HOUR, None]))
    def stop(self, token: str, hold: int | None) -> None:
        with self.ledger.transaction() as tx:
            uid = leases.claim(tx, token).uid
            for lease in leases.stop(tx, token, hold_ms=hold, reason=""):
                if lease.state == "released":
                    del self.kept[lease.device]
                else:
                    self.kept[lease.device] = (token, uid, "held")

    @rule(token=consumes(tokens))
    def remove(self, token: str) -> None:
        with self.ledger.transaction() as tx:
            for lease in leases.close_claim(tx, token, "removed"):
                self.kept.pop(lease.device, None)

    @rule(by=st.integers(0, 3 * DAY))
    def pass_time(self, by: int) -> None:
        self.time.spend(by)
        for device, (_, uid, kind) in self.kept.items():
            self.truth[uid, device, kind] += by
        with self.ledger.transaction() as tx:
            for lease in leases.expire(tx):
                self.kept.pop(lease.device, None)

    @rule(by=st.one_of(st.integers(-400 * DAY, 400 * DAY), st.integers(-2000, 2000)))
    def set_the_clock(self, by: int) -> None:
        self.time.set_wall(by)

    @rule()
    def fail(self) -> None:
        """A transaction that ends badly changes nothing."""
        try:
            with self.ledger.transaction() as tx:
                for lease in leases.live(tx):
                    leases.release(tx, lease.id, "no")
                leases.claim(tx, "unknown")
        except LedgerConflictError:
            pass

    @invariant()
    def the_sum_is_the_truth(self) -> None:
        with self.ledger.read() as view:
            rows = usage.intervals(view, since=-(1 << 60))
            live = {lease.device: lease.state for lease in leases.live(view) if lease.state in {"running", "held"}}
            daily = view.value("SELECT coalesce(sum(running_ms + held_ms), 0) FROM usage_daily")
        counted: dict[KEY, int] = defaultdict(int)
        for row in rows:
            length = self.time().boot_ms - row.opened_boot_ms if row.gpu_ms is None else row.gpu_ms
            counted[row.uid, row.device, row.kind] += length
        assert {key: value for key, value in counted.items() if value} == {k: v for k, v in self.truth.items() if v}
        assert daily == sum(row.gpu_ms or 0 for row in rows)
        assert {row.device: row.kind for row in rows if row.closed_at is None} == live
        assert {device: kind for device, (_, _, kind) in self.kept.items()} == live

    @invariant()
    def no_two_intervals_of_a_device_overlap(self) -> None:
        with self.ledger.read() as view:
            rows = usage.intervals(view, since=-(1 << 60))
        for device in IDS:
            mine = sorted((row.id, row.opened_at, row.closed_at) for row in rows if row.device == device)
            for (_, _, closed), (_, opened, _) in itertools.pairwise(mine):
                assert closed is not None
                assert closed <= opened


TestUsage = Usage.TestCase
TestUsage.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
