"""`ds01 project`: directories in ~/workspace, each with its image and its container."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

COMMANDS = {
    "dir": ("ds01.cli.project.pieces", "directories"),
    "git": ("ds01.cli.project.git", "git"),
    "init": ("ds01.cli.project.init", "init"),
    "launch": ("ds01.cli.project.launch", "launch"),
    "readme": ("ds01.cli.project.pieces", "readme"),
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def project() -> None:
    """Begin projects and go on with them."""
