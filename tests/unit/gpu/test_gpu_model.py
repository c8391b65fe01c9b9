"""Names and places of devices, from one layout to the next."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gpu.model import FULL, Device, Gpu, GpuProblem, Inventory, Measured, NoDeviceError, Placement, ProblemKind
from ds01.mig_geometry import MODELS

SHAPES = MODELS["A100-80GB"]


def gpu(index: int, places: list[tuple[str, int]] | None, *, uuid_: str = "", complete: bool = True) -> Gpu:
    """A GPU that is whole, or has instances at these places, in the order of their MIG indices."""
    name = uuid_ or f"GPU-{uuid.UUID(int=index + 1)}"
    common = {"gpu_uuid": name, "gpu_index": index, "model": "A100"}
    if places is None:
        devices = [
            Device(
                name,
                **common,
                mig_index=None,
                gi_id=None,
                ci_id=None,
                placement=None,
                profile=FULL,
                memory_bytes=80 << 30,
                weight=1.0,
            )
        ]
    else:
        devices = [
            Device(
                f"MIG-{uuid.uuid4()}",
                **common,
                mig_index=mig,
                gi_id=_gi_id(profile, start),
                ci_id=0,
                placement=Placement(start, SHAPES[profile].memory),
                profile=profile,
                memory_bytes=10 << 30,
                weight=SHAPES[profile].compute / 7,
            )
            for mig, (profile, start) in enumerate(places)
        ]
    divided = places is not None
    return Gpu(
        index,
        name,
        "A100",
        f"0000:{index:02x}:00.0",
        None,
        mig_capable=True,
        mig_enabled=divided,
        mig_pending=divided,
        devices=tuple(devices),
        complete=complete,
    )


def _gi_id(profile: str, start: int) -> int:
    return 7 + start if profile.startswith("1g") else 3 + start // 2


places = st.sets(st.sampled_from([("1g.10gb", start) for start in range(7)] + [("2g.20gb", 0), ("2g.20gb", 4)]))
servers = st.lists(st.none() | places.flatmap(lambda found: st.permutations(sorted(found))), max_size=4)


@given(servers)
def test_every_name_of_a_device_finds_that_device(server: list[list[tuple[str, int]] | None]) -> None:
    inventory = Inventory(tuple(gpu(index, layout) for index, layout in enumerate(server)))
    for device in inventory.devices:
        names = [device.uuid, device.uuid.upper(), device.id, f" {device.id} "]
        if device.mig_index is not None:
            names.append(f"MIG-{device.gpu_uuid}/{device.gi_id}/{device.ci_id}")
        assert {inventory.find(name).uuid for name in names} == {device.uuid}
    assert len({device.id for device in inventory.devices}) == len(inventory.devices)


@given(servers, st.randoms())
def test_a_rebuilt_layout_leads_each_device_to_its_place(server: list[list[tuple[str, int]] | None], random) -> None:
    before = Inventory(tuple(gpu(index, layout) for index, layout in enumerate(server)))
    rebuilt = [layout if layout is None else random.sample(layout, len(layout)) for layout in server]
    after = Inventory(tuple(gpu(index, layout) for index, layout in enumerate(rebuilt)))
    for device in before.devices:
        found = after.successor(device)
        assert found is not None
        assert (found.gpu_uuid, found.placement, found.profile) == (device.gpu_uuid, device.placement, device.profile)
        assert after.is_gone(device) == (device.mig_index is not None)


def test_a_name_that_nothing_has_is_answered_with_those_that_exist() -> None:
    inventory = Inventory((gpu(0, [("2g.20gb", 0), ("1g.10gb", 2)]), gpu(1, None), gpu(2, [])))
    for name in ("2:0", "MIG-x", "0:2", "0:", "-1", "", "7"):
        with pytest.raises(NoDeviceError, match=r"there are: 0:0, 0:1, 1$"):
            inventory.find(name)
    with pytest.raises(NoDeviceError, match=r"GPU 0 is divided .* 0:0, 0:1$"):
        inventory.find("0")
    with pytest.raises(NoDeviceError, match="no instances yet"):
        inventory.find("2")
    found = inventory.gpu("01:00.0")
    assert found is not None
    assert found.index == 1


def test_who_may_not_ask_for_places_gets_no_wrong_successor() -> None:
    before, after = (gpu(0, [("1g.10gb", 0), ("1g.10gb", 1)]) for _ in range(2))
    hidden = replace(before.devices[0], placement=None)
    rebuilt = replace(after, devices=tuple(replace(device, placement=None) for device in after.devices))
    assert Inventory((rebuilt,)).successor(hidden) is None
    assert Inventory((replace(before, devices=(hidden,)),)).successor(hidden) is hidden


def test_what_could_not_be_read_is_not_gone() -> None:
    known = gpu(0, [("1g.10gb", 0)]).devices[0]
    lost = GpuProblem(ProblemKind.LOST, 0, None, "lost", "reset it")
    assert not Inventory((gpu(1, None),), (lost,)).is_gone(known)
    assert not Inventory((gpu(0, [], complete=False),)).is_gone(known)
    assert Inventory((gpu(0, []),)).is_gone(known)
    assert Inventory((gpu(1, None),)).is_gone(known)
    waits = GpuProblem(ProblemKind.MODE_PENDING, 1, None, "waits", "reset it")
    assert Inventory((gpu(1, None),), (waits,)).complete


def test_unknown_is_not_zero() -> None:
    nothing: list[Measured[int]] = [Measured.unsupported("call"), Measured.unknown("call", "GPU is lost")]
    for value in nothing:
        assert not value.known
        assert value.as_dict()["value"] is None
    assert Measured.of(0, "call").known
    assert Measured.of(0, "call").as_dict() == {"value": 0, "state": "value", "source": "call"}
    assert Measured.of(1, "call", age_s=2.04).as_dict()["age_s"] == 2.0
