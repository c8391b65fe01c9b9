"""What makes a GPU ill, and what does not."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gpu.health import assess
from ds01.gpu.model import Device, Gpu, GpuProblem, Inventory, Measured, Placement, ProblemKind
from ds01.gpu.readings import GpuReading, Readings, RemappedRows
from ds01.gpu.watch import GpuEvent
from ds01.gpu.xid import State, xid

UUID = "GPU-1"
NAMES = [field.name for field in fields(GpuReading)]
SOUND: dict[str, Any] = dict.fromkeys(NAMES, 0) | {
    "slowdown_c": 90,
    "temperature_c": 89,
    "clock_reasons": 0x5,
    "remapped_rows": RemappedRows(3, 2, pending=False, failed=False),
}


def device(mig_index: int) -> Device:
    return Device(
        uuid=f"MIG-{mig_index}",
        gpu_uuid=UUID,
        gpu_index=0,
        mig_index=mig_index,
        gi_id=7 + mig_index,
        ci_id=0,
        placement=Placement(mig_index, 1),
        profile="1g.10gb",
        memory_bytes=10 << 30,
        weight=1 / 7,
        model="A100",
    )


DEVICES = (device(0), device(1))
GPU = Gpu(0, UUID, "A100", "0000:00:00.0", None, mig_capable=True, mig_enabled=True, mig_pending=True, devices=DEVICES)
INVENTORY = Inventory((GPU,))


def reading(**values: Any) -> Readings:
    found = {name: Measured.of(value, "test") for name, value in (SOUND | values).items()}
    return Readings({UUID: GpuReading(**found)}, {})


def event(kind: Any, data: int, gi_id: int | None = None) -> GpuEvent:
    return GpuEvent(kind, UUID, gi_id, None if gi_id is None else 0, data, datetime.now(UTC))


def test_a_sound_gpu_is_ok() -> None:
    (health,) = assess(INVENTORY, reading())
    assert (health.state, health.findings) == (State.OK, ())


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["unsupported", "unknown"])))
def test_what_is_not_known_makes_nobody_ill(missing: dict[str, str]) -> None:
    found = reading().gpus[UUID]
    silent = {name: Measured(None, state, "test") for name, state in missing.items()}  # type: ignore[arg-type]
    (health,) = assess(INVENTORY, Readings({UUID: replace(found, **silent)}, {}))
    assert health.state is State.OK
    (health,) = assess(INVENTORY, Readings({}, {}))
    assert health.state is State.OK


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        ({"clock_reasons": 0x40}, State.DEGRADED, "heat"),
        ({"clock_reasons": 0x20}, State.DEGRADED, "heat"),
        ({"clock_reasons": 0x80}, State.DEGRADED, "power supply"),
        ({"clock_reasons": 0x8}, State.DEGRADED, "protection"),
        ({"temperature_c": 90}, State.DEGRADED, "90 degrees"),
        ({"ecc_uncorrected": 1}, State.UNHEALTHY, "1 uncorrectable"),
        ({"remapped_rows": RemappedRows(0, 1, pending=True, failed=False)}, State.DEGRADED, "next reset"),
        ({"remapped_rows": RemappedRows(0, 1, pending=True, failed=True)}, State.UNHEALTHY, "could not be replaced"),
    ],
)
def test_each_sign_is_named_with_a_fix(values: dict[str, Any], state: State, words: str) -> None:
    (health,) = assess(INVENTORY, reading(**values))
    assert health.state is state
    assert words in health.findings[0].reason
    assert all(finding.fix for finding in health.findings)


@pytest.mark.parametrize("code", [13, 31, 43, 45, 68, 109])
def test_a_programs_own_error_condemns_no_device(code: int) -> None:
    assert xid(code).category == "application"
    assert "program" in xid(code).fix
    assert assess(INVENTORY, reading(), [event("xid", code)] * 50)[0].state is State.OK


@pytest.mark.parametrize(
    ("codes", "state"), [((63, 74, 92, 94, 9999), State.DEGRADED), ((48, 64, 79, 95, 119, 120), State.UNHEALTHY)]
)
def test_an_error_of_the_gpu_counts_for_all_its_devices(codes: tuple[int, ...], state: State) -> None:
    for code in codes:
        (health,) = assess(INVENTORY, reading(), [event("xid", code), event("xid", code)])
        assert health.state is state
        assert f"Xid {code}" in health.findings[0].reason
        assert "2 times" in health.findings[0].reason
        assert [health.of_device(mine)[0] for mine in DEVICES] == [state, state]


def test_an_error_in_one_instance_counts_for_that_one() -> None:
    (health,) = assess(INVENTORY, reading(), [event("xid", 94, gi_id=8)])
    assert [health.of_device(mine)[0] for mine in DEVICES] == [State.OK, State.DEGRADED]


def test_events_of_another_gpu_and_other_kinds_say_nothing() -> None:
    others = [replace(event("xid", 79), gpu_uuid="GPU-2"), event("layout", 0), event("ecc", 0), event("recovery", 0)]
    assert assess(INVENTORY, reading(), others)[0].state is State.OK
    assert assess(INVENTORY, reading(), [event("unavailable", 0)])[0].state is State.UNHEALTHY
    assert assess(INVENTORY, reading(), [event("recovery", 1)])[0].state is State.DEGRADED


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (ProblemKind.LOST, State.UNHEALTHY),
        (ProblemKind.UNREADABLE, State.UNHEALTHY),
        (ProblemKind.CHANGING, State.DEGRADED),
        (ProblemKind.NO_INSTANCES, State.DEGRADED),
        (ProblemKind.MODE_PENDING, State.DEGRADED),
    ],
)
def test_problems_of_the_inventory_are_findings(kind: ProblemKind, state: State) -> None:
    problem = GpuProblem(kind, 3, None, "what", "how")
    first, second = assess(Inventory((GPU,), (problem,)), reading())
    assert (first.gpu_index, first.state) == (0, State.OK)
    assert (second.gpu_index, second.gpu_uuid, second.state) == (3, None, state)
