"""Is there room on the disks, is the clock right, has the software known ways out of containers?"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from ..host.nvidia import escapes_of, toolkit_version
from .model import Check, failed, ok, run, warning

_PLACES: Final = ("/", "/var/lib/docker", "/var/lib/ds01", "/var/log", "/home", "/tmp")  # noqa: S108 - looked at only
_FULL: Final = 0.03
_NEARLY: Final = 0.10
_DOCUMENTS: Final = Path("/usr/share/doc")


class Escape(NamedTuple):
    """A published way out of a container, and the versions that are the first without it: one for each branch."""

    name: str
    package: str
    command: tuple[str, ...]
    fixed: tuple[tuple[int, ...], ...]


# github.com/opencontainers/runc/security/advisories and github.com/moby/buildkit/security/advisories (the engine holds
# BuildKit): the versions that they name.
ESCAPES: Final = (
    Escape("CVE-2024-21626", "runc", ("runc", "--version"), ((1, 1, 12),)),
    Escape("CVE-2025-31133", "runc", ("runc", "--version"), ((1, 2, 8), (1, 3, 3))),
    Escape("CVE-2025-52565", "runc", ("runc", "--version"), ((1, 2, 8), (1, 3, 3))),
    Escape("CVE-2025-52881", "runc", ("runc", "--version"), ((1, 2, 8), (1, 3, 3))),
    Escape("CVE-2024-23653", "docker.io", ("dockerd", "--version"), ((24, 0, 9), (25, 0, 2))),
)


def check_disk() -> Check:
    """No file system that DS01 or the engine needs is nearly full, of bytes or of files."""
    full: list[str] = []
    nearly: list[str] = []
    for place in {Path(name).stat().st_dev: name for name in reversed(_PLACES) if Path(name).is_dir()}.values():
        found = os.statvfs(place)
        parts = [found.f_bavail / found.f_blocks if found.f_blocks else 1.0]
        parts += [found.f_favail / found.f_files] if found.f_files else []
        left = min(parts)
        if left < _NEARLY:
            (full if left < _FULL else nearly).append(f"{place}: {left:.0%} left")
    fix = "df -h and df -i show how full; du -xh --max-depth=2 PLACE shows by what."
    if full:
        return failed("disk", "; ".join(full + nearly), fix)
    return warning("disk", "; ".join(nearly), fix) if nearly else ok("disk", "room everywhere")


def check_clock() -> Check:
    """The clock follows a time server: leases, reservations and reports are only as right as it is."""
    if run("systemd-detect-virt", "--quiet", "--container").returncode == 0:
        return ok("clock", "in a container: that of the machine below")
    found = run("timedatectl", "show", "--property=NTPSynchronized", "--value").stdout.strip()
    if found == "yes":
        return ok("clock", "follows a time server")
    return warning("clock", "follows no time server", "apt-get install systemd-timesyncd; timedatectl set-ntp true")


def check_escapes() -> Check:
    """What starts containers has no published way out of them, as far as the table of this version knows."""
    versions: dict[tuple[str, ...], str] = {}
    known = []
    for escape in ESCAPES:
        version = versions.setdefault(escape.command, _version(escape.command))
        if version and is_open(version, escape.fixed) and escape.name not in _changes(escape.package):
            known.append(f"{escape.name} ({escape.package} {version})")
    toolkit = toolkit_version()
    known += [f"{name} (nvidia-container-toolkit {toolkit})" for name in (escapes_of(toolkit) if toolkit else [])]
    if known:
        fix = "apt-get update and apt-get upgrade; if they are the newest, your distribution has no correction yet."
        return warning("escapes", f"known ways out of containers: {', '.join(known)}", fix)
    return ok("escapes", "no known way out of containers")


def is_open(version: str, fixed: tuple[tuple[int, ...], ...]) -> bool:
    """Tell whether a version is before the correction: that of its own branch, else the last one."""
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", version.partition("-")[0])[:3])
    same = [one for one in fixed if one[:2] == numbers[:2]]
    return numbers < (same[0] if same else max(fixed))


def _version(command: tuple[str, ...]) -> str:
    found = re.search(r"version v?([0-9]+(?:\.[0-9]+)+)", run(*command).stdout)
    return found[1] if found else ""


def _changes(package: str) -> str:
    """Return what a distribution says it corrected in a package without a new version."""
    for name in ("changelog.Debian.gz", "changelog.Debian.amd64.gz"):
        try:
            with gzip.open(_DOCUMENTS / package / name, "rt", encoding="utf-8", errors="replace") as text:
                return text.read()
        except OSError:
            continue
    return ""
