"""All commands there are, from one source: what the commands say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import click

from ds01.cli.main import NAME, SETTINGS, cli
from ds01.host.names import THIN


class Entry(NamedTuple):
    """One command: its words after ds01, and other names of it."""

    words: tuple[str, ...]
    command: click.Command
    context: click.Context
    names: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One sentence."""
        return self.command.get_short_help_str(200)


def entries() -> Iterator[Entry]:
    """Yield every command, groups before what is in them."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, words in THIN.items():
        names.setdefault(words, []).append(name)
    yield from _below(cli, click.Context(cli, info_name=NAME, **SETTINGS), (), names)


def _below(
    command: click.Command, context: click.Context, words: tuple[str, ...], names: dict[tuple[str, ...], list[str]]
) -> Iterator[Entry]:
    yield Entry(words, command, context, tuple(names.get(words, ())))
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            # What is known under a name of its own may be hidden in its group.
            if found is not None and (not found.hidden or (*words, word) in names):
                yield from _below(found, click.Context(found, parent=context, info_name=word), (*words, word), names)
