import pytest

from ds01.ledger import DeviceTakenError, Ledger, LedgerConflictError, LedgerNotReadyError, usage
from ds01.ledger import leases as life
from ds01.ledger.rows import LeaseState
from ds01.ledger.usage import intervals
from tests.unit.ledger.machine import IDS, Time, claim_for

MINUTE = 60_000


def states(ledger: Ledger, token: str) -> list[LeaseState]:
    with ledger.read() as view:
        return [lease.state for lease in life.leases_of(view, token)]


def running(ledger: Ledger, *devices: str) -> str:
    with ledger.transaction() as tx:
        token = claim_for(tx).token
        for device in devices:
            life.grant(tx, token, device, expires=tx.now + MINUTE)
        life.bind(tx, token, f"id-{token}", "work._.1000")
        life.start(tx, token)
    return token


def test_a_lease_lives_from_grant_to_release(ledger: Ledger, time: Time) -> None:
    token = running(ledger, IDS[0])
    time.spend(10 * MINUTE)
    with ledger.transaction() as tx:
        life.stop(tx, token, hold_ms=5 * MINUTE, reason="stopped by its owner")
    assert states(ledger, token) == ["held"]
    time.spend(5 * MINUTE - 1)
    with ledger.transaction() as tx:
        assert life.expire(tx) == []
    time.spend(1)
    with ledger.transaction() as tx:
        assert [lease.device for lease in life.expire(tx)] == [IDS[0]]
        assert [(row.kind, row.gpu_ms) for row in intervals(tx, since=0)] == [
            ("running", 10 * MINUTE),
            ("held", 5 * MINUTE),
        ]
        assert life.claim(tx, token).state == "open", "its container is still there and may be started again"
        life.grant(tx, claim_for(tx).token, IDS[0], expires=tx.now + 1)


@pytest.mark.parametrize(("runs_s", "stops_min"), [(5, 14), (60, 10), (0, 1)])
def test_a_start_now_and_then_keeps_no_device_that_is_not_used(
    ledger: Ledger, time: Time, runs_s: int, stops_min: int
) -> None:
    token = running(ledger, IDS[0])
    held = ran = 0
    for _ in range(100):
        time.spend(runs_s * 1000)
        with ledger.transaction() as tx:
            left = life.stop(tx, token, hold_ms=15 * MINUTE, reason="")[0]
        ran += runs_s * 1000
        if left.state == "released":
            break
        time.spend(stops_min * MINUTE)
        held += stops_min * MINUTE
        with ledger.transaction() as tx:
            if life.expire(tx):
                break
            life.start(tx, token)
    assert states(ledger, token) == []
    assert 15 * MINUTE + ran - 2 * stops_min * MINUTE <= held <= 15 * MINUTE + ran + stops_min * MINUTE


def test_work_gives_the_whole_hold_back(ledger: Ledger, time: Time) -> None:
    token = running(ledger, IDS[0])
    for _ in range(5):
        time.spend(14 * MINUTE)
        with ledger.transaction() as tx:
            (left,) = life.stop(tx, token, hold_ms=15 * MINUTE, reason="")
            assert left.hold_until == tx.now + 15 * MINUTE
        time.spend(14 * MINUTE)
        with ledger.transaction() as tx:
            assert life.expire(tx) == []
            life.start(tx, token)


def test_a_device_has_one_lease(ledger: Ledger) -> None:
    running(ledger, IDS[1])
    with pytest.raises(DeviceTakenError, match=IDS[1]), ledger.transaction() as tx:
        life.grant(tx, claim_for(tx).token, IDS[1], expires=tx.now + MINUTE)
    with ledger.read() as view:
        assert view.value("SELECT count(*) FROM claims") == 1, "the refused transaction left its claim"


