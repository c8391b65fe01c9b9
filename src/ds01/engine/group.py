"""The group `docker`: whoever is in it is root, so it is empty."""

from __future__ import annotations

import grp
from pathlib import Path
from typing import Final

from ..problems import Problem
from .command import run
from .errors import EngineError

GROUP: Final = "docker"


def members() -> list[str]:
    """Return the members of the group that this host itself keeps; [] if there is no such group.

    Members that a directory service adds are not among them: nothing here could remove those.
    """
    for line in Path("/etc/group").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        name, *rest = line.split(":")
        if name == GROUP and len(rest) == 3:  # noqa: PLR2004 - password, gid, members
            return sorted(filter(None, rest[2].split(",")))
    return []


def foreign_members() -> list[str]:
    """Return the members that come from a directory service."""
    try:
        everyone = grp.getgrnam(GROUP).gr_mem
    except KeyError:
        return []
    return sorted(set(everyone) - set(members()))


def set_members(names: list[str]) -> None:
    """Make exactly these people the members that this host keeps.

    Raises:
        EngineError: The group file could not be changed.
    """
    done = run(["gpasswd", "--members", ",".join(names), GROUP])
    if not done.ok:
        fix = "look whether /etc/group or /etc/gshadow is locked or full, then run again"
        raise EngineError([Problem(f"group {GROUP}", done.complaint, "members changed", fix)])
