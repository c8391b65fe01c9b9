"""Read-only facts about the machine: operating system, Python, systemd, control groups, disk space, names."""

from __future__ import annotations

import grp
import os
import platform
import pwd
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ..engine.command import run

CgroupVersion = Literal["v2", "v1"]
_CGROUPS = Path("/sys/fs/cgroup")


def operating_system(path: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """Return id and version of the distribution, e.g. ("debian", "13"); ("", "") if it does not say."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return "", ""
    found = dict(re.findall(r"""^(ID|VERSION_ID)=["']?([^"'\n]*)["']?$""", text, flags=re.MULTILINE))
    return found.get("ID", ""), found.get("VERSION_ID", "")


def python_version() -> tuple[int, int]:
    """Return the version of the Python that runs this."""
    return sys.version_info[0], sys.version_info[1]


def machine() -> str:
    """Return the processor architecture as the kernel names it."""
    return platform.machine()


def systemd_version() -> int:
    """Return the version of systemd if it is what started this machine, else 0."""
    if not Path("/run/systemd/system").is_dir():
        return 0
    found = re.match(r"systemd (\d+)", run(["systemctl", "--version"]).stdout)
    return int(found.group(1)) if found else 0


def cgroup_version(root: Path = _CGROUPS) -> CgroupVersion:
    """Return "v2" if the control groups are the unified hierarchy alone; hybrid counts as v1."""
    return "v2" if (root / "cgroup.controllers").is_file() else "v1"


def cgroup_controllers(root: Path = _CGROUPS) -> set[str]:
    """Return the controllers of the unified hierarchy."""
    try:
        return set((root / "cgroup.controllers").read_text(encoding="ascii").split())
    except OSError:
        return set()


def free_space(path: str) -> tuple[int, int]:
    """Return free bytes and free inodes (-1 where the file system has no fixed number) where `path` is or would be."""
    place = Path(path)
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else -1


def missing_groups(names: Iterable[str]) -> list[str]:
    """Return the Unix groups that no name service of this host knows."""
    return sorted(name for name in set(names) if not _known(grp.getgrnam, name))


def missing_people(logins: Iterable[str]) -> list[str]:
    """Return the logins that no name service of this host knows."""
    return sorted(login for login in set(logins) if not _known(pwd.getpwnam, login))


def _known(lookup: Any, name: str) -> bool:
    try:
        lookup(name)
    except (KeyError, ValueError):
        return False
    return True
