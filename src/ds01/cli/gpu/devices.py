"""`ds01 gpu list` and `ds01 gpu show`: what devices there are, and what they do now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.gpu.common import ClosedError, gib, json_option, look, memory_text, state_text, told, value_text
from ds01.cli.output import NOT_FOUND, OK, listing, say_json, table

if TYPE_CHECKING:
    from ds01.cli.gpu.seen import Seen
    from ds01.gpu.model import Gpu, Inventory
    from ds01.gpu.snapshot import Snapshot

# nvmlClocksEventReason* that people should know of.
_CLOCK_REASONS = {0x4: "power limit", 0x8: "protection", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "power supply"}


@click.command("list")
@json_option
def list_devices(*, as_json: bool) -> int:
    """List all devices: what they are, how full and how busy.

    How busy an instance is takes 0.1 s to measure, where it can be measured at all (Hopper and newer): `ds01 gpu show`
    waits for it, this list does not.
    """
    from ds01.cli.gpu.seen import inventory_of, of_driver  # noqa: PLC0415 - help texts need no model

    try:
        found = look(activity=False)
    except ClosedError as closed:
        seen = told(closed)
        say_json(_told_json(inventory_of(seen), seen)) if as_json else _say_devices(seen)
        return OK
    if as_json:
        say_json(found.as_dict())
        return OK
    _say_devices(of_driver(found), unreadable=bool(found.health))
    _say_findings(found)
    return OK


def _say_devices(seen: list[Seen], *, unreadable: bool = False) -> None:
    rows = [["DEVICE", "PROFILE", "MEMORY USED", "OF", "BUSY", "PROCESSES", "GPU", "STATE"]]
    rows += [[*_cells(one), one.device.model, state_text(one.state)] for one in seen]
    if len(rows) > 1:
        click.echo(listing(rows))
    elif not unreadable:
        click.echo("There are no GPUs in this server.")


def _cells(seen: Seen) -> list[str]:
    return [
        seen.device.id,
        seen.device.profile,
        memory_text(seen.reading.memory_used),
        gib(seen.device.memory_bytes),
        value_text(seen.reading.utilisation, "%"),
        value_text(seen.processes),
    ]


def _told_json(inventory: Inventory, seen: list[Seen]) -> dict[str, Any]:
    """Return what the gateway told in the form of `Snapshot.as_dict`."""
    devices = {one.device.uuid: one.as_dict() for one in seen}
    gpus = [
        {
            "index": gpu.index,
            "uuid": gpu.uuid,
            "model": gpu.model,
            "devices": [devices[device.uuid] for device in gpu.devices],
        }
        for gpu in inventory.gpus
    ]
    return {"driver_version": None, "complete": True, "gpus": gpus, "unreadable": []}


def _say_findings(found: Snapshot) -> None:
    for health in found.health:
        for finding in health.findings:
            click.echo(f"note: {finding.reason}: {finding.fix}", err=True)


@click.command()
@click.argument("name", metavar="DEVICE")
@json_option
def show(name: str, *, as_json: bool) -> int:
    """Show all about DEVICE.

    DEVICE is an id like 0:1, a UUID, or the index, UUID or PCI address of a GPU. Exit code 5 when there is no such
    device.
    """
    from ds01.cli.gpu.seen import inventory_of, of_driver  # noqa: PLC0415 - help texts need no model
    from ds01.gpu.model import NoDeviceError  # noqa: PLC0415 - as above

    try:
        found = look(activity=True)
        seen, inventory = of_driver(found), found.inventory
    except ClosedError as closed:
        found, seen = None, told(closed)
        inventory = inventory_of(seen)
    gpu = inventory.gpu(name)
    devices = gpu.devices if gpu is not None else ()
    if gpu is None:
        try:
            device = inventory.find(name)
        except NoDeviceError as error:
            click.echo(f"error: {error}", err=True)
            return NOT_FOUND
        gpu, devices = inventory.gpu(device.gpu_uuid), (device,)
    if gpu is None:
        return NOT_FOUND
    wanted = {device.uuid for device in devices}
    if as_json:
        everything = _told_json(inventory, seen) if found is None else found.as_dict()
        whole = next(entry for entry in everything["gpus"] if entry["uuid"] == gpu.uuid)
        say_json(whole | {"devices": [entry for entry in whole["devices"] if entry["uuid"] in wanted]})
        return OK
    texts = [f"GPU {gpu.index}: {gpu.model}" if found is None else _gpu_text(found, gpu)]
    click.echo("\n\n".join([*texts, *(_device_text(one) for one in seen if one.device.uuid in wanted)]))
    return OK


def _gpu_text(found: Snapshot, gpu: Gpu) -> str:
    reading, health = found.readings.gpus[gpu.uuid], found.health_of(gpu)
    mig = "not on this model" if not gpu.mig_capable else "on" if gpu.mig_enabled else "off"
    if gpu.mig_pending != gpu.mig_enabled:
        mig += f", {'on' if gpu.mig_pending else 'off'} after the next reset"
    rows = [
        ["UUID", gpu.uuid],
        ["PCI address", gpu.pci_address],
        ["Driver", found.inventory.driver_version],
        ["Divided (MIG)", mig],
        ["Memory", "unknown (only root may ask)" if gpu.memory_bytes is None else gib(gpu.memory_bytes)],
        ["Power", f"{value_text(reading.power_mw, 'W', 1000)} of {value_text(reading.power_limit_mw, 'W', 1000)}"],
        ["Energy since driver start", value_text(reading.energy_mj, "kWh", 3.6e9, 2)],
        [
            "Temperature",
            f"{value_text(reading.temperature_c, 'C')}, slows down at {value_text(reading.slowdown_c, 'C')}",
        ],
        ["Clocks", f"{value_text(reading.sm_clock_mhz, 'MHz')}, memory {value_text(reading.memory_clock_mhz, 'MHz')}"],
        ["Clocks held back by", _reasons(reading.clock_reasons.value)],
        ["Memory errors", f"{value_text(reading.ecc_corrected)} corrected, {value_text(reading.ecc_uncorrected)} not"],
        ["Replaced memory rows", _rows(found, gpu)],
        ["State", state_text(health.state)],
    ]
    rows += [["", f"{finding.reason}: {finding.fix}"] for finding in health.findings]
    return f"GPU {gpu.index}: {gpu.model}\n{table(rows)}"


def _reasons(bits: int | None) -> str:
    if bits is None:
        return "unknown"
    return ", ".join(text for bit, text in _CLOCK_REASONS.items() if bits & bit) or "nothing"


def _rows(found: Snapshot, gpu: Gpu) -> str:
    rows = found.readings.gpus[gpu.uuid].remapped_rows
    if rows.value is None:
        return f"{rows.state} ({rows.reason})" if rows.reason else rows.state
    return str(rows.value.correctable + rows.value.uncorrectable)


def _device_text(seen: Seen) -> str:
    device, reading = seen.device, seen.reading
    rows = [["UUID", device.uuid]]
    if device.mig_index is not None:
        place = device.placement
        where = (
            "unknown (only root may ask)" if place is None else f"{place.start} to {place.start + place.size - 1} of 8"
        )
        if device.gi_id is not None:
            rows.append(["Instance ids", f"GPU instance {device.gi_id}, compute instance {device.ci_id}"])
        rows += [["Memory slices", where], ["State", state_text(seen.state)]]
    rows += [
        ["Part of a GPU", f"{device.weight:.2f}"],
        ["Memory used", f"{memory_text(reading.memory_used)} of {gib(device.memory_bytes)}"],
        ["Busy", value_text(reading.utilisation, "%")],
        ["Multiprocessors busy", value_text(reading.sm_activity, "%")],
        ["Tensor cores busy", value_text(reading.tensor_activity, "%")],
        ["Memory bandwidth", value_text(reading.memory_activity, "%")],
        ["Processes", value_text(seen.processes)],
    ]
    return f"Device {device.id}: {device.profile}\n{table(rows)}"
