"""`ds01 container`: containers of one's own, from the first one to the last."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

COMMANDS = {
    "attach": ("ds01.cli.container.session", "attach"),
    "create": ("ds01.cli.container.create", "create"),
    "deploy": ("ds01.cli.container.create", "deploy"),
    "extend": ("ds01.cli.container.lasting", "extend"),
    "keep": ("ds01.cli.container.lasting", "keep"),
    "list": ("ds01.cli.container.look", "listed"),
    "mlc-create": ("ds01.cli.container.mlc", "create"),
    "pause": ("ds01.cli.container.life", "pause"),
    "remove": ("ds01.cli.container.removal", "remove"),
    "retire": ("ds01.cli.container.removal", "retire"),
    "run": ("ds01.cli.container.session", "run"),
    "start": ("ds01.cli.container.life", "start"),
    "stats": ("ds01.cli.container.look", "stats"),
    "stop": ("ds01.cli.container.life", "stop"),
    "unpause": ("ds01.cli.container.life", "unpause"),
}


@click.group(cls=LazyGroup, modules=COMMANDS)
def container() -> None:
    """Make and use containers; the image and your files stay."""
