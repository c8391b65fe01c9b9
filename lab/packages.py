"""Debian packages that this machine lacks."""

from __future__ import annotations

import os
import shutil

from lab.process import CACHE, LabError, alone, run, say


def install(*packages: str) -> None:
    """Install packages on this machine.

    Raises:
        LabError: This is not Debian or Ubuntu, we are not root, or apt fails.
    """
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        raise LabError(f"{names}: missing, and only Debian and Ubuntu are served: install it with your package manager")
    if os.geteuid() != 0:
        raise LabError(f"{names}: missing: run `sudo apt-get install {names}`, or this command as root")
    say(f"installing {names} (apt-get)")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with alone(CACHE / "apt.lock"):
        run(["apt-get", "update", "-qq"], env=env)
        # The machine's own upgrades may be at it.
        run(["apt-get", "install", "-qq", "-y", "-o", "DPkg::Lock::Timeout=300", *packages], env=env)
