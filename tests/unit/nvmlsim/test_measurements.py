"""Load, memory, power, energy, health and events: what is measured, and where there is no measurement."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time

import pynvml
import pytest

from lab.nvmlsim import NvmlsimError, models

MIB = 1 << 20
NO_ANSWER_IN_MIG = (
    pynvml.nvmlDeviceGetUtilizationRates,
    pynvml.nvmlDeviceGetEncoderUtilization,
    pynvml.nvmlDeviceGetDecoderUtilization,
    lambda device: pynvml.nvmlDeviceGetProcessUtilization(device, 0),
)
PARENT_ONLY = (
    pynvml.nvmlDeviceGetPowerUsage,
    pynvml.nvmlDeviceGetTotalEnergyConsumption,
    lambda device: pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
    lambda device: pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM),
    pynvml.nvmlDeviceGetMinorNumber,
)


def energy(handle):
    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)


def mig_device(handle, index=0):
    return pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)


@pytest.mark.parametrize("call", NO_ANSWER_IN_MIG)
def test_there_is_no_utilisation_in_mig_mode(gpu, call):
    _, handle = gpu(layout=["2g.20gb"])
    for device in (handle, mig_device(handle)):
        with pytest.raises(pynvml.NVMLError_NotSupported):
            call(device)


@pytest.mark.parametrize("call", PARENT_ONLY)
def test_instances_have_no_power_energy_temperature_or_clock(gpu, call):
    _, handle = gpu(layout=["2g.20gb"])
    assert call(handle) >= 0
    with pytest.raises(pynvml.NVMLError_NotSupported):
        call(mig_device(handle))


def test_load_follows_its_curve(gpu, process):
    server, handle = gpu()
    server.attach("0", process().pid, MIB, [(0, 90), (60, 10), (120, 0)], loop=180)
    seen = []
    for _ in range(6):
        seen.append(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        server.advance(60)
    assert seen == [90, 10, 0, 90, 10, 0]


def test_processes_share_a_whole_gpu(gpu, process):
    server, handle = gpu()
    first, second = process(), process()
    server.attach("0", first.pid, 100 * MIB, 30)
    server.attach("0", second.pid, 200 * MIB, 20)
    assert pynvml.nvmlDeviceGetUtilizationRates(handle).gpu == 50
    shares = {sample.pid: sample.smUtil for sample in pynvml.nvmlDeviceGetProcessUtilization(handle, 0)}
    assert shares == {first.pid: 30, second.pid: 20}
    info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    assert info.used == 300 * MIB
    assert info.total == info.used + info.free + info.reserved


@pytest.mark.parametrize("model", models())
def test_energy_is_power_over_time(gpu, process, model):
    server, handle = gpu(model)
    idle, limit = models()[model]["power"]
    # Real time passes too: a hundredth of this is more than any machine takes for it.
    before = energy(handle)
    server.advance(60_000)
    assert energy(handle) - before == pytest.approx(idle * 60_000 * 1000, rel=0.01)
    server.attach("0", process().pid, MIB, [(0, 100), (30, 0)], loop=60)
    before = energy(handle)
    server.advance(60_000)
    assert energy(handle) - before == pytest.approx((idle + limit) / 2 * 60_000 * 1000, rel=0.01)


def test_the_energy_of_instances_is_all_in_their_gpu(gpu, process):
    server, handle = gpu(layout=["3g.40gb", "3g.40gb"])
    idle, limit = models()["A100-80"]["power"]
    server.attach("0:0", process().pid, MIB, 100)
    before = energy(handle)
    server.advance(60_000)
    expected = idle + (limit - idle) * 42 / 108
    assert energy(handle) - before == pytest.approx(expected * 60_000 * 1000, rel=0.01)


def test_a_new_driver_counts_energy_anew(gpu):
    server, handle = gpu()
    server.advance(10_000)
    high = energy(handle)
    server.load_driver()
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        energy(handle)
    pynvml.nvmlShutdown()
    pynvml.nvmlInit()
    assert energy(pynvml.nvmlDeviceGetHandleByIndex(0)) < high


def test_power_of_ga100_is_of_the_moment_and_later_ones_average(nvml_server, process):
    server = nvml_server(["A100-80", "H100-80"])
    pynvml.nvmlInit()
    ampere, hopper = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(2))
    # What a busy machine takes from one call to the next is no part of that second.
    server.set_speed(0.001)
    for device in ("0", "1"):
        server.attach(device, process().pid, MIB, [(0, 0), (3600, 100)])
    server.advance(3600.3)
    # A third of the last second was under load: that much and not all of it is in the mean.
    assert pynvml.nvmlDeviceGetPowerUsage(ampere) == 400_000
    assert 70_000 < pynvml.nvmlDeviceGetPowerUsage(hopper) < 700_000
    instant = pynvml.nvmlDeviceGetFieldValues(hopper, [pynvml.NVML_FI_DEV_POWER_INSTANT])[0]
    assert (instant.nvmlReturn, instant.value.uiVal) == (0, 700_000)
    average = pynvml.nvmlDeviceGetFieldValues(ampere, [pynvml.NVML_FI_DEV_POWER_AVERAGE])[0]
    assert average.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_time_can_pass_faster(gpu):
    server, handle = gpu()
    server.set_speed(10_000)
    before = energy(handle)
    time.sleep(0.2)
    assert energy(handle) - before > 62 * 1000 * 1000


def test_more_than_there_is_cannot_be_held(gpu, process):
    server, _ = gpu(layout=["1g.10gb"])
    with pytest.raises(NvmlsimError, match="out of memory"):
        server.attach("0:0", process().pid, 9729 * MIB)
    with pytest.raises(NvmlsimError, match="MIG mode"):
        server.attach("0", process().pid, MIB)


def test_memory_without_a_process(gpu):
    server, handle = gpu()
    before = pynvml.nvmlDeviceGetMemoryInfo(handle).used
    server.leak("0", 700 * MIB)
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle) == []
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).used == before + 700 * MIB
    server.detach(0)
    assert pynvml.nvmlDeviceGetMemoryInfo(handle).used == before


def test_a_process_that_nobody_collected_holds_nothing(gpu):
    server, handle = gpu()
    with subprocess.Popen(["sleep", "60"]) as running:
        server.attach("0", running.pid, MIB)
        running.kill()
        while os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT) is None:
            pass
        assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle) == []


def test_the_list_of_processes_says_how_long_it_is(gpu, process):
    server, handle = gpu()
    for _ in range(3):
        server.attach("0", process().pid, MIB)
    library = ctypes.CDLL("libnvidia-ml.so.1")
    count = ctypes.c_uint(2)
    room = (pynvml.c_nvmlProcessInfo_v2_t * 2)()
    code = library.nvmlDeviceGetComputeRunningProcesses_v3(handle, ctypes.byref(count), room)
    assert (code, count.value) == (pynvml.NVML_ERROR_INSUFFICIENT_SIZE, 3)


def test_structures_of_another_version_are_refused(gpu):
    _, handle = gpu("H100-80", [])
    with pytest.raises(pynvml.NVMLError_ArgumentVersionMismatch):
        pynvml.nvmlDeviceGetMemoryInfo(handle, version=0x03000028)
    library = ctypes.CDLL("libnvidia-ml.so.1")
    for call, structure in (
        (lambda given: library.nvmlDeviceGetTemperatureV(handle, given), pynvml.c_nvmlTemperature_v1_t()),
        (
            lambda given: library.nvmlDeviceGetGpuInstanceProfileInfoV(handle, 0, given),
            pynvml.c_nvmlGpuInstanceProfileInfo_v2_t(),
        ),
        (lambda given: library.nvmlGpmQueryDeviceSupport(handle, given), pynvml.c_nvmlGpmSupport_t()),
    ):
        structure.version = 77
        assert call(ctypes.byref(structure)) == pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH


def test_remapped_rows_are_unreadable_with_instances(gpu):
    server, handle = gpu()
    server.fault(0, "rows-uncorrected", 2)
    server.fault(0, "rows-pending", 1)
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (0, 2, 1, 0)
    server.set_mig(0, enabled=True)
    assert pynvml.nvmlDeviceGetRemappedRows(handle) == (0, 2, 1, 0)
    server.add_instance(0, "1g.10gb")
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetRemappedRows(handle)


def test_errors_heat_and_loss_are_seen(gpu):
    server, handle = gpu()
    server.fault(0, "ecc-uncorrected", 3)
    kinds = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_AGGREGATE_ECC)
    assert pynvml.nvmlDeviceGetTotalEccErrors(handle, *kinds) == 3
    server.fault(0, "temperature", 91)
    server.fault(0, "clocks-event-reasons", 0x40)
    assert pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU) == 91
    assert pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle) & 0x40
    server.fault(0, "lost", 1)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetName(handle)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetHandleByIndex(0)
    assert pynvml.nvmlDeviceGetCount() == 1


def test_counters_of_a_gpu_instance_are_for_hopper_alone(gpu, process):
    server, handle = gpu("H100-80", ["3g.40gb", "1g.10gb"])
    assert pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice == 1
    server.attach("0:0", process().pid, MIB, 60)
    instance = pynvml.nvmlDeviceGetGpuInstanceId(mig_device(handle, 0))
    samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(2)]
    for sample in samples:
        pynvml.nvmlGpmMigSampleGet(handle, instance, sample)
        server.advance(1)
    request = pynvml.c_nvmlGpmMetricsGet_t()
    request.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    request.numMetrics = 2
    request.sample1, request.sample2 = samples
    request.metrics[0].metricId = pynvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    request.metrics[1].metricId = pynvml.NVML_GPM_METRIC_PCIE_TX_PER_SEC
    # What follows the requested ones belongs to somebody else where headers are older.
    request.metrics[2].metricId = 4711
    pynvml.nvmlGpmMetricsGet(request)
    assert request.metrics[0].value == pytest.approx(60, abs=0.1)
    assert request.metrics[1].nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert request.metrics[2].metricId == 4711
    for sample in samples:
        pynvml.nvmlGpmSampleFree(sample)


def test_ampere_has_no_such_counters(gpu):
    _, handle = gpu()
    assert pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice == 0
    sample = pynvml.nvmlGpmSampleAlloc()
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlGpmSampleGet(handle, sample)
    pynvml.nvmlGpmSampleFree(sample)


def events(handle):
    chosen = pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventMigConfigChange
    found = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(handle, chosen, found)
    return found


def test_an_xid_arrives_while_somebody_waits_and_says_whose_it_is(gpu):
    server, handle = gpu(layout=["3g.40gb", "2g.20gb"])
    waiting = events(handle)
    threading.Timer(0.1, server.xid, ("0:1", 31)).start()
    event = pynvml.nvmlEventSetWait_v2(waiting, 60_000)
    assert (event.eventType, event.eventData) == (pynvml.nvmlEventTypeXidCriticalError, 31)
    assert event.gpuInstanceId == pynvml.nvmlDeviceGetGpuInstanceId(mig_device(handle, 1))
    server.xid("0", 79)
    event = pynvml.nvmlEventSetWait_v2(waiting, 0)
    assert (event.eventData, event.gpuInstanceId) == (79, 0xFFFFFFFF)
    with pytest.raises(pynvml.NVMLError_Timeout):
        pynvml.nvmlEventSetWait_v2(waiting, 50)
    pynvml.nvmlEventSetFree(waiting)


def test_a_change_of_the_layout_is_an_event(gpu):
    server, handle = gpu(layout=[])
    waiting = events(handle)
    server.add_instance(0, "1g.10gb")
    assert pynvml.nvmlEventSetWait_v2(waiting, 0).eventType == pynvml.nvmlEventMigConfigChange
    pynvml.nvmlEventSetFree(waiting)


def test_events_are_of_whole_gpus(gpu):
    _, handle = gpu(layout=["1g.10gb"])
    waiting = pynvml.nvmlEventSetCreate()
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceRegisterEvents(mig_device(handle), pynvml.nvmlEventTypeXidCriticalError, waiting)
    pynvml.nvmlEventSetFree(waiting)
