"""Groups of commands whose commands are modules that are imported on use: commands must start fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from ds01.cli.guide import teach


class LazyGroup(click.Group):
    """A group that knows of its commands only where they are."""

    def __init__(self, *arguments: Any, modules: Mapping[str, tuple[str, str]], **options: Any) -> None:
        """Take the module and the function of each command."""
        super().__init__(*arguments, **options)
        self._modules = modules

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return all names."""
        return sorted(self._modules)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return one command, or None."""
        if name not in self._modules:
            return None
        module, function = self._modules[name]
        return teach(getattr(importlib.import_module(module), function))

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant. Raises click.UsageError, which names what is spelled alike."""
        try:
            return super().resolve_command(context, arguments)
        except click.UsageError as error:
            from difflib import get_close_matches  # noqa: PLC0415 - only for mistakes

            alike = get_close_matches(arguments[0], self.list_commands(context), n=1)
            if not alike:
                raise
            raise click.UsageError(f"{error.message} Is {alike[0]} meant?", error.ctx) from error
