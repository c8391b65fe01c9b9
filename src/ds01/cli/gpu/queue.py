"""`ds01 gpu queue`: who waits, in which order and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01.cli.asking import asks
from ds01.cli.output import OK, listing, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.option("--cancel", "number", type=click.IntRange(1, 2**63 - 1), metavar="N", help="Take request N out.")
@asks
def queue(*, number: int | None, ask: Ask, as_json: bool) -> int:
    """Show who waits for a GPU: the first to be served first."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    if number is not None:
        ask("DELETE", f"queue/{number}")
        click.echo(f"cancelled: {number}")
        return OK
    found = ask("GET", "queue")
    if as_json:
        say_json(found)
        return OK
    rows = [["PLACE", "NUMBER", "USER", "REQUEST", "EXPECTED BY", "BECAUSE OF"]]
    for entry in found:
        numbers = [str(entry["position"]), str(entry["number"])]
        rows.append([*numbers, entry["user"], entry["request"], instant(entry["expected"]), entry["why"]])
    click.echo(listing(rows) if found else "nobody waits")
    return OK
