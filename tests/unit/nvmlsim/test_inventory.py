"""What NVML's readers see of a simulated server."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

MIB = 1 << 20


def mig_devices(gpu):
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
        except pynvml.NVMLError_NotFound:
            continue
    return found


def same(one, other):
    return ctypes.cast(one, ctypes.c_void_p).value == ctypes.cast(other, ctypes.c_void_p).value


def test_gpus_and_instances_are_listed(nvml_server):
    nvml_server(["A100-80", "A100-80", "H100-80"], {0: ["3g.40gb", "2g.20gb", ("1g.10gb", 6)]})
    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    assert [pynvml.nvmlDeviceGetName(handle) for handle in handles] == [
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA H100 80GB HBM3",
    ]
    assert [pynvml.nvmlDeviceGetMigMode(handle) for handle in handles] == [[1, 1], [0, 0], [0, 0]]
    devices = mig_devices(handles[0])
    names = {pynvml.nvmlDeviceGetName(device).rpartition(" ")[2] for device in devices}
    assert names == {"3g.40gb", "2g.20gb", "1g.10gb"}
    assert len({pynvml.nvmlDeviceGetUUID(device) for device in devices}) == 3
    for device in devices:
        assert pynvml.nvmlDeviceIsMigDeviceHandle(device)
        assert same(pynvml.nvmlDeviceGetHandleByUUID(pynvml.nvmlDeviceGetUUID(device)), device)
        assert same(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device), handles[0])


def test_a_live_process_is_on_its_device_until_it_ends(nvml_server):
    server = nvml_server(["A100-80"], {0: ["3g.40gb", "3g.40gb"]})
    pynvml.nvmlInit()
    first, second = mig_devices(pynvml.nvmlDeviceGetHandleByIndex(0))
    before = pynvml.nvmlDeviceGetMemoryInfo(first).used
    with subprocess.Popen(["sleep", "60"]) as process:
        server.attach("0:0", process.pid, 300 * MIB)
        (seen,) = pynvml.nvmlDeviceGetComputeRunningProcesses(first)
        assert (seen.pid, seen.usedGpuMemory) == (process.pid, 300 * MIB)
        assert seen.gpuInstanceId == pynvml.nvmlDeviceGetGpuInstanceId(first)
        assert seen.computeInstanceId == pynvml.nvmlDeviceGetComputeInstanceId(first)
        assert pynvml.nvmlDeviceGetMemoryInfo(first).used == before + 300 * MIB
        assert pynvml.nvmlDeviceGetComputeRunningProcesses(second) == []
        process.kill()
    assert pynvml.nvmlDeviceGetComputeRunningProcesses(first) == []
    assert pynvml.nvmlDeviceGetMemoryInfo(first).used == before


def test_other_processes_see_the_same_server(nvml_server):
    server = nvml_server(["H200-141"])
    script = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)))"
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == server.device_uuid("0")


@pytest.mark.usefixtures("nvml_server")
def test_without_a_server_there_is_no_driver():
    assert not Path(os.environ["NVMLSIM_STATE"]).exists()
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()
