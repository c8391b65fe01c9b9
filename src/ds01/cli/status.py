"""`ds01 status`: what is going on here, and what is mine of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01.cli.asking import asks
from ds01.cli.gpu.status import status_text
from ds01.cli.limits import use_of
from ds01.cli.output import OK, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@asks
def status(*, ask: Ask, as_json: bool) -> int:
    """Show what you have, who holds which GPU, who waits."""
    mine, found = ask("GET", "usage"), ask("GET", "status")
    if as_json:
        say_json({"you": mine, **found})
        return OK
    click.echo(f"{mine['user']}, group {mine['group']}")
    shown = {"max_containers_per_user": "containers", "max_mig_instances": "GPU devices"}
    if mine["quotas"]["storage.docker"][1] is not None:
        shown["storage.docker"] = "disk of containers, volumes and images"
    for name, what in shown.items():
        use, left = use_of(*mine["quotas"][name], size=name == "storage.docker")
        click.echo(f"  {what}: {use}{f', {left}' if left else ''}")
    click.echo(status_text(found))
    return OK
