"""Ask a real GPU and the simulator the same questions, and show where their answers differ.

`make gpu-conformance` runs it where a GPU is. It only reads. A difference is a mistake of the simulator.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pynvml

from lab.nvmlsim import Layout, NvmlsimError, build, generate, models, server
from lab.process import ROOT

Answers = dict[str, Any]
"""Question to answer: {"value": ...}, {"some": type} where the value is nobody's concern, or {"error": name}."""

# How far memory sizes may be apart: they differ a little between versions of the driver.
MEMORY_TOLERANCE = 0.02

# What is the same on each card of a model, so the values are compared.
_FIXED: dict[str, Callable[[Any], Any]] = {
    "name": pynvml.nvmlDeviceGetName,
    "memory total": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).total,
    "architecture": pynvml.nvmlDeviceGetArchitecture,
    "compute capability": lambda gpu: list(pynvml.nvmlDeviceGetCudaComputeCapability(gpu)),
    "cores": pynvml.nvmlDeviceGetNumGpuCores,
    "memory bus width": pynvml.nvmlDeviceGetMemoryBusWidth,
    "PCI device": lambda gpu: pynvml.nvmlDeviceGetPciInfo(gpu).pciDeviceId,
    "PCIe generation": pynvml.nvmlDeviceGetMaxPcieLinkGeneration,
    "PCIe width": pynvml.nvmlDeviceGetMaxPcieLinkWidth,
    "default power limit": pynvml.nvmlDeviceGetPowerManagementDefaultLimit,
    "SM clock": lambda gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "memory clock": lambda gpu: pynvml.nvmlDeviceGetMaxClockInfo(gpu, pynvml.NVML_CLOCK_MEM),
    "MIG mode": lambda gpu: list(pynvml.nvmlDeviceGetMigMode(gpu)),
    "MIG devices at most": pynvml.nvmlDeviceGetMaxMigDeviceCount,
    "GPM": lambda gpu: pynvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice,
    "is a MIG device": pynvml.nvmlDeviceIsMigDeviceHandle,
}

# What is different from moment to moment or card to card: only whether there is an answer, and of which type.
_VARYING: dict[str, Callable[[Any], Any]] = {
    "uuid": pynvml.nvmlDeviceGetUUID,
    "serial": pynvml.nvmlDeviceGetSerial,
    "minor number": pynvml.nvmlDeviceGetMinorNumber,
    "memory v2": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2).used,
    "BAR1": lambda gpu: pynvml.nvmlDeviceGetBAR1MemoryInfo(gpu).bar1Total,
    "temperature": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "temperature v": lambda gpu: pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU),
    "slowdown temperature": lambda gpu: pynvml.nvmlDeviceGetTemperatureThreshold(gpu, 1),
    "fan": pynvml.nvmlDeviceGetFanSpeed,
    "power": pynvml.nvmlDeviceGetPowerUsage,
    "energy": pynvml.nvmlDeviceGetTotalEnergyConsumption,
    "enforced power limit": pynvml.nvmlDeviceGetEnforcedPowerLimit,
    "utilisation": lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
    "encoder": lambda gpu: pynvml.nvmlDeviceGetEncoderUtilization(gpu)[0],
    "decoder": lambda gpu: pynvml.nvmlDeviceGetDecoderUtilization(gpu)[0],
    "SM clock now": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
    "clock event reasons": pynvml.nvmlDeviceGetCurrentClocksEventReasons,
    "performance state": pynvml.nvmlDeviceGetPerformanceState,
    "persistence mode": pynvml.nvmlDeviceGetPersistenceMode,
    "compute mode": pynvml.nvmlDeviceGetComputeMode,
    "driver model": pynvml.nvmlDeviceGetDriverModel,
    "display mode": pynvml.nvmlDeviceGetDisplayMode,
    "display active": pynvml.nvmlDeviceGetDisplayActive,
    "PCIe width now": pynvml.nvmlDeviceGetCurrPcieLinkWidth,
    "PCIe throughput": lambda gpu: pynvml.nvmlDeviceGetPcieThroughput(gpu, 0),
    "PCIe replays": pynvml.nvmlDeviceGetPcieReplayCounter,
    "ECC mode": lambda gpu: list(pynvml.nvmlDeviceGetEccMode(gpu)),
    "uncorrected errors": lambda gpu: pynvml.nvmlDeviceGetTotalEccErrors(gpu, 1, 0),
    "uncorrected DRAM errors": lambda gpu: pynvml.nvmlDeviceGetMemoryErrorCounter(gpu, 1, 0, 2),
    "remapped rows": lambda gpu: list(pynvml.nvmlDeviceGetRemappedRows(gpu)),
    "retired pages pending": pynvml.nvmlDeviceGetRetiredPagesPendingStatus,
    "compute processes": pynvml.nvmlDeviceGetComputeRunningProcesses,
    "graphics processes": pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    "attributes": lambda gpu: pynvml.nvmlDeviceGetAttributes(gpu).multiprocessorCount,
    "GPU instance": pynvml.nvmlDeviceGetGpuInstanceId,
    "compute instance": pynvml.nvmlDeviceGetComputeInstanceId,
    "event types": pynvml.nvmlDeviceGetSupportedEventTypes,
    "field energy": lambda gpu: _field(gpu, pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION),
    "field average power": lambda gpu: _field(gpu, pynvml.NVML_FI_DEV_POWER_AVERAGE),
    "field power now": lambda gpu: _field(gpu, pynvml.NVML_FI_DEV_POWER_INSTANT),
}

