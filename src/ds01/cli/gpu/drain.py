"""`ds01 gpu drain`: give a device to nobody any more, and take that back."""

from __future__ import annotations

import click

from ds01.cli.asking import dry_run_option, json_option, ledger_options, opened
from ds01.cli.output import NOT_FOUND, OK, say_json


@click.command()
@click.argument("name", metavar="DEVICE")
@click.option("--reason", default="drained by an administrator", show_default=True, help="Why; whoever asks sees it.")
@click.option("--undo", is_flag=True, help="Give it to people again.")
@dry_run_option
@json_option
@ledger_options
def drain(
    name: str, *, reason: str, undo: bool, dry_run: bool, as_json: bool, policy_path: str, ledger_path: str
) -> int:
    """Give DEVICE to nobody any more.

    DEVICE is 0:1, a UUID, or 0 for the GPU 0 with all its MIG devices. Whoever has it keeps it until the container
    stops, and gets another one at the next start.
    """
    from ds01.allocator import picture  # noqa: PLC0415 - help texts need no allocator
    from ds01.allocator.blockers import names  # noqa: PLC0415 - as above
    from ds01.ledger.devices import mark  # noqa: PLC0415 - as above

    with opened(policy_path, ledger_path) as desk, desk.allocator.change(dry_run=dry_run) as (tx, _):
        there = [device for device in picture.snapshot(tx, desk.people).devices if device.state != "gone"]
        found = [device for device in there if names(device, name) or str(device.gpu_index) == name]
        for device in found:
            if undo and device.state == "draining":
                mark(tx, device.uuid, "ok", None)
            elif not undo and device.state != "unhealthy":
                mark(tx, device.uuid, "draining", reason)
    if not found:
        known = ", ".join(device.id for device in there) or "none"
        click.echo(f"error: {name}: no such device: there are {known}", err=True)
        return NOT_FOUND
    holders = {device.id: device.holder.user if device.holder else None for device in found}
    if as_json:
        say_json({"devices": holders, "draining": not undo})
        return OK
    verb = ("would be " if dry_run else "") + ("given again" if undo else "drained")
    for number, holder in holders.items():
        click.echo(f"{number}: {verb}" + (f"; {holder} still has it" if holder and not undo else ""))
    return OK
