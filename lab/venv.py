"""The controller's virtual environment: `.venv` with the pinned requirements and this checkout."""

from __future__ import annotations

import importlib.util
import sys

from lab import packages
from lab.process import ROOT, run, say

_HOME = ROOT / ".venv"


def ensure() -> None:
    """Make or complete `.venv`.

    Raises:
        LabError: This Python cannot make one and may not be completed, or pip fails.
    """
    python = _HOME / "bin" / "python"
    if not python.exists():
        if importlib.util.find_spec("ensurepip") is None:
            packages.install(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
        say("making .venv")
        run([sys.executable, "-m", "venv", str(_HOME)])
    say("installing the pinned requirements into .venv")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--requirement", str(ROOT / "requirements" / "dev.txt")])
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
