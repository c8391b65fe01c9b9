"""People as commands name them."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import click

from ds01.policy.names import check_user
from ds01.policy.problems import BadValue
from ds01.problems import ReportedError, shown


def caller() -> str:
    """Return the name of whoever called, also behind sudo: an administrator asks for himself."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        raise ReportedError(
            f"uid {os.getuid()} has no name here: if it had one before, whoever keeps the names does not answer: "
            "try again, then tell the administrator"
        ) from error


def own_home() -> Path:
    """Return the caller's home directory, whether it is there or not. Raises ReportedError."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise ReportedError(f"uid {os.getuid()} has no home directory here: HOME says which one to take") from error


def checked(user: str) -> str:
    """Return a name that somebody can have. Raises click.UsageError."""
    try:
        return check_user(user)
    except BadValue as error:
        raise click.UsageError(f"USER: {shown(user)}: {error.expected}: {error.fix}") from error
