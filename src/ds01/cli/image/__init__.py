"""`ds01 image`: what containers are made from; a readable Dockerfile for each."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

COMMANDS = {
    "build": ("ds01.cli.image.build", "build"),
    "create": ("ds01.cli.image.create", "create"),
    "delete": ("ds01.cli.image.look", "delete"),
    "install": ("ds01.cli.image.update", "install"),
    "list": ("ds01.cli.image.look", "listed"),
    "update": ("ds01.cli.image.update", "update"),
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def image() -> None:
    """Make images: the programs that your containers have."""
