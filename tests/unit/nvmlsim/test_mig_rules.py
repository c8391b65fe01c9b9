"""Instances: what the driver permits, and what it refuses."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from itertools import pairwise

import pynvml
import pytest

from ds01.mig_geometry import MODELS
from lab.nvmlsim import models

PRODUCTION_NAMES = {"A100-40": "A100-40GB", "A100-80": "A100-80GB", "H100-80": "H100-80GB", "H200-141": "H200-141GB"}
ARGUMENTS = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)


def profile(gpu, name):
    for argument in ARGUMENTS:
        try:
            info = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, argument)
        except pynvml.NVMLError_NotSupported:
            continue
        if info.name == f"MIG {name}":
            return info
    raise LookupError(name)


def placements(gpu, info):
    count = ctypes.c_uint()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, info.id, None, ctypes.byref(count))
    found = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
    pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(gpu, info.id, found, ctypes.byref(count))
    return [(item.start, item.size) for item in found]


def create(gpu, name, start):
    info = profile(gpu, name)
    size = placements(gpu, info)[0][1]
    place = pynvml.c_nvmlGpuInstancePlacement_t(start, size)
    return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, info.id, ctypes.byref(place))


def ident(instance):
    return pynvml.nvmlGpuInstanceGetInfo(instance).id


@pytest.mark.parametrize("model", models())
def test_profiles_agree_with_what_the_policy_is_checked_against(gpu, model):
    _, handle = gpu(model, [])
    for name, shape in MODELS[PRODUCTION_NAMES[model]].items():
        info = profile(handle, name)
        places = placements(handle, info)
        assert (info.sliceCount, info.instanceCount) == (shape.compute, shape.most)
        assert places == [(start, shape.memory) for start in shape.starts]
        assert (
            pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, pynvml.NVML_GPU_INSTANCE_PROFILE_1_SLICE, version=1).id
            == 19
        )


def test_ids_follow_the_position_but_not_those_of_the_halves(gpu):
    _, handle = gpu(layout=[])
    assert [ident(create(handle, "1g.10gb", start)) for start in range(7)] == list(range(7, 14))


def test_ids_of_twos_and_wholes(gpu):
    server, handle = gpu(layout=[])
    assert [ident(create(handle, "2g.20gb", start)) for start in (0, 2, 4)] == [3, 4, 5]
    server.set_mig(0, enabled=True)
    assert ident(create(handle, "7g.80gb", 0)) == 0
    server.set_mig(0, enabled=True)
    assert {ident(create(handle, "3g.40gb", start)) for start in (0, 4)} == {1, 2}


def test_the_order_of_creation_matters_where_the_driver_chooses(gpu):
    server, _ = gpu(layout=["3g.40gb", "3g.40gb"])
    server.set_mig(0, enabled=True)
    for _ in range(2):
        server.add_instance(0, "1g.10gb")
    server.add_instance(0, "3g.40gb")
    with pytest.raises(Exception, match="does not fit"):
        server.add_instance(0, "3g.40gb")


def test_occupied_and_illegal_places_are_refused(gpu):
    _, handle = gpu(layout=[("3g.40gb", 0)])
    with pytest.raises(pynvml.NVMLError_InsufficientResources):
        create(handle, "2g.20gb", 2)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        create(handle, "2g.20gb", 5)
    with pytest.raises(pynvml.NVMLError_InsufficientResources):
        create(handle, "7g.80gb", 0)


def test_capacity_counts_what_still_fits(gpu):
    _, handle = gpu(layout=[("3g.40gb", 0)])
    left = {
        name: pynvml.nvmlDeviceGetGpuInstanceRemainingCapacity(handle, profile(handle, name).id)
        for name in ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    }
    assert left == {"1g.10gb": 3, "2g.20gb": 1, "3g.40gb": 1, "4g.40gb": 0, "7g.80gb": 0}


def test_what_is_in_use_stays(gpu, process):
    server, handle = gpu(layout=["2g.20gb"])
    device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    instance = pynvml.nvmlDeviceGetGpuInstanceById(handle, pynvml.nvmlDeviceGetGpuInstanceId(device))
    compute = pynvml.nvmlGpuInstanceGetComputeInstanceById(instance, 0)
    running = process()
    server.attach("0:0", running.pid, 1 << 30)
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlComputeInstanceDestroy(compute)
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlGpuInstanceDestroy(instance)
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlDeviceSetMigMode(handle, 0)
    running.kill()
    running.wait()
    with pytest.raises(pynvml.NVMLError_InUse):
        pynvml.nvmlGpuInstanceDestroy(instance)
    pynvml.nvmlComputeInstanceDestroy(compute)
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetUUID(device)
    pynvml.nvmlGpuInstanceDestroy(instance)
    assert pynvml.nvmlDeviceSetMigMode(handle, 0) == pynvml.NVML_SUCCESS
    assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 0]


def test_an_instance_can_be_shared_by_several_compute_instances(gpu):
    server, handle = gpu(layout=[])
    instance = create(handle, "3g.40gb", 0)
    for _ in range(3):
        pynvml.nvmlGpuInstanceCreateComputeInstance(instance, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    with pytest.raises(pynvml.NVMLError_InsufficientResources):
        pynvml.nvmlGpuInstanceCreateComputeInstance(instance, pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE)
    devices = [pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index) for index in range(3)]
    assert {pynvml.nvmlDeviceGetName(device) for device in devices} == {"NVIDIA A100-SXM4-80GB MIG 1c.3g.40gb"}
    assert [pynvml.nvmlDeviceGetComputeInstanceId(device) for device in devices] == [0, 1, 2]
    # They share the memory of the instance.
    before = pynvml.nvmlDeviceGetMemoryInfo(devices[1]).used
    with subprocess.Popen(["sleep", "60"]) as running:
        server.attach("0:0", running.pid, 1 << 30)
        assert pynvml.nvmlDeviceGetMemoryInfo(devices[1]).used == before + (1 << 30)
        assert pynvml.nvmlDeviceGetComputeRunningProcesses(devices[1]) == []
        running.kill()


def test_an_instance_without_a_compute_instance_leaves_a_hole(gpu):
    server, handle = gpu(layout=[])
    create(handle, "2g.20gb", 0)
    server.add_instance(0, "1g.10gb", 6)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    assert "1g.10gb" in pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 1))


def test_ampere_changes_its_mode_only_when_nobody_has_it_open(gpu, process):
    server, handle = gpu()
    monitor = process()
    server.attach("0", monitor.pid, 0, kind=3)
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == pynvml.NVML_ERROR_IN_USE
    assert pynvml.nvmlDeviceGetMigMode(handle) == [0, 1]
    assert [holder["pid"] for holder in server.state()["gpus"][0]["holders"] if holder["kind"] == "process"] == [
        monitor.pid
    ]
    monitor.kill()
    monitor.wait()
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == pynvml.NVML_SUCCESS
    assert pynvml.nvmlDeviceGetMigMode(handle) == [1, 1]


def test_another_process_with_nvml_open_keeps_the_mode_too(gpu):
    _, handle = gpu()
    script = "import pynvml, sys; pynvml.nvmlInit(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert pynvml.nvmlDeviceSetMigMode(handle, 1) == pynvml.NVML_ERROR_IN_USE
        other.kill()
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == pynvml.NVML_SUCCESS


def test_hopper_needs_no_reset_for_its_mode(gpu, process):
    server, handle = gpu("H100-80")
    server.attach("0", process().pid, 0, kind=3)
    assert pynvml.nvmlDeviceSetMigMode(handle, 1) == pynvml.NVML_SUCCESS


def test_a_reboot_takes_instances_and_leaves_the_mode_of_ampere(nvml_server, process):
    server = nvml_server(["A100-80", "H100-80"], {0: ["2g.20gb"], 1: ["2g.20gb"]})
    pynvml.nvmlInit()
    old = pynvml.nvmlDeviceGetHandleByIndex(0)
    server.attach("0:0", process().pid, 1 << 30)
    server.reboot()
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlDeviceGetMigMode(old)
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    ampere, hopper = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    assert pynvml.nvmlDeviceGetMigMode(ampere) == [1, 1]
    assert pynvml.nvmlDeviceGetMigMode(hopper) == [0, 0]
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(ampere, 0)


def test_a_pending_mode_comes_with_the_reset(gpu, process):
    server, handle = gpu()
    monitor = process()
    server.attach("0", monitor.pid, 0, kind=3)
    pynvml.nvmlDeviceSetMigMode(handle, 1)
    pynvml.nvmlShutdown()
    with pytest.raises(Exception, match="in use"):
        server.reset(0)
    monitor.kill()
    monitor.wait()
    server.reset(0)
    assert server.state()["gpus"][0]["mig"] is True


def test_every_layout_that_the_driver_permits_and_no_other(gpu):
    """Grow placed layouts one instance at a time: 298 of them, as NVIDIA's tables give for 8 and 7 slices."""
    _, handle = gpu("A100-40", [])
    names = ["1g.5gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"]
    spots = [(name, start) for name in names for start, _ in placements(handle, profile(handle, name))]
    ids = {name: profile(handle, name).id for name in names}
    sizes = {name: placements(handle, profile(handle, name))[0][1] for name in names}

    def make(spot):
        place = pynvml.c_nvmlGpuInstancePlacement_t(spot[1], sizes[spot[0]])
        return pynvml.nvmlDeviceCreateGpuInstanceWithPlacement(handle, ids[spot[0]], ctypes.byref(place))

    found = {frozenset()}

    def grow(layout):
        for spot in spots:
            bigger = layout | {spot}
            if bigger in found:
                continue
            try:
                instance = make(spot)
            except (pynvml.NVMLError_InsufficientResources, pynvml.NVMLError_InvalidArgument):
                continue
            found.add(bigger)
            grow(bigger)
            pynvml.nvmlGpuInstanceDestroy(instance)

    grow(frozenset())
    assert len(found) == 298
    assert len([one for one in found if not any(one < other for other in found)]) == 19


def test_uuids_are_new_each_time(gpu):
    server, handle = gpu(layout=["1g.10gb"])
    seen = []
    for _ in range(3):
        seen.append(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)))
        server.set_mig(0, enabled=True)
        server.add_instance(0, "1g.10gb")
    assert all(one != other for one, other in pairwise(seen))
