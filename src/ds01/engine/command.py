"""Run a host's own tools with a time limit and a fixed environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final, NamedTuple

NOT_FOUND: Final = 127
TIMED_OUT: Final = 124

# Output is parsed, so it must not depend on the language of whoever runs this; a user's PATH must not choose the tool.
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TZ": "UTC"}


class Completed(NamedTuple):
    """What a command said. `status` is 127 if there is no such command, 124 if it took too long."""

    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether the command reported success."""
        return self.status == 0

    @property
    def complaint(self) -> str:
        """The last line of what it said, for a message to people."""
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.status}"


def run(argv: Sequence[str], *, timeout: float = 60.0) -> Completed:
    """Run one command without a shell.

    Args:
        argv: The command and its arguments.
        timeout: Seconds; the command is killed after that.

    Returns:
        Its status and output. Never raises for a missing or slow command.
    """
    environment = _ENVIRONMENT | {"HOME": os.environ.get("HOME", "/root")}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=timeout, env=environment, check=False
        )
    except FileNotFoundError:
        return Completed(NOT_FOUND, "", f"{argv[0]}: not found")
    except subprocess.TimeoutExpired:
        return Completed(TIMED_OUT, "", f"{argv[0]}: no answer within {timeout:g} s")
    return Completed(done.returncode, done.stdout, done.stderr)
