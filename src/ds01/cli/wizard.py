"""What wizards are made of: the smaller commands, shown as people type them, so that they are known afterwards."""

from __future__ import annotations

from shlex import join

import click

from ds01.cli.main import run
from ds01.cli.output import colour
from ds01.host.names import THIN


def step(*words: str) -> int:
    """Show a command and run it; what goes wrong is said by it. Returns its exit code."""
    click.echo(click.style(f"> {join(words)}", bold=True), err=True, color=colour())
    return run(list(words[1:]), words[0]) if words[0] in THIN else run(list(words))
