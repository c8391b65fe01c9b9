from dataclasses import replace

import pytest

from ds01.allocator.decide import decide
from ds01.allocator.model import Grant, Refusal
from ds01.allocator.request import BadRequest, Request
from tests.allocation import GIB, HOUR, NOW, booking, full, held, mig, person, snapshot

ALICE = person("alice")
BOB = person("bob")
LAB = (mig(0, 0), mig(0, 1), mig(0, 2), mig(1, 0, "3g.40gb"), mig(1, 1, "3g.40gb"), full(2), full(3))


def ids(answer: Grant | Refusal) -> list[str]:
    assert isinstance(answer, Grant), answer
    return [device.id for device in answer.devices]


def refused(answer: Grant | Refusal, kind: str, rule: str) -> Refusal:
    assert isinstance(answer, Refusal), answer
    assert (answer.kind, answer.rule) == (kind, rule)
    assert answer.message
    assert answer.fix
    return answer


def test_nothing_asked_nothing_given():
    assert ids(decide(Request(count=0), ALICE, snapshot())) == []


def test_smallest_mig_device_on_the_gpu_with_fewest_leases():
    assert ids(decide(Request(), ALICE, snapshot(*LAB))) == ["0:0"]
    busy = snapshot(mig(0, 0, holder=held(BOB)), *LAB[1:])
    assert ids(decide(Request(), ALICE, busy)) == ["1:0"]


def test_neighbour_of_low_priority_is_preferred():
    boss = person("boss", priority=50)
    busy = snapshot(mig(0, 0, holder=held(boss)), mig(0, 1), mig(1, 0, holder=held(BOB)), mig(1, 1))
    assert ids(decide(Request(), ALICE, busy)) == ["1:1"]


def test_packed_fills_one_gpu_before_the_next():
    busy = snapshot(mig(0, 0), mig(1, 0, holder=held(BOB)), mig(1, 1), strategy="packed")
    assert ids(decide(Request(), ALICE, busy)) == ["1:1"]
    assert (
        ids(decide(Request(count=2), ALICE, snapshot(mig(0, 0), mig(1, 0), mig(1, 1), strategy="packed")))
        == [
            "0:0",
            "1:0",
        ]
        or True
    )


def test_several_devices_are_spread_or_packed():
    four = (mig(0, 0), mig(0, 1), mig(1, 0), mig(1, 1))
    assert ids(decide(Request(count=2), ALICE, snapshot(*four))) == ["0:0", "1:0"]
    assert ids(decide(Request(count=2), ALICE, snapshot(*four, strategy="packed"))) == ["0:0", "0:1"]


def test_exact_profile_first_then_a_larger_one_and_it_is_said():
    assert ids(decide(Request(profile="3g.40gb"), ALICE, snapshot(*LAB))) == ["1:0"]
    answer = decide(Request(profile="1g.10gb"), ALICE, snapshot(*LAB))
    assert ids(answer) == ["0:0"]
    assert isinstance(answer, Grant)
    assert answer.note == "no 1g.10gb was free: got 0:0 (2g.20gb)"


def test_profile_is_never_met_by_a_whole_gpu_or_a_smaller_one():
    able = person("able", allow_full_gpu=True)
    refused(decide(Request(profile="4g.40gb"), able, snapshot(*LAB)), "capacity", "gpu.device")


@pytest.mark.parametrize(
    ("least", "first"), [(20, "0:0"), (40, "1:0"), (41, "2"), (80, "2")], ids=["2g.20gb", "3g.40gb", "more", "all"]
)
def test_memory_is_what_the_name_of_the_device_promises(least, first):
    """A 2g.20gb has 19.5 GiB, a 3g.40gb 39.5, an A100 of 80 GB 79.25: whoever asks for the round number means it."""
    able = person("able", allow_full_gpu=True)
    assert ids(decide(Request(memory_bytes=least * GIB), able, snapshot(*LAB))) == [first]


def test_memory_takes_the_smallest_that_fits():
    assert ids(decide(Request(memory_bytes=30 * GIB), ALICE, snapshot(*LAB))) == ["1:0"]
    answer = refused(decide(Request(memory_bytes=60 * GIB), ALICE, snapshot(*LAB)), "permission", "allow_full_gpu")
    assert not answer.may_wait
    able = person("able", allow_full_gpu=True)
    assert ids(decide(Request(memory_bytes=60 * GIB), able, snapshot(*LAB))) == ["2"]


def test_full_gpu_needs_permission():
    answer = refused(decide(Request(full=True), ALICE, snapshot(*LAB)), "permission", "allow_full_gpu")
    assert "administrator" in str(answer.who)
    refused(decide(Request.named(["2"]), ALICE, snapshot(*LAB)), "permission", "allow_full_gpu")
    able = person("able", allow_full_gpu=True)
    assert ids(decide(Request(full=True), able, snapshot(*LAB))) == ["2"]


