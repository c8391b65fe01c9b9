"""What several commands need of the caller's containers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from ds01.cli.engine import Engine, EngineError
from ds01.cli.output import OK, say_json
from ds01.problems import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem

_NOT_FOUND: Final = 404
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}")
"""What any program may call a container: with more, another thing than a container would be asked for."""


def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return names of containers for the shell's completion."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only shells ask

    return [CompletionItem(name) for name in _all() if name.startswith(typed)]


def _all() -> list[str]:
    """Return the names of the caller's containers, none where the engine does not answer."""
    try:
        rows = Engine().ask("GET", "containers", "json", query={"all": "1"})
    except EngineError:
        return []
    return sorted(name_of(row) for row in rows)


name_argument = click.argument("name", shell_complete=complete)
names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete)


def name_of(row: dict[str, Any]) -> str:
    """Return the name of a container in the engine's list."""
    # A container that others link to has a second name, /other/alias.
    return next((name[1:] for name in row.get("Names") or [] if name.count("/") == 1), str(row.get("Id", ""))[:12])


def named(name: str) -> str:
    """Return a name that a container can have. Raises EngineError for any other: there is none of that name."""
    if _NAME.fullmatch(name) is None:
        raise _missing(name)
    return name


def inspected(engine: Engine, name: str) -> dict[str, Any]:
    """Return what the engine knows of a container. Raises EngineError, one that names the next step."""
    try:
        found: dict[str, Any] = engine.ask("GET", "containers", named(name), "json")
    except EngineError as error:
        if error.status == _NOT_FOUND:
            raise _missing(name) from error
        raise
    return found


def _missing(name: str) -> EngineError:
    text = f"{shown(name)}: you have no such container: `container list --all` shows yours"
    return EngineError(text, _NOT_FOUND)


def chosen(engine: Engine, names: Sequence[str], *, everything: bool, state: str | None = None) -> list[str]:
    """Return the containers that a command is about.

    Args:
        engine: Where they are.
        names: Those that were named.
        everything: Whether all were meant.
        state: Then only those in this state.

    Raises:
        click.UsageError: None was named, or some and all.
    """
    if bool(names) == everything:
        offered = "" if everything else ", ".join(_all())
        raise click.UsageError(f"name one or more containers, or give --all{offered and f'; you have: {offered}'}")
    if names:
        return list(dict.fromkeys(names))
    filters = f'{{"status": ["{state}"]}}' if state else "{}"
    rows = engine.ask("GET", "containers", "json", query={"all": "1", "filters": filters})
    return sorted(name_of(row) for row in rows)


def for_each(names: Sequence[str], act: Callable[[str], str], *, as_json: bool) -> int:
    """Do something with each; one that fails is said and does not keep the others from it.

    Returns:
        The exit code of the first that failed.
    """
    code = OK
    results = []
    for name in names:
        try:
            text = act(name)
        except EngineError as error:
            code = code or error.exit_code
            click.echo(f"error: {shown(name)}: {str(error).removeprefix(f'{shown(name)}: ')}", err=True)
            results.append({"name": name, "done": False, "error": str(error)})
        else:
            results.append({"name": name, "done": True, "error": None})
            if not as_json:
                click.echo(text)
    if as_json:
        say_json(results)
    elif not names:
        click.echo("no such containers")
    return code
