"""Where the Dockerfile of an image is: a directory of its own, which is also what a build sees."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from ds01.cli.person import own_home
from ds01.cli.values import path
from ds01.problems import ReportedError, shown

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

NAME: Final = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
_REFERENCE: Final = re.compile(r"(?=.{1,255}$)[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9_][A-Za-z0-9._:@-]*)*")
_NAME_MAX: Final = 120
"""With a tag it is the name of a directory, which has 255 characters at most, and of a repository."""
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return names of the caller's images for the shell's completion, none where the engine does not answer."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only shells ask

    from ds01.cli.engine import Engine, EngineError  # noqa: PLC0415 - as above
    from ds01.cli.image.look import own_names  # noqa: PLC0415 - as above

    try:
        return [CompletionItem(name) for name in own_names(Engine()) if name.startswith(typed)]
    except EngineError:
        return []


name_argument = click.argument("name", shell_complete=complete)
directory_option = click.option(
    "--directory", metavar="DIR", help="Where its Dockerfile is.  [default: ~/dockerfiles/NAME]"
)


class NoDockerfileError(ReportedError):
    """There is no Dockerfile for an image."""

    exit_code = 5


def checked(name: str) -> str:
    """Return a name for an image of one's own. Raises click.UsageError."""
    repository, _, tag = name.partition(":")
    if not NAME.fullmatch(repository) or len(repository) > _NAME_MAX or (tag and not _TAG.fullmatch(tag)):
        raise click.UsageError(
            f"NAME: {shown(name)}: not a name for an image: use up to {_NAME_MAX} lower-case letters, digits, "
            "and . _ - between them"
        )
    return name


def reference(image: str, what: str) -> str:
    """Return the name of any image. Raises click.UsageError.

    Args:
        image: What was written.
        what: The option or argument that has it.
    """
    if _REFERENCE.fullmatch(image) is None:
        raise click.UsageError(
            f"{what}: {shown(image)}: not the name of an image: write it like vision, python:3.12-slim or "
            "registry.example.org/group/tool:1"
        )
    return image


def directory_of(name: str, given: str | None) -> Path:
    """Return the directory for an image's Dockerfile. Raises click.UsageError."""
    return path(given, "--directory") if given is not None else own_home() / "dockerfiles" / name.replace(":", "-")


def read(directory: Path, name: str) -> str:
    """Return the Dockerfile. Raises NoDockerfileError, ReportedError."""
    try:
        return (directory / "Dockerfile").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NoDockerfileError(
            f"{directory}/Dockerfile: not there: `image create {name}` makes one, --directory says where another is"
        ) from error
    except UnicodeDecodeError as error:
        raise ReportedError(
            f"{directory}/Dockerfile: is no text in UTF-8: write it again, or save it as that"
        ) from error
