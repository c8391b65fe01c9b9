"""What a monitor would have seen on the machine of `tests.unit.ledger.machine`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ds01.ledger import system_clock
from ds01.monitor.history import History
from ds01.monitor.model import DeviceSample, ProcessSample, Sample, SliceSample
from tests.unit.ledger.machine import GPUS

GIB = 1 << 30


def sample(*, age_s: int = 0, cpu_us: int = 0) -> Sample:
    """One sample: `games` (uid 5) computes on 1:1, a host process of root is on 0, nothing is known of 1:2."""
    now = system_clock()
    mine = ProcessSample(41, 1, "container", "c5", 5, "games", "python", 3 * GIB, 1, computes=True)
    other = ProcessSample(42, 1, "user", None, 0, "root", "jupyter", 2 * GIB, 1, computes=True)
    devices = []
    for device in GPUS.devices:
        known = {"0": (95.0, (other,)), "1:1": (None, (mine,)), "1:0": (3.0, ())}.get(device.id)
        busy, processes = known or (None, None)
        used = None if processes is None else sum(one.memory or 0 for one in processes)
        source = "nvml" if device.id != "1:1" else "nvml: unsupported"
        devices.append(
            DeviceSample(
                device.id, device.uuid, device.gpu_uuid, device.gpu_index, device.gi_id, device.profile, device.weight,
                device.memory_bytes, used, busy, source, processes, None,
            )
        )  # fmt: skip
    slices = (SliceSample("student", "games", cpu_us, 4 * GIB, 120), SliceSample("student", "mail", None, None, None))
    return Sample(
        at=now.wall_ms - age_s * 1000, boot=now.boot, boot_ms=now.boot_ms - age_s * 1000, took_ms=1.0, gpus=(),
        devices=tuple(devices), containers=(), slices=slices, sessions=(("games", 2), ("mail", 1)),
        problems=("the engine does not answer",),
    )  # fmt: skip


def keep(path: Path, *samples: Sample) -> None:
    """Keep samples as the monitor does."""
    with contextlib.closing(History(path)) as history:
        for one in samples:
            history.add(one)
