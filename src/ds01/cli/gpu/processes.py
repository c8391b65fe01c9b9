"""`ds01 gpu processes`: who uses the devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.gpu.common import gib, json_option, look, owner_text
from ds01.cli.output import NOT_FOUND, OK, listing, plain, say_json

if TYPE_CHECKING:
    from ds01.gpu.model import Device
    from ds01.gpu.snapshot import Snapshot


@click.command()
@click.argument("name", metavar="[DEVICE]", required=False)
@json_option
def processes(name: str | None, *, as_json: bool) -> int:
    """List the processes on all devices, or on DEVICE.

    Says whose they are and how much GPU memory they hold. Exit code 5 when there is no such device.
    """
    from ds01.gpu.model import NoDeviceError  # noqa: PLC0415 - help texts need no model

    found = look(activity=False)
    gpu = None if name is None else found.inventory.gpu(name)
    try:
        if name is None:
            devices: tuple[Device, ...] = found.inventory.devices
        else:
            devices = (found.inventory.find(name),) if gpu is None else gpu.devices
    except NoDeviceError as error:
        click.echo(f"error: {error}", err=True)
        return NOT_FOUND
    entries = [_entry(found, device) for device in devices]
    if as_json:
        say_json({"devices": entries})
    else:
        _say(entries)
    return OK


def _entry(found: Snapshot, device: Device) -> dict[str, Any]:
    from ds01.gpu.attribution import attribute  # noqa: PLC0415 - as above
    from ds01.gpu.processes import unexplained_memory  # noqa: PLC0415 - as above
    from ds01.gpu.snapshot import plain  # noqa: PLC0415 - as above

    known = found.processes[device.uuid]
    rest = unexplained_memory(found.readings.devices[device.uuid].memory_used, known)
    listed = []
    for process in known.value or ():
        # A process that ended since it was listed has no start: then nobody with its number is meant.
        origin = attribute(process.pid, process.start_ticks)
        listed.append(plain(process) | {"origin": plain(origin), "owner": owner_text(origin)})
    return {
        "id": device.id,
        "uuid": device.uuid,
        "state": known.state,
        "reason": known.reason,
        "processes": listed,
        "unexplained_memory": plain(rest),
    }


def _say(entries: list[dict[str, Any]]) -> None:
    rows = [["DEVICE", "PID", "MEMORY", "OWNER", "KIND", "COMMAND"]]
    for entry in entries:
        if entry["state"] != "value":
            rows.append([entry["id"], entry["state"], "", "", "", entry["reason"]])
        for process in entry["processes"]:
            memory, origin = process["memory"], process["origin"]
            amount = memory["state"] if memory["value"] is None else gib(memory["value"])
            rows.append(
                [entry["id"], str(process["pid"]), amount, process["owner"], process["kind"], plain(origin["command"])]
            )
    click.echo(listing(rows) if len(rows) > 1 else "No process uses a GPU.")
    for entry in entries:
        if rest := entry["unexplained_memory"]["value"]:
            click.echo(
                f"note: device {entry['id']}: {gib(rest)} are in use by no process that can be seen: "
                "if that lasts, a process there is stuck or hidden; `ps -eo pid,stat,user,cmd` shows D and Z states",
                err=True,
            )