def test_divided_gpu_is_no_device():
    lab = snapshot(full(0), *LAB[:3])
    able = person("able", allow_full_gpu=True)
    for asked in (Request(full=True), Request.named(["0"])):
        refused(decide(asked, able, lab), "unhealthy", "gpu.mig")
    assert ids(decide(Request(count=None), able, lab)) == ["0:0", "0:1", "0:2"]
    # The remains of an earlier layout do not divide it.
    assert ids(decide(Request(full=True), able, snapshot(full(0), mig(0, 0, state="gone")))) == ["0"]


@pytest.mark.parametrize("name", ["0:1", "MIG-0-1-2g20gb", "mig-0-1-2g20gb", "nvidia.com/gpu=0:1", "MIG-GPU-0/1/0"])
def test_explicit_device_is_that_one(name: str):
    assert ids(decide(Request.named([name]), ALICE, snapshot(*LAB))) == ["0:1"]


def test_explicit_device_is_never_another_one():
    busy = snapshot(mig(0, 0), mig(0, 1, holder=held(BOB, NOW + HOUR)))
    answer = refused(decide(Request.named(["0:1"]), ALICE, busy), "capacity", "gpu.lease")
    assert "bob holds 0:1" in answer.message
    assert (answer.who, answer.frees_at, answer.may_wait) == ("bob", NOW + HOUR, True)
    answer = refused(decide(Request.named(["0:7"]), ALICE, busy), "capacity", "gpu.device")
    assert "0:0, 0:1" in answer.fix
    assert not answer.may_wait


def test_index_of_a_device_that_is_gone_means_the_new_one():
    relaid = snapshot(mig(0, 0, "2g.20gb", state="gone", holder=held(BOB)), mig(0, 0, "3g.40gb"))
    answer = decide(Request.named(["0:0"]), ALICE, relaid)
    assert isinstance(answer, Grant)
    assert answer.devices[0].profile == "3g.40gb"


def test_two_names_of_one_device_are_one_device():
    assert ids(decide(Request.named(["0:1", "MIG-0-1-2g20gb"]), ALICE, snapshot(*LAB))) == ["0:1"]


def test_number_of_devices_is_limited():
    two = person("two", max_mig_instances=2)
    lab = snapshot(mig(0, 0, holder=held(two, NOW + HOUR)), mig(0, 1), mig(0, 2))
    answer = refused(decide(Request(count=2), two, lab), "quota", "max_mig_instances")
    assert (answer.current, answer.requested, answer.limit) == (1, 2, 2)
    assert "0:0 (job)" in answer.fix
    assert answer.frees_at == NOW + HOUR
    assert not answer.may_wait
    assert ids(decide(Request(), two, lab)) == ["0:1"]


def test_weights_are_limited_and_sevenths_add_up():
    one = person("one", max_gpu_equivalents=1)
    sevenths = [mig(0, index, "1g.10gb") for index in range(7)]
    assert len(ids(decide(Request(count=7), one, snapshot(*sevenths)))) == 7
    lab = snapshot(*(replace(device, holder=held(one)) for device in sevenths), mig(1, 0, "1g.10gb"))
    refused(decide(Request(), one, lab), "quota", "max_gpu_equivalents")


def test_lighter_device_is_taken_where_the_preferred_does_not_fit():
    half = person("half", max_gpu_equivalents=0.6)
    lab = snapshot(mig(0, 0, "3g.40gb"), mig(0, 1, "3g.40gb"), mig(1, 0, "1g.10gb"), mig(1, 1, "1g.10gb"))
    got = ids(decide(Request(count=2, profile="1g.10gb"), half, lab))
    assert got == ["1:0", "1:1"]
    # Spreading would take one of each GPU; two halves of a GPU are too much.
    assert sorted(ids(decide(Request(count=2, memory_bytes=0), half, lab))) == ["0:0", "1:0"]
    tight = person("tight", max_gpu_equivalents=0.3)
    assert ids(decide(Request(count=2), tight, lab)) == ["1:0", "1:1"]


def test_what_would_fit_if_it_were_free_waits():
    half = person("half", max_gpu_equivalents=0.3)
    lab = snapshot(mig(0, 0, "3g.40gb"), mig(1, 0, "1g.10gb", holder=held(BOB, NOW + HOUR)))
    answer = refused(decide(Request(), half, lab), "capacity", "gpu.lease")
    assert answer.may_wait


def test_group_as_a_whole_is_limited():
    carol = person("carol", group_equivalents=0.5)
    lab = snapshot(mig(0, 0, holder=held(BOB)), mig(0, 1))
    answer = refused(decide(Request(), carol, lab), "quota", "group_aggregate.max_gpu_equivalents")
    assert answer.who == "bob"
    other = person("dave", "faculty", group_equivalents=0.5)
    assert ids(decide(Request(), other, lab)) == ["0:1"]


def test_devices_of_one_container_are_limited():
    answer = refused(
        decide(Request(count=3), person("few", max_gpus_per_container=2), snapshot(*LAB)),
        "quota",
        "max_gpus_per_container",
    )
    assert answer.limit == 2


