"""`ds01 devcontainer`: a project's container as editors make it."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

COMMANDS = {
    "check": ("ds01.cli.devcontainer.check", "check"),
    "init": ("ds01.cli.devcontainer.make", "init"),
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def devcontainer() -> None:
    """Let an editor work in a project's container."""