def test_the_database_itself_refuses_a_second_lease_and_an_illegal_step(ledger: Ledger) -> None:
    token = running(ledger, IDS[0])
    for statement in (
        "INSERT INTO leases (token, device, state, created, started) VALUES (:token, :held, 'running', 1, 1)",
        "UPDATE leases SET state = 'bound'",
        "UPDATE leases SET device = :other",
        "UPDATE leases SET state = 'released'",
        "UPDATE claims SET state = 'closed', closed = 1",
        "DELETE FROM usage",
    ):
        with pytest.raises(LedgerConflictError), ledger.transaction() as tx:
            tx.change(statement, {"token": token, "held": IDS[0], "other": IDS[1]})


def test_a_container_that_never_came_leaves_nothing(ledger: Ledger, time: Time) -> None:
    with ledger.transaction() as tx:
        token = claim_for(tx).token
        life.grant(tx, token, IDS[0], expires=tx.now + MINUTE)
    time.spend(MINUTE)
    with ledger.transaction() as tx:
        life.expire(tx)
        assert life.live(tx) == []
        assert life.open_claims(tx) == []
    with pytest.raises(LedgerConflictError, match="closed"), ledger.transaction() as tx:
        life.bind(tx, token, "late", "late._.1000")


def test_every_step_may_be_repeated(ledger: Ledger, time: Time) -> None:
    token = running(ledger, *IDS[:2])
    time.spend(MINUTE)
    with ledger.transaction() as tx:
        life.bind(tx, token, f"id-{token}", "work._.1000")
        life.start(tx, token)
        assert len(life.stop(tx, token, hold_ms=None, reason="")) == 2
        assert life.stop(tx, token, hold_ms=None, reason="") == []
    time.spend(1000 * MINUTE)
    with ledger.transaction() as tx:
        assert life.expire(tx) == [], "a hold without an end"
        life.start(tx, token)
        assert len(life.close_claim(tx, token, "removed")) == 2
        assert life.close_claim(tx, token, "removed") == []
        assert sum(row.gpu_ms or 0 for row in intervals(tx, since=0) if row.kind == "running") == 2 * MINUTE


def test_a_claim_belongs_to_one_container(ledger: Ledger) -> None:
    token = running(ledger, IDS[0])
    with pytest.raises(LedgerConflictError, match="id-"), ledger.transaction() as tx:
        life.bind(tx, token, "another", "another._.1000")


@pytest.mark.parametrize("jump", [-86_400_000, 86_400_000])
def test_a_clock_that_is_set_gives_and_takes_no_time(ledger: Ledger, time: Time, jump: int) -> None:
    token = running(ledger, IDS[0])
    time.spend(MINUTE)
    time.set_wall(jump)
    with ledger.transaction() as tx:
        life.stop(tx, token, hold_ms=MINUTE, reason="")
    time.set_wall(-jump)
    time.spend(MINUTE)
    with ledger.transaction() as tx:
        life.expire(tx)
    time.spend(MINUTE)
    with ledger.transaction() as tx:
        life.expire(tx)
        assert [row.gpu_ms for row in intervals(tx, since=0) if row.kind == "running"] == [MINUTE]
        assert life.live(tx) == [], "set back, the clock made a hold longer"


def test_an_interval_over_a_power_failure_ends_when_the_host_was_last_seen(ledger: Ledger, time: Time) -> None:
    token = running(ledger, IDS[0])
    time.spend(10 * MINUTE)
    with ledger.transaction() as tx:
        usage.seen(tx)
    time.spend(5 * MINUTE)
    time.reboot(off_ms=60 * MINUTE)
    with ledger.transaction() as tx:
        usage.seen(tx)
        life.stop(tx, token, hold_ms=0, reason="the host was off")
        assert [row.gpu_ms for row in intervals(tx, since=0)] == [10 * MINUTE]


def test_nothing_is_granted_from_a_ledger_that_was_not_compared(ledger: Ledger) -> None:
    with ledger.transaction() as tx:
        tx.set_unverified("restored from a backup")
    with pytest.raises(LedgerNotReadyError, match=r"restored from a backup.*reconcile"), ledger.transaction() as tx:
        life.grant(tx, claim_for(tx).token, IDS[0], expires=tx.now + MINUTE)
