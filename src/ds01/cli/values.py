"""What people type as the value of an option: what it cannot be is wrong usage, and the option is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds01.problems import shown

if TYPE_CHECKING:
    from collections.abc import Callable


def duration(text: str, option: str) -> int:
    """Return the seconds of "2h", more than none. Raises click.UsageError."""
    from ds01.policy.units import parse_duration  # noqa: PLC0415 - help texts need none

    seconds = _parsed(parse_duration, text, option)
    if seconds == 0:
        raise click.UsageError(f"{option}: {shown(text)}: write more than 0, like 30m, 8h or 7d")
    return seconds


def size(text: str, option: str) -> int:
    """Return the bytes of "20g". Raises click.UsageError."""
    from ds01.policy.units import parse_size  # noqa: PLC0415 - as above

    return _parsed(parse_size, text, option)


def path(text: str, option: str) -> Path:
    """Return a whole path. Raises click.UsageError."""
    if not text:
        raise click.UsageError(f"{option}: '': there is no name in it")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise click.UsageError(f"{option}: {shown(text)}: there is nobody of that name here") from error


def content(file: str, option: str) -> bytes:
    """Return what is in a file. Raises click.UsageError."""
    try:
        return path(file, option).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{option}: {shown(file)}: {error.strerror}") from error


def _parsed(parse: Callable[[str], int], text: str, option: str) -> int:
    from ds01.policy.problems import BadValue  # noqa: PLC0415 - as above

    try:
        return parse(text)
    except BadValue as error:
        fix = f": {error.elsewhere}" if error.elsewhere else ""
        raise click.UsageError(f"{option}: {shown(text)}: {error.expected}{fix}") from error
