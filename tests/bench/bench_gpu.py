"""Eight GPUs with seven instances each: one look at everything, and the command, against baselines in the same run.

The inventory is compared with one bare reading of the same layout through pynvml, which believes the first answer and
handles no error; the readings with the bare calls they make. The table is the result; only ratios are asserted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml

from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from ds01.gpu.processes import read_processes
from ds01.gpu.readings import Meter
from lab.nvmlsim.testing import MakeServer
from tests.bench.timing import median_ms

DS01 = Path(sys.executable).with_name("ds01")


def bare_devices() -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        parent = pynvml.nvmlDeviceGetHandleByIndex(index)
        head = (pynvml.nvmlDeviceGetUUID(parent), pynvml.nvmlDeviceGetName(parent), pynvml.nvmlDeviceGetPciInfo(parent))
        pynvml.nvmlDeviceGetMigMode(parent)
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(parent)):
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
            gi_id = pynvml.nvmlDeviceGetGpuInstanceId(part)
            found.append(
                (
                    head,
                    parent,
                    part,
                    gi_id,
                    pynvml.nvmlDeviceGetUUID(part),
                    pynvml.nvmlDeviceGetName(part),
                    pynvml.nvmlDeviceGetComputeInstanceId(part),
                    pynvml.nvmlGpuInstanceGetInfo(pynvml.nvmlDeviceGetGpuInstanceById(parent, gi_id)).placement,
                    pynvml.nvmlDeviceGetAttributes_v2(part).computeInstanceSliceCount,
                    pynvml.nvmlDeviceGetMemoryInfo(part).total,
                )
            )
    return found


def bare_values(devices: list[tuple[Any, ...]]) -> None:
    for parent in {pynvml.nvmlDeviceGetUUID(device[1]): device[1] for device in devices}.values():
        pynvml.nvmlDeviceGetPowerUsage(parent)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(parent)
        pynvml.nvmlDeviceGetTemperature(parent, 0)
        pynvml.nvmlDeviceGetClockInfo(parent, 1)
        pynvml.nvmlDeviceGetTotalEccErrors(parent, 1, 0)
    for device in devices:
        pynvml.nvmlDeviceGetMemoryInfo(device[2], pynvml.nvmlMemory_v2)
        pynvml.nvmlDeviceGetComputeRunningProcesses(device[2])


def test_gpus(nvml_server: MakeServer) -> None:
    nvml_server(["A100-80"] * 8, {index: ["1g.10gb"] * 7 for index in range(8)})

    def command(*arguments: str | Path) -> Callable[[], object]:
        return lambda: subprocess.run([*arguments], check=False, capture_output=True)

    with Session() as session:
        meter, inventory = Meter(session), read_inventory(session)
        assert len(inventory.devices) == len(bare_devices()) == 56

        def scrape() -> None:
            found = read_inventory(session)
            meter.read(found)
            read_processes(session, found)

        rows = {
            "bare: devices": median_ms(bare_devices),
            "inventory": median_ms(lambda: read_inventory(session)),
            "bare: devices, values, processes": median_ms(lambda: bare_values(bare_devices())),
            "full scrape": median_ms(scrape),
        }
    rows |= {
        "python, nothing else": median_ms(command(sys.executable, "-c", "pass"), 15),
        "python, pynvml imported": median_ms(command(sys.executable, "-c", "import pynvml"), 15),
        "ds01 --version": median_ms(command(DS01, "--version"), 15),
        "ds01 gpu list": median_ms(command(DS01, "gpu", "list"), 15),
        "ds01 gpu processes": median_ms(command(DS01, "gpu", "processes"), 15),
        "ds01 gpu health": median_ms(command(DS01, "gpu", "health"), 15),
        "ds01 gpu show 0:1": median_ms(command(DS01, "gpu", "show", "0:1"), 15),
    }
    nvml_server(["H100-80"] * 8, {index: ["1g.10gb"] * 7 for index in range(8)})
    rows["ds01 gpu list, H100"] = median_ms(command(DS01, "gpu", "list"), 15)
    print("\n8 GPUs x 7 instances, median\n" + "\n".join(f"  {name:36}{value:9.2f} ms" for name, value in rows.items()))
    print(f"  inventory / bare {rows['inventory'] / rows['bare: devices']:.2f}")
    print(f"  full scrape / bare {rows['full scrape'] / rows['bare: devices, values, processes']:.2f}")
    print(f"  ds01 gpu list / python {rows['ds01 gpu list'] / rows['python, nothing else']:.1f}")
    # Two readings that must agree, and the checks: less than four times one reading without any.
    assert rows["inventory"] < 4 * rows["bare: devices"]
    # Looking costs less than starting the command does.
    assert rows["full scrape"] < rows["ds01 --version"]
