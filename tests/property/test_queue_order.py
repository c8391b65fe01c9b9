"""Who waits: nobody for ever, nobody overtaken by what they could use, and in an order that people can follow."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.allocator.blockers import matches
from ds01.allocator.decide import decide
from ds01.allocator.model import DeviceView, Grant, Snapshot
from ds01.allocator.queue import (
    HALF_LIFE_S,
    NEWCOMER,
    POINTS_PER_HOUR,
    SHARE_POINTS,
    Waiting,
    ahead_of,
    decayed_hours,
    forecast,
    granted,
    ordered,
    serve,
    share_points,
)
from ds01.allocator.request import Request
from tests.allocation import HOUR, NOW, held, mig, person, snapshot

PRIORITIES = st.integers(1, 100)
REQUESTS = st.builds(Request, count=st.integers(1, 2), profile=st.sampled_from([None, "1g.10gb", "3g.40gb"]))
FIRST_AFTER_H = (100 - 1 + SHARE_POINTS) / POINTS_PER_HOUR
"""After so many hours nobody who comes newly can be before somebody."""


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    return [
        Waiting(
            number,
            person(f"user{number}", priority=draw(PRIORITIES)),
            draw(REQUESTS),
            NOW - draw(st.integers(0, 100)) * HOUR,
            draw(st.floats(0, 1e4)),
        )
        for number in range(draw(st.integers(0, 6)))
    ]


@st.composite
def labs(draw: st.DrawFn) -> Snapshot:
    other = person("other")
    devices = [
        mig(gpu, index, draw(st.sampled_from(["1g.10gb", "3g.40gb"])))
        for gpu in range(2)
        for index in range(draw(st.integers(1, 3)))
    ]
    ends = st.none() | st.integers(1, 50).map(lambda hours: NOW + hours * HOUR)
    return snapshot(*(replace(d, holder=held(other, draw(ends))) if draw(st.booleans()) else d for d in devices))


@given(queues(), labs())
def test_nobody_gets_what_somebody_ahead_could_use(waiting: list[Waiting], lab: Snapshot):
    served = {entry.number: grant for entry, grant in serve(waiting, lab).granted}
    taken = {device.uuid for grant in served.values() for device in grant.devices}
    assert len(taken) == sum(len(grant.devices) for grant in served.values())
    ahead, kept = lab, dict[str, str]()
    line = ordered(waiting, NOW)
    for place, entry in enumerate(line):
        if entry.number in served:
            ahead = granted(ahead, entry, served[entry.number])
            continue
        alone = decide(entry.request, entry.person, lab)
        if not isinstance(alone, Grant) and not alone.may_wait:
            continue
        # Even without everybody behind, it could not have been served.
        assert not isinstance(decide(entry.request, entry.person, replace(ahead, withheld=kept)), Grant)
        behind = [served[other.number] for other in line[place + 1 :] if other.number in served]
        assert not any(matches(device, entry.request) for grant in behind for device in grant.devices)
        kept |= {device.uuid: "" for device in lab.devices if matches(device, entry.request)}


@given(queues(), labs(), REQUESTS)
def test_a_newcomer_takes_nothing_from_those_ahead(waiting: list[Waiting], lab: Snapshot, asked: Request):
    newcomer = Waiting(NEWCOMER, person("new", priority=1), asked, NOW, 1e9)
    found = decide(asked, newcomer.person, ahead_of(newcomer, waiting, lab))
    if isinstance(found, Grant):
        for entry in waiting:
            alone = decide(entry.request, entry.person, lab)
            could = isinstance(alone, Grant) or alone.may_wait
            assert not could or not any(matches(device, entry.request) for device in found.devices)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(1, 12),
    st.lists(PRIORITIES, min_size=5, max_size=5),
)
def test_nobody_starves(devices: int, runtime_h: int, crowd: int, priorities: list[int]):
    """The least important person, who used most, against others that never stop asking, all of the highest priority."""
    last = Waiting(0, person("last", priority=1), Request(runtime=runtime_h * 3600), NOW, 1e9)
    lab = [mig(0, index) for index in range(devices)]
    queue, number = [last], 0
    bound = math.ceil(FIRST_AFTER_H) + runtime_h * (math.ceil(crowd / devices) + 1)
    for hour in range(bound + 1):
        now = NOW + hour * HOUR
        lab = [replace(d, holder=None) if d.holder and (d.holder.frees_at or 0) <= now else d for d in lab]
        while len(queue) < crowd + 1:
            number += 1
            boss = person(f"boss{number}", priority=max(priorities[number % 5], 100 if number % 2 else 1))
            queue.append(Waiting(number, boss, last.request, now))
        outcome = serve(queue, Snapshot(now, tuple(lab)))
        lab = list(outcome.snapshot.devices)
        if any(entry is last for entry, _ in outcome.granted):
            return
        done = {entry.number for entry, _ in outcome.granted}
        queue = [entry for entry in queue if entry.number not in done]
    raise AssertionError(f"not served within {bound} hours")


@given(PRIORITIES, PRIORITIES, st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 200))
def test_order_follows_priority_share_and_age(one: int, other: int, used: int, more: int, hours: int):
    def entry(number: int, priority: int, used: float, since: int = NOW) -> Waiting:
        return Waiting(number, person("p", priority=priority), Request(), since, used)

    low, high = sorted((one, other))
    assert ordered([entry(1, low, used), entry(2, high, used)], NOW)[0].person.limits.priority == high
    less, most = sorted((used, more))
    assert ordered([entry(1, one, most), entry(2, one, less)], NOW)[0].used == less
    assert ordered([entry(1, one, used), entry(2, one, used, NOW - hours * HOUR)], NOW)[0].number == (2 if hours else 1)
    assert 0 <= share_points(used) <= SHARE_POINTS
    if hours > FIRST_AFTER_H:
        assert ordered([entry(1, 100, 0), entry(2, 1, 1e9, NOW - hours * HOUR)], NOW)[0].number == 2


@given(st.integers(0, 1000), st.floats(0.1, 1), st.integers(0, 100))
def test_use_counts_half_after_each_half_life(hours: int, weight: float, lives: int):
    end = NOW - lives * HALF_LIFE_S * 1000
    found = decayed_hours([(end - hours * HOUR, end, weight)], NOW)
    assert math.isclose(found, hours * weight * 0.5**lives, abs_tol=1e-9)


@given(queues(), labs())
def test_forecast_is_for_everybody_and_never_early(waiting: list[Waiting], lab: Snapshot):
    found = forecast(waiting, lab)
    assert found.keys() == {entry.number for entry in waiting}
    suitable: list[DeviceView]
    for entry in waiting:
        expected = found[entry.number]
        suitable = [device for device in lab.devices if matches(device, entry.request)]
        count = entry.request.count or 1
        ends = sorted(NOW if d.holder is None else d.holder.frees_at or math.inf for d in suitable)
        if len(ends) < count or ends[count - 1] == math.inf:
            assert expected is None
        elif expected is not None:
            assert expected >= ends[count - 1]
