"""What changes a host: unit files, and systemd, which reads them and writes to the kernel."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ..files import atomic_write, ensure_directory, remove_file
from ..locks import exclusive
from ..problems import ApplyError
from .plan import Host, Plan

LOCK_TIMEOUT_S: Final = 60.0
_RELOAD_TIMEOUT_S: Final = 90.0
_PUSH_TIMEOUT_S: Final = 15.0
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def only_one(host: Host) -> contextlib.AbstractContextManager[None]:
    """Let one run at a time change units. Entering raises ApplyError when another one takes too long."""
    ensure_directory(host.run, mode=0o755)
    return exclusive(host.lock, LOCK_TIMEOUT_S, f"see who has it with `fuser {host.lock}`")


def change_files(todo: Plan, units: Path, marker: Path) -> None:
    """Write and remove unit files. `marker` is there from before the first change, for the next run. Raises OSError."""
    if todo.writes or todo.removals:
        atomic_write(marker, "", mode=0o600)
    for write in todo.writes:
        path = units / write.name
        if path.parent != units:
            ensure_directory(path.parent, mode=0o755)
        atomic_write(path, write.after, mode=0o644)
    directories = set()
    for removal in todo.removals:
        path = units / removal.name
        if path.is_dir():
            directories.add(path)
            continue
        remove_file(path)
        if path.parent != units:
            directories.add(path.parent)
    for path in directories:
        # Not empty: somebody else has a drop-in there.
        with contextlib.suppress(OSError):
            path.rmdir()


def reload() -> None:
    """Let systemd read its units again. Raises ApplyError."""
    done = run(["systemctl", "daemon-reload"], _RELOAD_TIMEOUT_S)
    if done is not None:
        raise ApplyError(f"systemctl daemon-reload: {done}: expected success: run it by hand, then run this again")


def write_through(name: str, *command: str) -> str:
    """Let systemd write to the kernel what it has for a slice; return what a command prints that is run in it."""
    # A scope that starts in a slice makes systemd write the limits of that slice to the kernel. Whether the
    # command in it could run does not matter: the kernel is read afterwards.
    inside = command or ("true",)
    argv = ["systemd-run", "--quiet", "--collect", "--scope", f"--slice={name}", *inside]
    done = _finished(argv, _PUSH_TIMEOUT_S)
    return "" if isinstance(done, str) else done.stdout.strip()


def output(argv: Sequence[str]) -> str:
    """Return what a command prints; nothing if it fails."""
    done = _finished(argv, _PUSH_TIMEOUT_S)
    return "" if isinstance(done, str) or done.returncode != 0 else done.stdout


def run(argv: Sequence[str], timeout: float = _PUSH_TIMEOUT_S) -> str | None:
    """Run a command; return None on success, else its last words."""
    done = _finished(argv, timeout)
    if isinstance(done, str):
        return done
    if done.returncode == 0:
        return None
    words = (done.stderr or done.stdout).strip().splitlines()
    return words[-1] if words else f"exit status {done.returncode}"


def _finished(argv: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str] | str:
    """Return how a command ended, or why it did not."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=timeout, env=_ENVIRONMENT, check=False
        )
    except FileNotFoundError:
        return "not found"
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:g} s"
