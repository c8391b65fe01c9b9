"""Which engine is installed, from whom, and what is missing beside it."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

from .command import run

Flavour: TypeAlias = Literal["docker.io", "docker-ce", "other", "none"]

_ENGINES: Final[tuple[Flavour, ...]] = ("docker-ce", "docker.io")
_VERSION = re.compile(r"Docker version ([^,\s]+)")

# The engine with the tools people type. Debian 12 has compose only as its first, separate version, and no buildx.
_WANTED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("debian", "12"): ("docker.io", "docker-compose"),
    ("debian", "13"): ("docker.io", "docker-cli", "docker-compose", "docker-buildx"),
    ("ubuntu", "24.04"): ("docker.io", "docker-compose-v2", "docker-buildx"),
}
_BUILDERS: Final = ("buildah", "netavark", "uidmap")
"""What `ds01 image build` runs, on all of these. What they recommend it does not need: see decision 0011."""


def flavour() -> Flavour:
    """Return the package that brought the engine; "other" for one that no package of these brought."""
    found = installed(_ENGINES)
    for name in _ENGINES:
        if name in found:
            return name
    return "other" if version() else "none"


def version() -> str:
    """Return the version of the installed engine, or "" if there is none."""
    found = _VERSION.search(run(["dockerd", "--version"]).stdout)
    return found.group(1) if found else ""


def installed(names: tuple[str, ...]) -> set[str]:
    """Return those of these packages that are installed."""
    shown = run(["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names])
    return {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}


def missing_builders() -> list[str]:
    """Return what is missing for builds by people themselves, whatever brought the engine."""
    there = installed(_BUILDERS)
    return [name for name in _BUILDERS if name not in there]


def missing(system: tuple[str, str]) -> list[str]:
    """Return the packages to install on this distribution; none beside a docker-ce, which brings its own tools."""
    wanted = _WANTED.get(system, ("docker.io",))
    return [] if flavour() in {"docker-ce", "other"} else [name for name in wanted if name not in installed(wanted)]
