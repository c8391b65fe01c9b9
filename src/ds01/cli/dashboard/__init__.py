"""`ds01 dashboard`: the GPUs, who has them and until when, who waits, what slices use; live on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ds01.cli.asking import asks
from ds01.cli.output import OK, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.option("--once", is_flag=True, help="Show it once and end; so it is where there is no terminal.")
@asks
def dashboard(*, once: bool, ask: Ask, as_json: bool) -> int:
    """Watch the GPUs: who has them, until when, who waits.

    Keys: s sorts by the next column, r turns the order round, f shows all, yours or free devices, / looks for a text,
    arrows scroll, q or Ctrl-C ends it. Times are UTC.
    """
    from ds01.cli.dashboard import data, screen  # noqa: PLC0415 - help texts need none of it

    if as_json:
        say_json(data.collect(ask))
    elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo("\n".join(screen.body(data.collect(ask), screen.View())))
    else:
        from ds01.cli.dashboard import live  # noqa: PLC0415 - as above

        live.run(ask)
    return OK
