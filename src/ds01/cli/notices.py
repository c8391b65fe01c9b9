"""`ds01 notices`: what somebody is to be told about their containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01.cli.asking import asks
from ds01.cli.output import OK, plain, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.option("--new", is_flag=True, help="Only what was not shown yet; it counts as shown afterwards.")
@asks
def notices(*, new: bool, ask: Ask, as_json: bool) -> int:
    """Show warnings, and what was stopped or removed and why.

    New ones are shown at each login. They are kept for 30 days.
    """
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    found = ask("GET", "notices", {"unseen": "1"} if new else {})
    if as_json:
        say_json(found)
    else:
        for one in found:
            click.echo(plain(f"{instant(one['at'])}  {one['kind']}: {one['subject']}: {one['text']}"))
        if not found and not new:
            click.echo("nothing to tell")
    if new and found:
        ask("POST", "notices/seen", body={"up_to": found[-1]["id"]})
    return OK
