"""The simulated server against a model of a few lines: who is where, with how much, and what it costs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext

import pynvml
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.nvmlsim import NvmlsimError, Server, models
from lab.nvmlsim.testing import MakeServer

MIB = 1 << 20
# On a server of one whole GPU and one of two halves: the device, its memory, and its part of the GPU's processors.
ROOM = {"0": 81920 - 560, "1:0": 40192 - 24, "1:1": 40192 - 24}
SHARE = {"0": 1.0, "1:0": 42 / 108, "1:1": 42 / 108}
IDLE, LIMIT = models()["A100-80"]["power"]

ACTIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("attach"),
            st.sampled_from(sorted(ROOM)),
            st.integers(0, 2),
            st.integers(1, 45000),
            st.integers(0, 100),
        ),
        st.tuples(st.just("detach"), st.sampled_from(sorted(ROOM)), st.integers(0, 2), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.just("0"), st.just(0), st.integers(1, 1000), st.just(0)),
    ),
    max_size=25,
)


@pytest.fixture
def pids() -> Iterator[list[int]]:
    running = [subprocess.Popen(["sleep", "600"]) for _ in range(3)]
    yield [process.pid for process in running]
    for process in running:
        process.kill()
        process.wait()


def handle(device: str) -> object:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(int(device[0]))
    return pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, int(device[2])) if ":" in device else gpu


def seen(device: str) -> list[tuple[int, int]]:
    found = pynvml.nvmlDeviceGetComputeRunningProcesses(handle(device))
    return sorted((process.pid, process.usedGpuMemory // MIB) for process in found)


@given(actions=ACTIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_processes_memory_and_energy_follow_the_model(nvml_server: MakeServer, pids: list[int], actions) -> None:
    made: Server = nvml_server(["A100-80", "A100-80"], {1: ["3g.40gb", "3g.40gb"]})
    pynvml.nvmlInit()
    held: dict[str, list[tuple[int, int, int]]] = {device: [] for device in ROOM}
    joules = {0: 0.0, 1: 0.0}
    begin = {gpu: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle(str(gpu))) for gpu in joules}
    for action, device, who, amount, load in actions:
        if action == "attach":
            fits = sum(memory for _, memory, _ in held[device]) + amount <= ROOM[device]
            with nullcontext() if fits else pytest.raises(NvmlsimError, match="out of memory"):
                made.attach(device, pids[who], amount * MIB, float(load))
                held[device].append((pids[who], amount, load))
        elif action == "detach":
            had = any(pid == pids[who] for pid, _, _ in held[device])
            with nullcontext() if had else pytest.raises(NvmlsimError, match="holds nothing"):
                made.detach(pids[who], device)
            held[device] = [one for one in held[device] if one[0] != pids[who]]
        else:
            made.advance(amount)
            for gpu in joules:
                busy = sum(SHARE[it] * load for it in held if it[0] == str(gpu) for _, _, load in held[it])
                joules[gpu] += (IDLE + (LIMIT - IDLE) * min(busy, 100) / 100) * amount
        for it in ROOM:
            assert seen(it) == sorted((pid, memory) for pid, memory, _ in held[it])
    for gpu, expected in joules.items():
        spent = (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle(str(gpu))) - begin[gpu]) / 1000
        # Real time passes too, a few seconds at most, at no more than the highest power.
        assert expected - 1 <= spent <= expected + LIMIT * 5
    pynvml.nvmlShutdown()


@given(speeds=st.lists(st.floats(0.001, 1e6), max_size=8))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_energy_never_falls_however_time_passes(nvml_server: MakeServer, speeds: list[float]) -> None:
    made = nvml_server(["H200-141"])
    pynvml.nvmlInit()
    made.attach("0", os.getpid(), MIB, [(0, 100), (0.5, 0)], loop=1)
    before = 0
    for speed in speeds:
        made.set_speed(speed)
        now = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle("0"))
        assert now >= before
        before = now
    pynvml.nvmlShutdown()
