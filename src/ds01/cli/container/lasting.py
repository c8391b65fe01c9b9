"""`container keep` and `container extend`: keep one that is idle, and let one run longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks
from ds01.cli.container.own import complete, named
from ds01.cli.output import OK, plain, say_json
from ds01.cli.values import duration

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.argument("name", metavar="CONTAINER", shell_complete=complete)
@click.argument("time", default="2h", metavar="[TIME]")
@asks
def keep(name: str, time: str, *, ask: Ask, as_json: bool) -> int:
    """Let CONTAINER not be stopped as idle for TIME.

    TIME is like 2h, which it is if left out. `policies.keepalive_max_duration` says how much there is for each one.
    """
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    found = ask("POST", f"containers/{named(name)}/keep", body={"seconds": duration(time, "TIME")})
    return _say(found, f"{found['container']} is kept until {instant(found['until'])}", as_json=as_json)


@click.command()
@click.argument("name", metavar="CONTAINER", shell_complete=complete)
@click.argument("time", metavar="TIME")
@asks
def extend(name: str, time: str, *, ask: Ask, as_json: bool) -> int:
    """Let CONTAINER run TIME longer than `max_runtime`.

    `policies.extend_max_duration` says how much there is for one container.
    """
    found = ask("POST", f"containers/{named(name)}/extend", body={"seconds": duration(time, "TIME")})
    return _say(found, f"{found['container']} may run {time} longer", as_json=as_json)


def _say(found: dict[str, Any], text: str, *, as_json: bool) -> int:
    from ds01.lifecycle.rules import span  # noqa: PLC0415 - help texts need none

    if as_json:
        say_json(found)
    else:
        left = found["left_s"]
        budget = "" if left is None else f"; {span(left * 1000) if left else 'nothing'} of its budget is left"
        click.echo(plain(text + budget))
    return OK
