"""Measured values, each from its source; what cannot be measured is never 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gpu.gpm import APART_S
from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import Inventory, Measured
from ds01.gpu.nvml import Session, is_blank
from ds01.gpu.readings import DeviceReading, GpuReading, Meter, Readings, RemappedRows
from lab.nvmlsim import Server

Sleeper = Callable[[], int]


class Clock:
    """Seconds that pass when the test says so, for the meter and the server alike."""

    def __init__(self, server: Server) -> None:
        self.now = 1000.0
        self.server = server

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.server.advance(seconds)


@pytest.fixture
def clock(server: Server) -> Clock:
    return Clock(server)


@pytest.fixture
def meter(session: Session, clock: Clock) -> Meter:
    return Meter(session, clock)


def everything(readings: Readings) -> list[Measured[Any]]:
    values = [*readings.gpus.values(), *readings.devices.values()]
    return [getattr(value, field.name) for value in values for field in fields(value)]


def of(readings: Readings, inventory: Inventory, name: str) -> DeviceReading:
    return readings.devices[inventory.find(name).uuid]


def test_every_value_names_its_source(session: Session, meter: Meter) -> None:
    found = read_inventory(session)
    values = everything(meter.read(found))
    assert len(values) == 4 * len(fields(GpuReading)) + 8 * len(fields(DeviceReading))
    for value in values:
        assert value.source.startswith("nvml")
        assert (value.value is None) == (value.state != "value")
        assert (value.reason != "") == (value.state == "unknown")


def test_a_gpu_is_measured(session: Session, meter: Meter, server: Server, clock: Clock, sleeper: Sleeper) -> None:
    found = read_inventory(session)
    idle = meter.read(found).gpus[found.gpus[1].uuid]
    server.attach("1", sleeper(), 20 << 30, 50)
    clock.wait(10)
    busy = meter.read(found)
    gpu = busy.gpus[found.gpus[1].uuid]
    assert gpu.energy_mj.value is not None
    assert idle.energy_mj.value is not None
    assert idle.power_mw.value is not None
    energy = gpu.energy_mj.value - idle.energy_mj.value
    assert energy > 10 * idle.power_mw.value
    assert 0 < (gpu.power_mw.value or 0) <= (gpu.power_limit_mw.value or 0)
    assert 20 < (gpu.temperature_c.value or 0) < (gpu.slowdown_c.value or 0)
    assert (gpu.sm_clock_mhz.value or 0) > 0
    device = of(busy, found, "1")
    assert device.utilisation.value == 50
    assert device.utilisation.source == "nvmlDeviceGetUtilizationRates"
    assert (device.memory_used.value or 0) >= 20 << 30
    assert device.memory_total.value == found.find("1").memory_bytes


def test_on_an_a100_no_instance_has_a_utilisation(
    session: Session, meter: Meter, server: Server, clock: Clock, sleeper: Sleeper
) -> None:
    server.attach("0:1", sleeper(), 5 << 30, 100)
    found = read_inventory(session)
    meter.read(found)
    clock.wait(1)
    device = of(meter.read(found), found, "0:1")
    assert {device.utilisation.state, device.sm_activity.state, device.memory_activity.state} == {"unsupported"}
    assert 5 << 30 <= (device.memory_used.value or 0) < 6 << 30
    assert (of(meter.read(found), found, "0:0").memory_used.value or 0) < 1 << 30


def test_on_an_h100_two_samples_make_a_rate(
    session: Session, meter: Meter, server: Server, clock: Clock, sleeper: Sleeper
) -> None:
    server.attach("2:1", sleeper(), 5 << 30, 40)
    found = read_inventory(session)
    first = of(meter.read(found), found, "2:1").utilisation
    assert (first.state, "first sample" in first.reason) == ("unknown", True)
    assert meter.wants_another
    clock.wait(APART_S / 2)
    early = of(meter.read(found), found, "2:1").utilisation
    assert (early.state, "read again" in early.reason) == ("unknown", True)
    clock.wait(APART_S)
    second = meter.read(found)
    assert not meter.wants_another
    busy, idle = of(second, found, "2:1"), of(second, found, "2:0")
    assert busy.utilisation.value == pytest.approx(40, abs=2)
    assert busy.utilisation.source == "nvmlGpmMetricsGet: graphics"
    assert (busy.sm_activity.value or 0) > 0
    assert idle.utilisation.value == 0
    whole = of(second, found, "3")
    assert (whole.utilisation.source, whole.sm_activity.state) == ("nvmlDeviceGetUtilizationRates", "value")


def test_samples_of_an_instance_that_was_rebuilt_are_not_compared(
    session: Session, meter: Meter, server: Server, clock: Clock
) -> None:
    meter.read(read_inventory(session))
    server.set_mig(2, enabled=False)
    server.set_mig(2, enabled=True)
    server.add_instance(2, "3g.40gb", 4)
    clock.wait(1)
    found = read_inventory(session)
    assert of(meter.read(found), found, "2:0").utilisation.state == "unknown"
    server.unload_driver()
    server.load_driver()
    clock.wait(1)
    found = read_inventory(session)
    assert of(meter.read(found), found, "3").sm_activity.state == "unknown"
    clock.wait(1)
    assert of(meter.read(found), found, "3").sm_activity.state == "value"


def test_what_was_rebuilt_since_the_inventory_is_unknown(session: Session, meter: Meter, server: Server) -> None:
    found = read_inventory(session)
    server.set_mig(0, enabled=False)
    server.set_mig(0, enabled=True)
    server.add_instance(0, "3g.40gb")
    device = of(meter.read(found), found, "0:0")
    assert device.memory_used.state == device.utilisation.state == "unknown"


def test_a_lost_gpu_has_only_unknown_values(session: Session, meter: Meter, server: Server) -> None:
    found = read_inventory(session)
    server.fault(0, "lost", 1)
    server.fault(1, "lost", 1)
    readings = meter.read(found)
    lost = [readings.gpus[gpu.uuid] for gpu in found.gpus[:2]]
    lost_devices = [of(readings, found, name) for name in ("0:0", "0:2", "1")]
    for value in everything(Readings(dict(enumerate(lost)), dict(enumerate(lost_devices)))):  # type: ignore[arg-type]
        assert value.state == "unknown", value
        assert value.reason
    assert of(readings, found, "3").memory_used.known


def test_without_a_driver_everything_is_unknown(session: Session, meter: Meter, server: Server) -> None:
    found = read_inventory(session)
    server.unload_driver()
    assert {value.state for value in everything(meter.read(found))} == {"unknown"}


def test_remapped_rows_are_kept_while_a_division_hides_them(
    session: Session, meter: Meter, server: Server, clock: Clock
) -> None:
    server.fault(1, "rows-uncorrected", 2)
    server.fault(1, "rows-pending", 1)
    found = read_inventory(session)
    hidden = meter.read(found).gpus[found.gpus[0].uuid].remapped_rows
    assert (hidden.state, hidden.reason) == ("unknown", "hidden while the GPU is divided")
    rows = meter.read(found).gpus[found.gpus[1].uuid].remapped_rows
    assert rows.value == RemappedRows(0, 2, pending=True, failed=False)
    server.set_mig(1, enabled=True)
    server.add_instance(1, "7g.80gb")
    clock.wait(30)
    kept = meter.read(read_inventory(session)).gpus[found.gpus[1].uuid].remapped_rows
    assert (kept.value, kept.age_s) == (rows.value, 30)


def test_memory_errors_are_counted(session: Session, meter: Meter, server: Server) -> None:
    server.fault(1, "ecc-uncorrected", 3)
    server.fault(1, "ecc-corrected", 7)
    found = read_inventory(session)
    gpu = meter.read(found).gpus[found.gpus[1].uuid]
    assert (gpu.ecc_uncorrected.value, gpu.ecc_corrected.value) == (3, 7)


@given(st.integers(0, (1 << 64) - 1))
def test_blanks_of_either_width_are_no_values(value: int) -> None:
    blanks_64 = {(1 << 64) - 1} | {(1 << 63) - number for number in range(1, 17)}
    assert is_blank(value, wide=True) == (value in blanks_64)
    assert is_blank(9223372036854775794, wide=True)
    assert is_blank(0xFFFFFFFF)
    assert not is_blank(0xFFFFFFFF, wide=True)
    # An energy that any GPU reaches within hours is no blank.
    assert not is_blank(0x7FFFFFF0, wide=True)
    assert is_blank(float("nan"))
    assert not is_blank(0)
