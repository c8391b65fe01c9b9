"""Running host programs and talking to the person at the terminal."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""

CACHE = ROOT / ".cache" / "lab"
"""What the lab remembers between two commands; ignored by git."""

_STARTED = time.monotonic()


class LabError(Exception):
    """What went wrong and what to do about it, in words for the person at the terminal."""


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep other commands of the lab out until the block ends; the kernel lets go for one that was killed."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Show progress on the terminal: seconds since the start, then the text."""
    print(f"[lab {time.monotonic() - _STARTED:5.1f}s] {text}", file=sys.stderr, flush=True)


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output as text.

    Args:
        argv: The program and its arguments; no shell is involved.
        stdin: What the program reads; nothing when None.
        check: Whether an exit status other than 0 is an error.
        timeout: Seconds after which the program is killed.
        env: The whole environment; the caller's own when None.

    Raises:
        LabError: The program is missing, took too long, or (with `check`) failed.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin or b"", capture_output=True, timeout=timeout, env=env, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: not found: install it, or put its directory on PATH") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: no end after {timeout:.0f} s") from error
    result = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.returncode != 0:
        raise LabError(f"{' '.join(argv)}: exit status {result.returncode}\n{result.stderr or result.stdout}".rstrip())
    return result


def stream(argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> int:
    """Run a program on the caller's own terminal and return its exit status.

    Raises:
        LabError: The program is missing.
    """
    try:
        return subprocess.run(list(argv), env=env, cwd=cwd, check=False).returncode
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: not found: install it, or put its directory on PATH") from error
