"""The CPU time of a process and all that it started: whether it did anything at all since the last look."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TREE_MAX: Final = 4096
"""Processes of one tree that are looked at; a larger one is not known."""
# Fields of proc_pid_stat(5), counted from the third: user and system time, its own and that of children that ended.
_TIMES: Final = slice(14 - 3, 18 - 3)


def tree_ticks(pid: int) -> int | None:
    """Return the clock ticks of a process, its threads and its descendants so far; None if it cannot be said."""
    total, waiting, seen = 0, [pid], set[int]()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if len(seen) > _TREE_MAX:
            return None
        try:
            text = Path(f"/proc/{current}/stat").read_text(encoding="utf-8", errors="replace")
            total += sum(int(value) for value in text.rpartition(")")[2].split()[_TIMES])
            waiting += [
                int(child)
                for children in Path(f"/proc/{current}/task").glob("*/children")
                for child in children.read_text(encoding="ascii").split()
            ]
        except (OSError, ValueError):
            if current == pid:
                return None
            # A child that ended is in its parent's time from now on, which is a change as well.
    return total
