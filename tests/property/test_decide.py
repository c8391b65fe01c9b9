"""What a decision must be, for any lab, person and request: checked against trying every choice of devices."""

from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from ds01.allocator.decide import decide
from ds01.allocator.model import DeviceView, Grant, Person, Refusal, Snapshot
from ds01.allocator.request import Request
from tests.allocation import GIB, HOUR, booking, full, held, mig, person, snapshot

PROFILES = ("1g.10gb", "2g.20gb", "3g.40gb")
TINY = 1e-6
ALWAYS = st.just(value=True)
NAMES = st.sampled_from(["0", "1", "0:0", "0:1", "1:0", "2", "9"])
limits = st.fixed_dictionaries(
    {
        "max_mig_instances": st.none() | st.integers(0, 4),
        "max_gpu_equivalents": st.none() | st.sampled_from([0, 0.3, 0.5, 1, 2.5]),
        "max_gpus_per_container": st.none() | st.integers(0, 3),
        "allow_full_gpu": st.booleans(),
        "group_equivalents": st.none() | st.sampled_from([0.3, 1, 3]),
        "max_runtime": st.none() | st.sampled_from([3600, 36_000]),
    }
)
people = st.builds(
    lambda name, group, values: person(name, group, **values),
    st.sampled_from("abc"),
    st.sampled_from(["student", "faculty"]),
    limits,
)
runtimes = st.none() | st.sampled_from([3600, 36_000])
requests = st.one_of(
    st.builds(Request, count=st.none() | st.integers(0, 3), runtime=runtimes),
    st.builds(Request, count=st.integers(1, 3), profile=st.sampled_from(PROFILES)),
    st.builds(Request, count=st.integers(1, 3), memory_bytes=st.sampled_from([15 * GIB, 30 * GIB, 50 * GIB])),
    st.builds(Request, count=st.integers(1, 2), full=ALWAYS, runtime=runtimes),
    st.builds(
        Request.named, st.lists(st.sampled_from(["0", "1", "0:0", "0:1", "1:0", "2", "9"]), min_size=1, max_size=3)
    ),
)


@st.composite
def labs(draw: st.DrawFn) -> Snapshot:
    devices: list[DeviceView] = []
    for gpu in range(draw(st.integers(1, 3))):
        layout = draw(st.lists(st.sampled_from(PROFILES), max_size=3))
        devices += [mig(gpu, index, profile) for index, profile in enumerate(layout)]
        if not layout or draw(st.integers(0, 9)) == 0:
            devices.append(full(gpu))
    changed = []
    for device in devices:
        holder = held(draw(people)) if draw(st.booleans()) else None
        state = draw(st.sampled_from(["ok"] * 6 + ["unhealthy", "draining", "gone"]))
        foreign = "pid 7" if draw(st.integers(0, 9)) == 0 else None
        changed.append(replace(device, holder=holder, state=state, foreign=foreign))
    bookings = []
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.sampled_from([-2.0, 0.5, 5.0, 30.0]))
        uuids = draw(st.lists(st.sampled_from([device.uuid for device in devices]), max_size=2, unique=True))
        bookings.append(booking(*uuids, user=draw(st.sampled_from("abc")), hours=(start, start + 3)))
    strategy = draw(st.sampled_from(["least_allocated", "packed"]))
    return snapshot(*changed, bookings=tuple(bookings), strategy=strategy)


def permitted(device: DeviceView, asked: Request, who: Person, lab: Snapshot) -> bool:
    """The rules for one device, written down once more."""
    if device.holder or device.foreign or device.state != "ok":
        return False
    if device.full and not who.limits.allow_full_gpu:
        return False
    if device.full and any(not d.full and d.gpu_uuid == device.gpu_uuid and d.state != "gone" for d in lab.devices):
        return False
    times = [time for time in (asked.runtime, who.limits.max_runtime) if time]
    end = lab.now + min(times) * 1000 if times else None
    for window in lab.bookings:
        if device.uuid in window.devices and window.user != who.user and window.ends > lab.now:
            soon = window.starts <= lab.now + 24 * HOUR
            if soon and (window.starts <= lab.now or end is None or end > window.starts):
                return False
    return True


def satisfies(device: DeviceView, asked: Request) -> bool:
    if asked.devices:
        return device.id in asked.devices
    if asked.full and not device.full:
        return False
    if asked.profile and (device.full or int(device.profile[0]) < int(asked.profile[0])):
        return False
    return device.memory_bytes >= asked.memory_bytes


def within(devices: tuple[DeviceView, ...], who: Person, lab: Snapshot) -> bool:
    mine = [d for d in lab.devices if d.holder and d.holder.uid == who.uid]
    group = [d for d in lab.devices if d.holder and (d.holder.group == who.group)]
    values = who.limits
    return (
        (values.max_mig_instances is None or len(mine) + len(devices) <= values.max_mig_instances)
        and (values.max_gpus_per_container is None or len(devices) <= values.max_gpus_per_container)
        and (
            values.max_gpu_equivalents is None
            or sum(d.weight for d in (*mine, *devices)) <= values.max_gpu_equivalents + TINY
        )
        and (
            values.group_equivalents is None
            or sum(d.weight for d in (*group, *devices)) <= values.group_equivalents + TINY
        )
    )


@given(requests, people, labs())
def test_grants_exactly_what_is_permitted(asked: Request, who: Person, lab: Snapshot):
    if asked.count == 0:
        assert decide(asked, who, lab) == Grant(())
        return
    answer = decide(asked, who, lab)
    usable = [d for d in lab.devices if satisfies(d, asked) and permitted(d, asked, who, lab)]
    if isinstance(answer, Grant):
        uuids = [device.uuid for device in answer.devices]
        assert len(set(uuids)) == len(uuids)
        assert set(answer.devices) <= set(usable)
        assert within(answer.devices, who, lab)
        if asked.devices:
            assert sorted(device.id for device in answer.devices) == sorted(set(asked.devices))
        elif asked.count is not None:
            assert len(answer.devices) == asked.count
        else:
            more = len(answer.devices) + 1
            assert answer.devices
            assert not any(within(choice, who, lab) for choice in combinations(usable, more))
    else:
        count = len(set(asked.devices)) if asked.devices else asked.count or 1
        assert asked.count != 0
        assert not any(within(choice, who, lab) for choice in combinations(usable, count)), answer


@given(requests, people, labs())
def test_a_refusal_says_everything(asked: Request, who: Person, lab: Snapshot):
    answer = decide(asked, who, lab)
    if isinstance(answer, Refusal):
        assert answer.message
        assert answer.fix
        assert answer.frees_at is None or answer.frees_at >= 0
        assert answer.kind in {"quota", "permission", "reservation", "capacity", "unhealthy"}
        # Whoever reads it typed `job`, not what the engine calls it.
        assert "._." not in repr(answer)
        assert answer == decide(asked, who, lab)


@given(requests, people, labs())
def test_what_may_wait_is_granted_once_everything_is_free(asked: Request, who: Person, lab: Snapshot):
    answer = decide(asked, who, lab)
    if isinstance(answer, Refusal) and answer.may_wait:
        others = tuple(
            replace(
                device, holder=None if device.holder and device.holder.uid != who.uid else device.holder, foreign=None
            )
            for device in lab.devices
        )
        later = decide(asked, who, replace(lab, devices=others, bookings=()))
        mine = any(device.holder for device in others)
        assert isinstance(later, Grant) or mine
