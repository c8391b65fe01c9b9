"""What a `.dockerignore` says of one file: the rules of moby's patternmatcher, as far as they can be followed cheaply.

Matched part by part and without regular expressions, so that no list takes long, whatever is in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

_ANY_DEPTH: Final = "**"
_LINES_MAX: Final = 1000
_LINE_MAX: Final = 256
_PARTS_MAX: Final = 32


def hides(listing: bytes, path: str) -> bool:
    """Whether a list of what is ignored has a file on it.

    Args:
        listing: The `.dockerignore`.
        path: The file, in the spelling of `tarball.normal`.

    Returns:
        False also for a list with a line that is not understood here (`[`, a backslash, or `**` beside other letters),
        and for one of more than a thousand lines.
    """
    wanted, lines = path.split("/"), listing.decode("utf-8-sig", "surrogateescape").split("\n")
    if len(wanted) > _PARTS_MAX or len(lines) > _LINES_MAX:
        return False
    hidden = False
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        pattern = line.strip()
        shown = pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        parts = pattern.split("/")
        if not _understood(pattern, parts):
            return False
        # Only what changes the answer is looked at. What hides a directory hides what is in it.
        if shown == hidden and any(_matches(parts, wanted[:end]) for end in range(1, len(wanted) + 1)):
            hidden = not shown
    return hidden


def _understood(pattern: str, parts: Sequence[str]) -> bool:
    if len(pattern) > _LINE_MAX or len(parts) > _PARTS_MAX or "[" in pattern or "\\" in pattern:
        return False
    return all(part == _ANY_DEPTH or _ANY_DEPTH not in part for part in parts)


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a pattern matches all of a path: `**` stands for any number of its parts, at the end for one or more."""
    # Which beginnings of the path the pattern matches so far, by their length.
    reached = {0}
    for number, part in enumerate(parts):
        if part == _ANY_DEPTH:
            first = min(reached) + (number == len(parts) - 1)
            reached = set(range(first, len(wanted) + 1))
        else:
            reached = {end + 1 for end in reached if end < len(wanted) and fnmatchcase(wanted[end], part)}
        if not reached:
            return False
    return len(wanted) in reached
