"""What a check says, and how a host command is run by one."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_SECONDS = 30


class Status(StrEnum):
    """How a check ended. The order of severity is the order of the members."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"

    @property
    def exit_code(self) -> int:
        """The exit code of `ds01 health` when this is the worst status: 0, 1 or 2."""
        return list(Status).index(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `fix` is empty only when all is well."""

    name: str
    status: Status
    detail: str
    fix: str = ""
    repair: tuple[str, ...] = ()
    """A command that mends it and harms nobody; only then `--fix` runs it."""


def ok(name: str, detail: str) -> Check:
    """A check that passed."""
    return Check(name, Status.OK, detail)


def warning(name: str, detail: str, fix: str, repair: tuple[str, ...] = ()) -> Check:
    """A check whose finding somebody should look at, while the rules still hold."""
    return Check(name, Status.WARNING, detail, fix, repair)


def failed(name: str, detail: str, fix: str, repair: tuple[str, ...] = ()) -> Check:
    """A check whose finding means that a rule does not hold."""
    return Check(name, Status.FAILED, detail, fix, repair)


def worst(checks: Sequence[Check]) -> Status:
    """The most severe status of all checks; `OK` for none."""
    return max((check.status for check in checks), key=lambda status: status.exit_code, default=Status.OK)


def run(*argv: str, limit_s: float = COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a host command without a shell, for some seconds at most.

    Returns:
        The finished process; a command that is missing ends with 127, one that takes longer with 124, so that a broken
        host is a finding and not an exception.
    """
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=limit_s, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 127, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"{argv[0]}: no answer in {limit_s:.0f} s")
