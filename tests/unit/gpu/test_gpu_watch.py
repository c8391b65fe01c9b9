"""What GPUs report by themselves."""

from __future__ import annotations

import threading
import time

import pytest

from ds01.gpu.health import assess
from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.gpu.readings import Meter
from ds01.gpu.watch import Watch
from ds01.gpu.xid import State
from lab.nvmlsim import Server


def test_each_xid_is_an_event_with_its_instance(session: Session, server: Server) -> None:
    found = read_inventory(session)
    with Watch(session) as watch:
        assert watch.gpu_uuids == {gpu.uuid for gpu in found.gpus}
        for _ in range(3):
            server.xid("0:1", 94)
        server.xid("3", 79)
        events = list(watch.events(0.05))
        assert list(watch.events(0)) == []
    part = found.find("0:1")
    assert [(event.xid, event.gpu_uuid) for event in events] == [(94, part.gpu_uuid)] * 3 + [(79, found.gpus[3].uuid)]
    assert {(event.gi_id, event.ci_id) for event in events[:3]} == {(part.gi_id, part.ci_id)}
    assert (events[3].gi_id, events[3].ci_id) == (None, None)
    health = {gpu.gpu_index: gpu for gpu in assess(found, Meter(session).read(found), events)}
    assert [health[index].state for index in range(4)] == [State.DEGRADED, State.OK, State.OK, State.UNHEALTHY]
    assert health[0].of_device(part)[0] is State.DEGRADED
    assert health[0].of_device(found.find("0:0"))[0] is State.OK


def test_a_change_of_the_layout_is_an_event(session: Session, server: Server) -> None:
    found = read_inventory(session)
    with Watch(session) as watch:
        server.set_mig(0, enabled=False)
        server.set_mig(0, enabled=True)
        server.add_instance(0, "7g.80gb")
        events = list(watch.events(0.05))
    assert {(event.kind, event.gpu_uuid, event.xid) for event in events} == {("layout", found.gpus[0].uuid, None)}


def test_waiting_ends_in_time_and_with_the_event(session: Session, server: Server) -> None:
    with Watch(session) as watch:
        start = time.monotonic()
        assert list(watch.events(0.2)) == []
        assert 0.2 <= time.monotonic() - start < 30
        later = threading.Timer(0.2, server.xid, ("1", 13))
        later.start()
        start = time.monotonic()
        assert next(watch.events(60)).xid == 13
        assert time.monotonic() - start < 30
        later.join()


def test_a_driver_that_goes_away_ends_the_watch(session: Session, server: Server) -> None:
    with Watch(session) as watch:
        server.unload_driver()
        with pytest.raises(NvmlError) as raised:
            list(watch.events(5))
        assert raised.value.kind is Kind.UNAVAILABLE
    server.load_driver()
    session.renew()
    with Watch(session) as watch:
        server.xid("1", 31)
        assert [event.xid for event in watch.events(0.05)] == [31]


def test_a_lost_gpu_is_left_out(session: Session, server: Server) -> None:
    server.fault(1, "lost", 1)
    with Watch(session) as watch:
        assert len(watch.gpu_uuids) == 3