# How wrong questions are refused.
_REFUSALS: dict[str, Callable[[Any], Any]] = {
    "no such index": lambda _: pynvml.nvmlDeviceGetHandleByIndex(1000),
    "no such UUID": lambda _: pynvml.nvmlDeviceGetHandleByUUID("GPU-00000000-0000-0000-0000-000000000000"),
    "no such version": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu, version=0x07000028),
    "parent of a whole GPU": pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle,
    "MIG device beyond the last": lambda gpu: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 1000),
}

_PROFILE_FIELDS = ("id", "sliceCount", "instanceCount", "multiprocessorCount", "copyEngineCount", "decoderCount")


def probe() -> list[Answers]:
    """Ask each GPU that NVML shows this process, with its MIG devices; nothing is changed.

    Raises:
        pynvml.NVMLError: There is no NVML.
    """
    pynvml.nvmlInit()
    try:
        count = pynvml.nvmlDeviceGetCount()
        return [dict(_answers(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    finally:
        pynvml.nvmlShutdown()


def layout(answers: Answers) -> list[tuple[str, int]] | None:
    """The instances of a probed GPU, profile and first memory slice; None when it is not in MIG mode."""
    if answers["MIG mode"].get("value", [0])[0] == 0:
        return None
    return [tuple(answers[name]["value"]) for name in answers if name.endswith(": place")]


def differences(real: Answers, simulated: Answers) -> Iterator[str]:
    """Say for each question where the two answer otherwise."""
    for question in sorted(real | simulated):
        one, other = real.get(question), simulated.get(question)
        if one != other and not ("memory" in question and _close(one, other)):
            yield f"{question}: the GPU answers {_said(one)}, the simulator {_said(other)}"


def _close(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    if not one or not other or "value" not in one or "value" not in other:
        return False
    first, second = one["value"], other["value"]
    return isinstance(first, int) and isinstance(second, int) and abs(first - second) <= MEMORY_TOLERANCE * first


def _said(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "nothing, the question does not arise"
    (kind, content), *_ = answer.items()
    return f"{content} (an error)" if kind == "error" else str(content) if kind == "value" else f"some {content}"


def _answers(gpu: Any) -> Iterator[tuple[str, Any]]:
    yield from _device(gpu, "")
    for name, call in _REFUSALS.items():
        yield name, _ask(call, gpu, fixed=False)
    for argument in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        yield from _profile(gpu, argument)
    for index in range(_ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu, fixed=True).get("value", 0)):
        try:
            device = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except pynvml.NVMLError_NotFound:
            continue
        yield from _device(device, f"MIG device {index}: ")
        yield f"MIG device {index}: place", _ask(lambda device: _place(gpu, device), device, fixed=True)


def _device(handle: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, call in _FIXED.items():
        yield prefix + name, _ask(call, handle, fixed=True)
    for name, call in _VARYING.items():
        yield prefix + name, _ask(call, handle, fixed=False)


def _profile(gpu: Any, argument: int) -> Iterator[tuple[str, Any]]:
    question = f"profile {argument}"

    def info(handle: Any) -> list[int]:
        found = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, argument)
        return [getattr(found, field) for field in _PROFILE_FIELDS]

    def places(handle: Any) -> list[list[int]]:
        number = pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, argument).id
        count = ctypes.c_uint()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, number, None, ctypes.byref(count))
        found = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
        pynvml.nvmlDeviceGetGpuInstancePossiblePlacements(handle, number, found, ctypes.byref(count))
        return sorted([place.start, place.size] for place in found)

    yield question, _ask(info, gpu, fixed=True)
    yield f"{question} places", _ask(places, gpu, fixed=True)
    memory = _ask(
        lambda handle: pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, argument).memorySizeMB, gpu, fixed=True
    )
    yield f"{question} memory", memory


def _place(gpu: Any, device: Any) -> list[Any]:
    instance = pynvml.nvmlDeviceGetGpuInstanceById(gpu, pynvml.nvmlDeviceGetGpuInstanceId(device))
    name = pynvml.nvmlDeviceGetName(device).rpartition(" ")[2]
    return [name.rpartition("c.")[2], pynvml.nvmlGpuInstanceGetInfo(instance).placement.start]


def _field(gpu: Any, number: int) -> int:
    value = pynvml.nvmlDeviceGetFieldValues(gpu, [number])[0]
    if value.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(value.nvmlReturn)
    return int(value.value.ullVal)


def _ask(call: Callable[[Any], Any], handle: Any, *, fixed: bool) -> dict[str, Any]:
    try:
        value = call(handle)
    except pynvml.NVMLError as error:
        return {"error": type(error).__name__.removeprefix("NVMLError_")}
    # Some of nvidia-ml-py's functions hand out the C number itself.
    value = getattr(value, "value", value)
    return {"value": value} if fixed else {"some": type(value).__name__}


def ask_simulator(real: list[Answers]) -> list[Answers]:
    """The answers of a simulated server with the same GPUs and instances.

    Raises:
        NvmlsimError: The simulator does not know a model, or cannot place an instance where the GPU has it.
    """
    keys = {model["name"]: key for key, model in models().items()}
    for answers in real:
        if answers["name"].get("value") not in keys:
            raise NvmlsimError(0, f"{_said(answers['name'])}: not among the models of lab/nvmlsim/models.toml")
    layouts: dict[int, Layout] = {
        index: found for index, answers in enumerate(real) if (found := layout(answers)) is not None
    }
    library = build.ensure()
    with tempfile.TemporaryDirectory() as name:
        made = server(Path(name) / "state", [keys[it["name"]["value"]] for it in real], layouts, library=library)
        env = {"LD_LIBRARY_PATH": str(library.parent), "NVMLSIM_STATE": str(made.path)}
        return ask(env)


def ask(env: Mapping[str, str]) -> list[Answers]:
    """What a new process is answered, in this environment on top of our own.

    Raises:
        NvmlsimError: There is no NVML for it, or no GPU.
    """
    command = [sys.executable, "-m", "tests.gpu.conformance", "probe"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NvmlsimError(done.returncode, done.stderr.strip())
    answers: list[Answers] = json.loads(done.stdout)
    if not answers:
        raise NvmlsimError(0, "the driver shows no GPU")
    return answers


def main() -> int:
    """Compare, and show the differences; 0 when there are none, 1 when there are, or nothing could be compared."""
    if sys.argv[1:] == ["probe"]:
        try:
            print(json.dumps(probe()))
        except pynvml.NVMLError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    try:
        real = ask({})
        simulated = ask_simulator(real)
    except (NvmlsimError, generate.BuildError) as error:
        print(f"nothing was compared: {error}", file=sys.stderr)
        return 1
    found = [
        f"GPU {index} ({one['name']['value']}): {text}"
        for index, (one, other) in enumerate(zip(real, simulated, strict=True))
        for text in differences(one, other)
    ]
    print("\n".join(found) or "no differences")
    print(f"{len(real)} GPUs, {sum(map(len, real))} questions, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
