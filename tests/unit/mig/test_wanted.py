"""From policy, file or saved layout to a wish for each GPU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.mig import parted, saved
from ds01.mig.model import GpuState, Holder, Instance, Placed, Verdict, Wish
from ds01.mig.planner import plan, plan_gpu
from ds01.mig.wanted import from_policy
from ds01.mig_geometry import MODELS, Slot, is_gpu, model_of, placements
from ds01.policy.problems import PolicyError

A100 = MODELS["A100-80GB"]
A100_PCI = 0x20B210DE


def gpu(index: int, *placed: str, enabled: bool = True, profiles=A100, **more: object) -> GpuState:
    instances = tuple(
        Instance(Placed(int(start), profile), number, uuid=f"MIG-{index}-{number}", device=f"{index}:{number}")
        for number, (profile, _, start) in enumerate(text.partition("@") for text in placed)
    )
    uuid, address = f"GPU-{index}", f"0000:{index:02x}:00.0"
    options = {"enabled": enabled, "pending": enabled, "instances": instances, "pci_device_id": A100_PCI} | more
    return GpuState(index, uuid, address, "NVIDIA A100-SXM4-80GB", profiles, **options)


def allocation(**keys: object) -> dict:
    return {"enable_mig": True, "mig_profile": None, "mig_layout": {}} | keys


def divided(*names: str) -> Wish:
    return Wish(mig=True, slots=tuple(map(Slot, names)))


def slots(*names: str) -> list[dict]:
    return [{"profile": name, "start": None} for name in names]


def test_a_uniform_profile_is_for_every_gpu_that_can_be_divided():
    states = [gpu(0, enabled=False), gpu(1, enabled=False, profiles={})]
    wanted = from_policy(allocation(mig_profile="2g.20gb"), states)
    assert wanted.wishes == {"GPU-0": Wish(mig=True, slots=(Slot("2g.20gb"),) * 3, source="gpu_allocation.mig_profile")}


def test_a_layout_wins_over_the_profile_and_an_empty_one_means_whole():
    layout = {"0": [], "GPU-1": slots("7g.80gb"), "0000:02:00.0": slots("1g.10gb")}
    wanted = from_policy(allocation(mig_profile="3g.40gb", mig_layout=layout), [gpu(number) for number in range(4)])
    assert {uuid: (wish.mig, len(wish.slots)) for uuid, wish in wanted.wishes.items()} == {
        "GPU-0": (False, 0),
        "GPU-1": (True, 1),
        "GPU-2": (True, 1),
        "GPU-3": (True, 2),
    }
    assert wanted.missing == ()


def test_a_gpu_that_is_not_there_is_named():
    wanted = from_policy(allocation(mig_layout={"7": [], "GPU-0": []}), [gpu(0)])
    assert wanted.missing == ("7",)
    assert not plan([gpu(0, enabled=False)], wanted.wishes, wanted.missing).done


def test_without_enable_mig_nothing_is_anybodys_business():
    assert from_policy(allocation(enable_mig=False, mig_profile="2g.20gb"), [gpu(0)]).wishes == {}


def test_a_whole_gpu_and_one_instance_of_everything_are_different():
    whole, one = gpu(0, enabled=False), gpu(0, "7g.80gb@0")
    assert plan_gpu(whole, Wish(mig=False)).verdict is Verdict.DONE
    assert plan_gpu(one, divided("7g.80gb")).verdict is Verdict.DONE
    to_mig = plan_gpu(whole, divided("7g.80gb"))
    assert (to_mig.mode, to_mig.create) == (True, (Placed(0, "7g.80gb"),))
    to_whole = plan_gpu(one, Wish(mig=False))
    assert (to_whole.mode, [item.placed for item in to_whole.destroy]) == (False, [Placed(0, "7g.80gb")])


def test_new_instances_leave_room_for_a_large_one():
    assert plan_gpu(gpu(0), divided("1g.10gb", "2g.20gb")).target == (Placed(4, "2g.20gb"), Placed(6, "1g.10gb"))
    # Unless that would cost one that is there.
    assert Placed(0, "1g.10gb") in plan_gpu(gpu(0, "1g.10gb@0"), divided("1g.10gb", "2g.20gb")).target


def test_a_mode_change_waits_for_work_and_names_every_holder():
    daemon = Holder("system", "process 7 (nvidia-persistenced)", daemon=True, fix="systemctl stop nvidia-persistenced")
    work = Holder("alice", "process 8 (python)")
    busy = plan_gpu(gpu(0, enabled=False, holders=(daemon, work)), divided("7g.80gb"))
    assert busy.verdict is Verdict.WAITS
    assert busy.holders == (daemon, work)
    assert "alice" in busy.reason
    assert not busy.changes
    open_only = plan_gpu(gpu(0, enabled=False, holders=(daemon,)), divided("7g.80gb"))
    assert open_only.verdict is Verdict.CHANGE
    assert "systemctl stop nvidia-persistenced" in open_only.fix


def test_a_pending_mode_is_waited_for_or_taken_back():
    on = gpu(0, enabled=False, pending=True)
    assert plan_gpu(on, divided("7g.80gb")).verdict is Verdict.RESET
    assert plan_gpu(on, Wish(mig=False)).mode is False
    off = gpu(0, "7g.80gb@0", pending=False)
    assert plan_gpu(off, divided("7g.80gb")).mode is True
    going = plan_gpu(off, Wish(mig=False))
    assert (going.verdict, going.mode, len(going.destroy)) == (Verdict.RESET, None, 1)


def test_a_gpu_that_cannot_be_read_is_not_touched():
    found = plan_gpu(gpu(0, "7g.80gb@0", problem="GPU 0: lost"), Wish(mig=False))
    assert (found.verdict, found.changes, found.reason) == (Verdict.UNKNOWN, False, "GPU 0: lost")


@pytest.mark.parametrize(
    ("wanted", "reason", "fix"),
    [
        (["2g.10gb"], "2g.10gb is none", "2g.20gb"),
        (["2g.20gb@1"], "2g.20gb at a memory slice", "0, 2, 4"),
        (
            ["4g.40gb", "2g.20gb", "2g.20gb", "1g.10gb"],
            "no room for 2g.20gb beside 4g.40gb, 2g.20gb, 1g.10gb",
            "remove 2g.20gb",
        ),
        (["7g.80gb", "1g.10gb"], "no room for 1g.10gb beside 7g.80gb", "smaller"),
    ],
)
def test_an_impossible_layout_is_explained(wanted, reason, fix):
    texts = [text.partition("@") for text in wanted]
    wish = Wish(mig=True, slots=tuple(Slot(profile, int(start) if start else None) for profile, _, start in texts))
    found = plan_gpu(gpu(0), wish)
    assert found.verdict is Verdict.IMPOSSIBLE
    assert reason in found.reason
    assert fix in found.fix


CONFIG = """\
version: v1
mig-configs:
  mixed:
    - devices: [0, 1]
      mig-enabled: true
      mig-devices: {"2g.20gb": 3, "1g.10gb": 1}
    - device-filter: ["0x20B210DE", "0x233010DE"]
      devices: [2]
      mig-enabled: false
      mig-devices: {}
  all:
    - devices: all
      device-filter: "0x233010DE"
      mig-enabled: true
      mig-devices: {"7g.80gb": 1}
