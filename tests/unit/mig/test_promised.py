"""A device that the ledger says is promised counts as used, with or without a process on it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from ds01.enforce.promised import Promised
from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from ds01.ledger import Ledger, LedgerError, create
from ds01.ledger.devices import devices, mark, take_inventory
from ds01.ledger.leases import bind, grant, live, open_claim, release
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from ds01.mig import apply
from ds01.mig.model import Verdict, Wish
from ds01.mig.observe import observe
from ds01.mig.planner import plan_gpu
from ds01.mig_geometry import Slot


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "ledger.db"
    create(found)
    yield found
    Turn(turn_path(found)).destroy()


@pytest.fixture
def host(make_host):
    return make_host(["A100-80"], {0: ["3g.40gb", "3g.40gb"]})


@pytest.fixture
def pair(host, path):  # noqa: ARG001 - it has the devices
    """Two devices on one GPU, known to the ledger."""
    return _look(path)


def _look(path):
    with Session() as session, Ledger(path) as ledger, ledger.transaction() as tx:
        inventory = read_inventory(session)
        take_inventory(tx, inventory)
        tx.set_verified()
    return [found.uuid for found in inventory.devices]


def _grant(path, device):
    with Ledger(path) as ledger, ledger.transaction() as tx:
        claim = open_claim(tx, uid=1000, user="alice", group_name="student", priority=10, request="1")
        return claim.token, grant(tx, claim.token, device, expires=tx.now + 60_000).id


def _states(path):
    with Ledger(path) as ledger, ledger.read() as view:
        return {found.uuid: found.state for found in devices(view, gone=True)}


def test_a_held_device_is_named_with_its_person_and_container(pair, path):
    device, other = pair
    promised = Promised(path)
    token, lease = _grant(path, device)
    assert "being made (pending)" in str(promised.holders()[device])
    with Ledger(path) as ledger, ledger.transaction() as tx:
        bind(tx, token, "a" * 64, "train._.1000")
    [holder] = promised.holders()[device]
    assert str(holder) == "alice: lease of container train._.1000 (bound)"
    assert other not in promised.holders()
    with Ledger(path) as ledger, ledger.transaction() as tx:
        release(tx, lease, "over")
    assert promised.holders() == {}


def test_without_a_ledger_nobody_has_a_lease_and_a_broken_one_is_an_error(tmp_path):
    nothing = Promised(tmp_path / "none.db")
    assert nothing.holders() == {}
    with nothing.withdrawn(["MIG-1"]) as takers:
        assert takers == []
    (tmp_path / "broken.db").write_bytes(b"no database" * 999)
    broken = Promised(tmp_path / "broken.db")
    with pytest.raises(LedgerError):
        broken.holders()
    with pytest.raises(LedgerError), broken.withdrawn(["MIG-1"]):
        pytest.fail("devices were taken apart without a ledger")


class _Hooked(Promised):
    """Something happens just before or just after the devices are withdrawn."""

    def __init__(self, path, *, before=lambda: None, within=lambda: None) -> None:
        super().__init__(path)
        self._before, self._within = before, within

    @contextmanager
    def withdrawn(self, uuids):
        self._before()
        with super().withdrawn(uuids) as takers:
            self._within()
            yield takers


def test_a_lease_that_comes_between_plan_and_change_keeps_its_device(host, pair, path):
    outcome = host.apply("1g.10gb", _Hooked(path, before=lambda: _grant(path, pair[1])))
    assert "alice: lease of" in outcome.failures["GPU 0"]
    assert _look(path) == pair
    assert set(_states(path).values()) == {"ok"}


def test_nobody_is_promised_a_device_that_is_being_taken_apart(host, pair, path):
    during = {}
    outcome = host.apply("1g.10gb", _Hooked(path, within=lambda: during.update(_states(path))))
    assert outcome.after.done
    assert during == dict.fromkeys(pair, "draining")
    assert {_states(path)[uuid] for uuid in pair} == {"gone"}
    present = _look(path)
    assert len(present) == 7
    assert {uuid: state for uuid, state in _states(path).items() if state == "ok"} == dict.fromkeys(present, "ok")


def test_a_mark_of_an_administrator_outlives_a_change_that_could_not_be_made(pair, path):
    with Ledger(path) as ledger, ledger.transaction() as tx:
        mark(tx, pair[0], "draining", "its fan is loud")
    for _ in range(2):
        with Promised(path).withdrawn(pair) as takers:
            assert takers == []
        _look(path)
        assert _states(path) == {pair[0]: "draining", pair[1]: "ok"}


def test_what_a_killed_change_left_marked_is_free_after_the_next(pair, path):
    with Promised(path).withdrawn(pair), Ledger(path) as ledger, ledger.read() as view:
        left = {found.uuid: found for found in devices(view)}
    with Ledger(path) as ledger, ledger.transaction() as tx:
        for uuid, found in left.items():
            mark(tx, uuid, found.state, found.reason)
    assert set(_states(path).values()) == {"draining"}
    with Promised(path).withdrawn(pair):
        pass
    _look(path)
    assert set(_states(path).values()) == {"ok"}


def test_instances_are_withdrawn_also_where_the_mode_is_set_as_well(pair, path):
    """Somebody asked for MIG to end at the next reset: that is taken back, and the layout changed."""
    with Session() as session:
        [state] = observe(session)
        found = plan_gpu(replace(state, pending=False), Wish(mig=True, slots=(Slot("1g.10gb"),) * 7))
        assert found.mode is True
        _grant(path, pair[1])
        assert "alice: lease" in apply._carry_out(session, found, Promised(path))
    assert _look(path) == pair


@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_device_of_a_shared_instance_keeps_it(make_host, path, which):
    """What `nvidia-smi mig -cci 0,0,0` makes: several devices on one instance."""
    host = make_host(["A100-80"], {0: []})
    with Session() as session:
        gpu = session.call("nvmlDeviceGetHandleByIndex", 0)
        shape = session.call("nvmlDeviceGetGpuInstanceProfileInfo", gpu, 2)
        instance = session.call("nvmlDeviceCreateGpuInstance", gpu, shape.id)
        for _ in range(3):
            session.call("nvmlGpuInstanceCreateComputeInstance", instance, 0)
    devices = _look(path)
    _grant(path, devices[which])
    outcome = host.apply("1g.10gb", Promised(path))
    [waiting] = outcome.plan.having(Verdict.WAITS)
    assert "alice: lease" in waiting.reason
    assert _look(path) == devices
    with Ledger(path) as ledger, ledger.transaction() as tx:
        for lease in live(tx):
            release(tx, lease.id, "over")
    late = _Hooked(path, before=lambda: _grant(path, devices[which]))
    assert "alice: lease" in host.apply("1g.10gb", late).failures["GPU 0"]
    assert _look(path) == devices
