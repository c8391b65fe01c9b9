"""Where a project is: a directory of ~/workspace, whose name its image and its container have, too."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ds01 import files
from ds01.cli.person import own_home
from ds01.problems import ReportedError, shown

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_NAME_MAX: Final = 60
_NAME: Final = re.compile(rf"(?=.{{1,{_NAME_MAX}}}$)[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")
"""What a directory, a container and, in lower case, an image can be called."""


def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return names of the caller's projects for the shell's completion."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only shells ask

    return [CompletionItem(name) for name in sorted(path.name for path in begun()) if name.startswith(typed)]


name_argument = click.argument("name", required=False, metavar="[PROJECT]", shell_complete=complete)


class NoProjectError(ReportedError):
    """There is no project of a name."""

    exit_code = 5


def is_name(name: str) -> bool:
    """Whether a project can be called so."""
    return _NAME.fullmatch(name) is not None


def checked(name: str) -> str:
    """Return a name for a project. Raises click.UsageError."""
    if not is_name(name):
        raise click.UsageError(
            f"PROJECT: {shown(name)}: not a name for a project: use up to 60 letters and digits, with _ or - between"
            f"{_like(name)}"
        )
    return name


def _like(name: str) -> str:
    """Return what a project may be called instead, if something of the name is left."""
    from unicodedata import normalize  # noqa: PLC0415 - only for names that cannot be

    ascii_ = normalize("NFKD", name).encode("ascii", "ignore").decode()
    found = re.sub(r"[^A-Za-z0-9]+", "-", ascii_).strip("-")[:_NAME_MAX].strip("-")
    return f", like {found}" if found else ""


def workspace() -> Path:
    """Return where projects are."""
    return own_home() / "workspace"


def begun() -> list[Path]:
    """Return the directories of the projects that there are."""
    try:
        return [path for path in workspace().iterdir() if path.is_dir() and is_name(path.name)]
    except OSError:
        return []


def directory_of(name: str) -> Path:
    """Return a project's directory, whether it is there or not."""
    return workspace() / name


def image_of(name: str) -> str:
    """Return the name of a project's image."""
    return name.lower()


def chosen(name: str | None) -> str:
    """Return the project that a command is about: the one named, the one that we are in, or the one typed now.

    Raises:
        click.UsageError: None is meant, or it cannot be called so.
    """
    if name is None and (name := _here()) is None:
        if not sys.stdin.isatty():
            raise click.UsageError("PROJECT is missing: name one, or go to its directory in ~/workspace")
        name = str(click.prompt("Name of the project", value_proc=checked, err=True))
    return checked(name)


def existing(name: str | None) -> Path:
    """Return the directory of a project that there is. Raises NoProjectError, click.UsageError."""
    name = chosen(name)
    found = directory_of(name)
    if not found.is_dir():
        raise NoProjectError(f"{tilde(found)}: there is no such project: `project init {name}` begins one")
    return found


def tilde(path: Path) -> str:
    """Return a path as people write it."""
    home = own_home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) and path != home else str(path)


def write_new(path: Path, text: str) -> None:
    """Write a file, or leave the one that is there as it is; says which. Raises OSError."""
    if os.path.lexists(path):
        click.echo(f"{tilde(path)} is there already and stays as it is")
        return
    files.atomic_write(path, text, mode=0o644)
    click.echo(f"wrote {tilde(path)}")


def _here() -> str | None:
    """Return the project whose directory we are in."""
    try:
        inside = Path.cwd().relative_to(workspace().resolve())
    except (OSError, ValueError):
        return None
    return inside.parts[0] if inside.parts else None
