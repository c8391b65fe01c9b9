"""What a process has open, by a descriptor of any of its threads or in its memory.

Each thread may have a table of descriptors of its own, and of a process whose first thread has ended the first one has
none. What was mapped stays open in the memory when its descriptor is closed.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_DEVICES: Final = Path("/dev")
_NODE: Final = re.compile(f"{_DEVICES}/nvidia[0-9]{{1,3}}")
_MAPPED: Final = re.compile(f" ({_NODE.pattern})$".encode(), re.MULTILINE)
_KCMP: Final = {"x86_64": 312, "aarch64": 272}.get(platform.machine())
"""The number of kcmp(2), which the C library does not wrap, in the tables of system calls of the kernel."""
_KCMP_FILES: Final = 2
"""linux/kcmp.h: compare the tables of descriptors."""
_TABLES_MAX: Final = 64
_DESCRIPTORS_MAX: Final = 100_000
"""So many more tables, and descriptors in them, of one process are looked at: some seconds' worth. No program has as
many; whoever makes them hides something."""
_LIBC: Final = ctypes.CDLL(None)


def gpu_nodes(pid: int) -> set[str]:
    """Return the device nodes of GPUs that a process has open; none of one that has ended, or may not be looked at.

    Of a process that has too much open to be looked at these are all there are.
    """
    found: set[str] = set()
    descriptors = 0
    for number, (files, names) in enumerate(_tables(pid)):
        # One table is as large as a program needs it.
        descriptors += len(names) if number else 0
        if number > _TABLES_MAX or descriptors > _DESCRIPTORS_MAX:
            return {str(node) for node in _DEVICES.iterdir() if _NODE.fullmatch(str(node))}
        for name in names:
            with suppress(OSError):  # It was closed meanwhile.
                found.add(os.readlink(f"{files}/{name}"))  # noqa: PTH115 - there may be thousands
    return {path for path in found if _NODE.fullmatch(path)} | _mapped(pid)


def minor(node: str) -> int:
    """Return the minor number of a GPU by its device node."""
    return int(node.removeprefix(f"{_DEVICES}/nvidia"))


def _tables(pid: int) -> Iterator[tuple[str, list[str]]]:
    """Yield each table of descriptors that has any, as a directory and what is in it."""
    seen: list[int] = []
    for thread in map(int, _listed(f"/proc/{pid}/task")):
        if any(_share(thread, other) for other in seen):
            continue
        files = f"/proc/{pid}/task/{thread}/fd"
        # A thread that has just ended has none. Nor is an empty table compared with others: there may be thousands.
        if names := _listed(files):
            seen.append(thread)
            yield files, names


def _listed(directory: str) -> list[str]:
    """Return what is in a directory of /proc; nothing where whose it is has ended, or may not be looked at."""
    try:
        return os.listdir(directory)  # noqa: PTH208 - there may be thousands
    except OSError:
        return []


def _share(one: int, other: int) -> bool:
    """Whether two threads are known to have the same descriptors."""
    return _KCMP is not None and _LIBC.syscall(_KCMP, one, other, _KCMP_FILES, 0, 0) == 0


def _mapped(pid: int) -> set[str]:
    """Return what is in the memory of a process, which all of its threads share; the first of them may have ended."""
    for thread in _listed(f"/proc/{pid}/task"):
        with suppress(OSError):
            if memory := Path(f"/proc/{pid}/task/{thread}/maps").read_bytes():
                return {found.decode() for found in _MAPPED.findall(memory)}
    return set()
