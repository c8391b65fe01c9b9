"""The services of DS01 that run all the time: enabled, and running what is installed now. Standard library only.

Compared with what runs, not told to restart: an upgrade of the runtime changes no unit file, and a deployment that was
interrupted after writing one leaves the next nothing to notice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ..engine.command import run
from ..problems import ApplyError
from .runtime import CURRENT, HOME

UNITS: Final = Path("/etc/systemd/system")
_TIMEOUT_S: Final = 180.0
"""A service may take its time to end: systemd gives it 90 s."""


def lacking(unit: str, *, running: bool, rewritten: bool = False) -> list[str]:
    """Return what must be done with a service: none, or some of `enable`, `restart`.

    Args:
        unit: Its name, like ds01-reconcile.service.
        running: Whether it runs all the time, and not only at boot.
        rewritten: Whether its unit file changes in this very deployment.
    """
    steps = [] if run(["systemctl", "is-enabled", "--quiet", unit]).ok else ["enable"]
    if running and (rewritten or not runs_installed(unit) or _began_before(unit)):
        steps.append("restart")
    return steps


def bring(unit: str, steps: list[str]) -> None:
    """Do these steps.

    Raises:
        ApplyError: systemd could not.
    """
    _systemctl("daemon-reload")
    for step in steps:
        _systemctl(step, unit)


def end(unit: str) -> None:
    """Stop a service and do not start it at boot. Raises ApplyError."""
    _systemctl("disable", "--now", unit)
    # systemd lists one that failed for ever, also without its file.
    run(["systemctl", "--quiet", "reset-failed", unit])


def runs_installed(unit: str) -> bool:
    """Tell whether a service runs from the runtime that is installed now."""
    pid = run(["systemctl", "show", "--property=MainPID", "--value", unit]).stdout.strip()
    try:
        program = Path("/proc", pid or "0", "cmdline").read_bytes().split(b"\0")[0]
        return Path(os.fsdecode(program)).is_relative_to((HOME / CURRENT).resolve(strict=True))
    except OSError:
        return False  # It does not run, or nothing is installed.


def _began_before(unit: str) -> bool:
    """Tell whether a service began before its unit file was written."""
    shown = run(["systemctl", "show", "--timestamp=unix", "--property=ExecMainStartTimestamp", "--value", unit]).stdout
    try:
        return int((UNITS / unit).stat().st_mtime) > int(shown.strip().removeprefix("@"))
    except (ValueError, OSError):
        return False  # It never ran, or there is no such file: others look at that.


def _systemctl(*arguments: str) -> None:
    done = run(["systemctl", "--quiet", *arguments], timeout=_TIMEOUT_S)
    if not done.ok:
        # The first line has the reason, the others advice.
        said = next(iter(done.stderr.splitlines()), done.complaint)
        fix = f"`journalctl --unit={arguments[-1]}` says more"
        raise ApplyError(f"systemctl {' '.join(arguments)}: {said}: expected success: {fix}")