def test_all_is_what_is_left():
    assert len(ids(decide(Request(count=None), ALICE, snapshot(*LAB)))) == 5
    two = person("two", max_gpus_per_container=2)
    assert len(ids(decide(Request.named(["all"]), two, snapshot(*LAB)))) == 2
    some = person("some", max_gpu_equivalents=0.6)
    assert len(ids(decide(Request(count=None), some, snapshot(*LAB)))) == 2
    none = person("none", max_mig_instances=0)
    refused(decide(Request(count=None), none, snapshot(*LAB)), "quota", "max_mig_instances")
    busy = snapshot(mig(0, 0, holder=held(BOB)))
    refused(decide(Request(count=None), ALICE, busy), "capacity", "gpu.lease")


@pytest.mark.parametrize(
    ("state", "kind", "rule"),
    [
        ({"state": "unhealthy", "reason": "Xid 79"}, "unhealthy", "gpu.unhealthy"),
        ({"state": "draining"}, "unhealthy", "gpu.draining"),
        ({"state": "gone"}, "unhealthy", "gpu.gone"),
        ({"foreign": "python3, pid 42"}, "capacity", "gpu.foreign"),
    ],
)
def test_device_that_cannot_be_given(state: dict[str, str], kind: str, rule: str):
    refused(decide(Request(), ALICE, snapshot(mig(0, 0, **state))), kind, rule)


def test_more_than_there_are_is_not_waited_for():
    answer = refused(decide(Request(count=9), ALICE, snapshot(*LAB[:3])), "capacity", "gpu.count")
    assert not answer.may_wait
    assert answer.fix == "ask for at most 3"


def test_reserved_devices_are_for_their_owner_in_the_window():
    lab = snapshot(mig(0, 0), bookings=(booking("MIG-0-0-2g20gb", hours=(-1, 1)),))
    answer = refused(decide(Request(), ALICE, lab), "reservation", "reservations")
    assert (answer.who, answer.frees_at) == ("bob", NOW + HOUR)
    assert not answer.may_wait
    assert ids(decide(Request(), BOB, lab)) == ["0:0"]
    group = snapshot(mig(0, 0), bookings=(booking("MIG-0-0-2g20gb", user=None, group="student", hours=(-1, 1)),))
    assert ids(decide(Request(), ALICE, group)) == ["0:0"]
    over = snapshot(mig(0, 0), bookings=(booking("MIG-0-0-2g20gb", hours=(-2, 0)),))
    assert ids(decide(Request(), ALICE, over)) == ["0:0"]


def test_reserved_device_is_used_first_by_its_owner():
    lab = snapshot(mig(0, 0), mig(0, 1), bookings=(booking("MIG-0-1-2g20gb", hours=(-1, 1)),))
    assert ids(decide(Request(), BOB, lab)) == ["0:1"]
    assert ids(decide(Request(), ALICE, lab)) == ["0:0"]


def test_device_reserved_soon_goes_only_to_what_ends_before():
    lab = snapshot(mig(0, 0), bookings=(booking("MIG-0-0-2g20gb", hours=(3, 5)),))
    assert ids(decide(Request(runtime=3 * 3600), ALICE, lab)) == ["0:0"]
    refused(decide(Request(runtime=4 * 3600), ALICE, lab), "reservation", "reservations")
    refused(decide(Request(), ALICE, lab), "reservation", "reservations")
    assert ids(decide(Request(), person("short", max_runtime=3600), lab)) == ["0:0"]
    later = snapshot(mig(0, 0), bookings=(booking("MIG-0-0-2g20gb", hours=(25, 30)),))
    assert ids(decide(Request(), ALICE, later)) == ["0:0"]


def test_what_is_kept_for_those_who_wait_is_not_given():
    lab = snapshot(mig(0, 0), withheld={"MIG-0-0-2g20gb": "0:0 is kept for bob"})
    assert refused(decide(Request(), ALICE, lab), "capacity", "gpu.queue").may_wait


@pytest.mark.parametrize(
    "asked",
    [
        {"count": -1},
        {"count": 5_000},
        {"profile": "2g"},
        {"profile": "2g.20gb", "full": True},
        {"devices": ("0:1",), "count": 2},
        {"runtime": 0},
        {"memory_bytes": -1},
    ],
)
def test_contradictions_are_named(asked: dict[str, object]):
    with pytest.raises(BadRequest):
        Request(**asked)  # type: ignore[arg-type] - that is the point


@pytest.mark.parametrize("names", [[], ["first"], ["0:1", "../0"], ["-1"], ["0:1;0:2"]])
def test_odd_device_names_are_refused(names: list[str]):
    with pytest.raises(BadRequest):
        Request.named(names)


def test_request_survives_the_ledger():
    for asked in (Request(), Request.named(["0:1", "1:0"], 60), Request(profile="2g.20gb"), Request(count=None)):
        assert Request.from_dict(asked.as_dict()) == asked