"""


def read(tmp_path, text: str, name: str | None, count: int = 4):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return parted.read(path, name, [gpu(number) for number in range(count)])


def test_a_file_of_mig_parted(tmp_path):
    wanted = read(tmp_path, CONFIG, "mixed")
    assert {uuid: (wish.mig, sorted(slot.profile for slot in wish.slots)) for uuid, wish in wanted.wishes.items()} == {
        "GPU-0": (True, ["1g.10gb", "2g.20gb", "2g.20gb", "2g.20gb"]),
        "GPU-1": (True, ["1g.10gb", "2g.20gb", "2g.20gb", "2g.20gb"]),
        "GPU-2": (False, []),
    }
    assert read(tmp_path, CONFIG, "all").wishes == {}
    assert read(tmp_path, CONFIG, "mixed", count=1).missing == ("1", "2")


BLOCK = "version: v1\nmig-configs: {a: [{devices: all, mig-enabled: true, mig-devices: {%s}}]}\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (CONFIG, "mig-configs"),
        (CONFIG.replace("v1", "v2"), "version"),
        ("version: v1\n", "mig-configs"),
        ("[]", "(whole file)"),
        ("version: v1\nmig-configs: {a: []}\n", "mig-configs.a"),
        ("version: v1\nmig-configs: {a: [{devices: -1, mig-enabled: true}]}\n", "mig-configs.a[0].devices"),
        ("version: v1\nmig-configs: {a: [{devices: all, mig-enabled: 3}]}\n", "mig-configs.a[0].mig-enabled"),
        ("version: v1\nmig-configs: {a: [{devices: all, mig-enabled: true, mig-device: {}}]}\n", "mig-device"),
        (BLOCK % '"1c.2g.20gb": 1', "mig-devices"),
        (BLOCK % '"1g.10gb": 1000000000', "mig-devices"),
        (BLOCK % '"1g.10gb": true', "mig-devices"),
        (BLOCK.replace("all", "[0, 0], device-filter: x") % "", "device-filter"),
        (BLOCK.replace("[{", "[{devices: all, mig-enabled: false}, {") % "", "mig-configs.a[1].devices"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, path):
    with pytest.raises(PolicyError) as error:
        read(tmp_path, text, None)
    assert any(path in problem.path for problem in error.value.problems)
    assert all(problem.fix for problem in error.value.problems)


LAYOUTS = [
    tuple(Placed(start, slot.profile) for start, slot in zip(starts, wanted, strict=True))
    for names in (["3g.40gb"], ["1g.10gb"] * 3, ["2g.20gb", "1g.10gb"], ["1g.20gb", "3g.40gb"], ["1g.10gb+me"], [])
    for wanted in ([Slot(name) for name in names],)
    for starts in placements(wanted, A100)
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.sampled_from(LAYOUTS)), min_size=1, max_size=4))
def test_what_export_writes_asks_for_no_change(tmp_path_factory, layouts):
    states = [gpu(number, *map(str, layout or ()), enabled=layout is not None) for number, layout in enumerate(layouts)]
    path = tmp_path_factory.mktemp("export") / "config.yaml"
    path.write_text(parted.write(states, "current"))
    wanted = parted.read(path, "current", states)
    found = plan(states, wanted.wishes, wanted.missing)
    assert len(found.gpus) == len(states)
    assert found.done


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(saved, "DIRECTORY", tmp_path / "mig")
    return tmp_path / "mig"


@pytest.mark.usefixtures("directory")
def test_a_saved_layout_comes_back_at_its_places():
    layouts = {"GPU-0": saved.Layout.of(gpu(0, "3g.40gb@4", "1g.10gb@2")), "GPU-1": saved.Layout(mig=False)}
    assert saved.save(layouts)
    assert not saved.save(layouts)
    assert saved.load() == layouts
    wanted = saved.wanted(layouts, [gpu(0)])
    assert wanted.wishes["GPU-0"].slots == (Slot("1g.10gb", 2), Slot("3g.40gb", 4))
    assert wanted.missing == ()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 2, "gpus": {}}', '{"schema": 1, "gpus": {"a": 1}}'])
def test_a_damaged_layout_is_an_error_and_never_an_empty_one(directory, text):
    assert saved.load() == {}
    directory.mkdir()
    (directory / "desired.json").write_text(text)
    with pytest.raises(saved.SavedError, match=r"desired\.json"):
        saved.load()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("0", True), ("00", True), ("1", False), ("gpu-aa", True), ("GPU-bb", False), ("0000:3b:00.0", True),
        ("00000000:3B:00.0", True), ("3b:00.0", True), ("0001:3b:00.0", False), ("3c:00.0", False), ("x", False),
    ],
)  # fmt: skip
def test_names_of_a_gpu(name, meant):
    assert is_gpu(name, 0, "GPU-aa", "0000:3b:00.0") is meant


@pytest.mark.parametrize(
    ("product", "memory", "model"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920 << 20, "A100-80GB"), ("NVIDIA A100 80GB PCIe", None, "A100-80GB"),
        ("NVIDIA A100-PCIE-40GB", 40960 << 20, "A100-40GB"), ("NVIDIA H100 PCIe", 81559 << 20, "H100-80GB"),
        ("NVIDIA H200", 143771 << 20, "H200-141GB"), ("NVIDIA H100 NVL", 95830 << 20, None),
        ("NVIDIA GH200 480GB", 97871 << 20, None), ("NVIDIA A10", 24 << 30, None), ("NVIDIA H200", None, None),
    ],
)  # fmt: skip
def test_models_by_name_and_memory(product, memory, model):
    assert model_of(product, memory) == model
