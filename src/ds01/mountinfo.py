"""What is mounted where, as the kernel tells this process (proc_pid_mountinfo(5)).

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

MOUNTINFO: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount."""

    number: str
    parent: str
    device: str
    """major:minor of the file system."""
    root: str
    """The directory of the file system that is mounted."""
    place: str
    flags: frozenset[str]
    """Of this mount, as nosuid."""
    kind: str
    source: str
    options: frozenset[str]
    """Of the file system, as prjquota."""


def mounts() -> list[Mount]:
    """Return all mounts; at one place the topmost is the last."""
    with MOUNTINFO.open(encoding="utf-8", errors="surrogateescape") as lines:
        return [_parse(line) for line in lines]


def topmost() -> dict[str, Mount]:
    """Return the topmost mount at every mount point."""
    return {mount.place: mount for mount in mounts()}


def _parse(line: str) -> Mount:
    # Between the flags and the dash are as many fields as there is to say of propagation.
    left, _, right = line.partition(" - ")
    number, parent, device, root, place, flags = left.split(" ")[:6]
    kind, source, options = right.rstrip("\n").split(" ")[:3]
    return Mount(
        number,
        parent,
        device,
        _plain(root),
        _plain(place),
        frozenset(flags.split(",")),
        kind,
        _plain(source),
        frozenset(options.split(",")),
    )


def _plain(field: str) -> str:
    """Return a name; the kernel writes space, tab, newline, backslash and # as octal numbers."""
    return _OCTAL.sub(lambda number: chr(int(number[1], 8)), field)
