"""`ds01 user`: what one sets up for oneself, once."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

COMMANDS = {
    "jupyter": ("ds01.cli.user.jupyter", "jupyter"),
    "setup": ("ds01.cli.user.setup", "setup"),
    "shell": ("ds01.cli.user.shell", "shell"),
    "ssh": ("ds01.cli.user.ssh", "ssh"),
    "vscode": ("ds01.cli.user.vscode", "vscode"),
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def user() -> None:
    """Set up what you need: keys, editor, notebooks, shell."""
