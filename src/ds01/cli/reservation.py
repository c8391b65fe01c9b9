"""`ds01 reservation`: what is kept for whom, as a list and as a calendar."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ds01.api.desk import now_ms
from ds01.cli.asking import asks, dry_run_option, ledger_options, opened
from ds01.cli.gpu.reserve import reserve
from ds01.cli.output import OK, listing, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.group()
def reservation() -> None:
    """Keep GPU devices for somebody in a window."""


reservation.add_command(reserve, "add")


@reservation.command("list")
@asks
def list_reservations(*, ask: Ask, as_json: bool) -> int:
    """List what is reserved now and later."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    found = ask("GET", "reservations")
    if as_json:
        say_json(found)
        return OK
    rows = [["NUMBER", "FOR", "DEVICES", "FROM", "UNTIL", "STATE", "BY"]]
    for entry in found:
        whose = entry["user"] or f"group {entry['group']}"
        devices = ", ".join(entry["devices"]) or "not chosen yet"
        window = [instant(entry["starts"]), instant(entry["ends"])]
        rows.append([str(entry["number"]), whose, devices, *window, entry["state"], entry["created_by"]])
    click.echo(listing(rows) if found else "nothing is reserved")
    return OK


@reservation.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@click.option("--reason", help="Why.")
@dry_run_option
@asks
def cancel(number: int, *, reason: str | None, dry_run: bool, ask: Ask, as_json: bool) -> int:
    """End reservation NUMBER. Those of the policy file end there."""
    query = ({} if reason is None else {"reason": reason}) | ({"dry_run": "1"} if dry_run else {})
    answer = ask("DELETE", f"reservations/{number}", query=query)
    if as_json:
        say_json(answer)
    else:
        click.echo(f"{'would be cancelled' if dry_run else 'cancelled'}: {number}")
    return OK


@reservation.command()
@ledger_options
def calendar(*, policy_path: str, ledger_path: str) -> int:
    """Print all reservations as a calendar (.ics).

    Calendar programs can import it or subscribe to it.
    """
    from ds01.allocator.calendar import calendar as written  # noqa: PLC0415 - help texts need no allocator
    from ds01.allocator.picture import bookings, device_names  # noqa: PLC0415 - as above

    with opened(policy_path, ledger_path) as desk, desk.ledger.read() as view:
        text = written(bookings(view), device_names(view), os.uname().nodename, now_ms())
    click.echo(text.encode(), nl=False)
    return OK
