"""What people type as the value of an option: what it cannot be is wrong usage, and the option is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds01.problems import shown

if TYPE_CHECKING:
    from collections.abc import Callable


def duration(text: str, option: str) -> int:
    """Return the seconds of "2h". Raises click.UsageError."""
    from ds01.policy.units import parse_duration  # noqa: PLC0415 - help texts need none

    return _parsed(parse_duration, text, option)


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
        # In the policy, for which it was written, null is a value, too.
        said = re.sub("[:;] null .*", "", str(error))
        raise click.UsageError(f"{option}: {shown(text)}: {said}") from error
