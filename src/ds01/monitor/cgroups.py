"""What containers and people's slices use, from the kernel's control groups."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ds01.monitor.model import SliceSample
from ds01.slices.names import parse_user_slice

ROOT: Final = Path("/sys/fs/cgroup")
_SCOPE: Final = re.compile(r"docker-([0-9a-f]{64})\.scope")
_LOGINS: Final = "user.slice"


class Group(NamedTuple):
    """One control group, in either version of them."""

    root: Path
    path: str
    """Below the root, or below each controller of version 1."""

    @property
    def cpu_us(self) -> int | None:
        """CPU time so far, in microseconds."""
        for line in self._text("", "cpu.stat").splitlines():
            if line.startswith("usage_usec "):
                return int(line.split()[1])
        nanoseconds = self._number("cpuacct", "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds // 1000

    @property
    def memory(self) -> int | None:
        """Bytes."""
        now = self._number("", "memory.current")
        return self._number("memory", "memory.usage_in_bytes") if now is None else now

    @property
    def needed_memory(self) -> int | None:
        """Bytes without the files that the kernel only keeps since there is room; those are no reason to worry."""
        used = self.memory
        stat = self._text("", "memory.stat") or self._text("memory", "memory.stat")
        kept = {key: value for key, _, value in (line.partition(" ") for line in stat.splitlines())}
        idle = kept.get("total_inactive_file", kept.get("inactive_file", ""))
        return max(0, used - int(idle)) if used is not None and idle.isdecimal() else None

    @property
    def memory_max(self) -> int | None:
        """Bytes it may have; None without a limit."""
        most = self._number("", "memory.max")
        return self._number("memory", "memory.limit_in_bytes") if most is None else most

    @property
    def cpus_max(self) -> float | None:
        """CPUs it may take; None without a limit, and in version 1."""
        quota, _, period = self._text("", "cpu.max").strip().partition(" ")
        return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None

    @property
    def tasks_max(self) -> int | None:
        """Processes and threads it may have; None without a limit."""
        most = self._number("", "pids.max")
        return self._number("pids", "pids.max") if most is None else most

    @property
    def tasks(self) -> int | None:
        """Processes and threads."""
        now = self._number("", "pids.current")
        return self._number("pids", "pids.current") if now is None else now

    @property
    def io_bytes(self) -> int | None:
        """Bytes read from and written to disks so far; None without the controller of version 2."""
        if not (self.root / self.path / "io.stat").exists():
            return None
        parts = (part.partition("=") for line in self._text("", "io.stat").splitlines() for part in line.split()[1:])
        return sum(int(value) for key, _, value in parts if key in {"rbytes", "wbytes"} and value.isdecimal())

    @property
    def net_bytes(self) -> int | None:
        """Bytes that its network interfaces received and sent so far, those of the loopback left out."""
        for pid in (self._text("", "cgroup.procs") or self._text("systemd", "cgroup.procs")).split():
            # Of a process whose first thread has ended only the others say where it is: nobody hides behind that.
            for thread in (pid, *(f"{pid}/task/{other}" for other in _names(Path("/proc", pid, "task")))):
                text = _text(Path("/proc", thread, "net/dev"))
                if rows := [line.partition(":") for line in text.splitlines() if ":" in line]:
                    numbers = [row.split() for name, _, row in rows if name.strip() != "lo"]
                    return sum(int(row[0]) + int(row[8]) for row in numbers)
        return None

    def _number(self, controller: str, name: str) -> int | None:
        text = self._text(controller, name).strip()
        return int(text) if text.isdecimal() else None

    def _text(self, controller: str, name: str) -> str:
        return _text(self.root / controller / self.path / name)


class Groups(NamedTuple):
    """The control groups that matter, at one moment."""

    containers: dict[str, Group]
    """By id of the container."""
    slices: dict[str, Group]
    """By name of the slice."""


def find(root: Path = ROOT) -> Groups:
    """Return where containers and slices are. What is below logins is the people's own naming, and left out."""
    found = Groups({}, {})
    # A host in the older, hybrid form has systemd's own hierarchy beside those of the controllers.
    base = root / "systemd" if (root / "systemd").is_dir() else root
    for path in (base, *_slices(base)):
        below = path.relative_to(base)
        if path != base:
            found.slices[path.name] = Group(root, str(below))
        for name in _names(path):
            if match := _SCOPE.fullmatch(name):
                found.containers[match[1]] = Group(root, str(below / name))
    return found


def read_slices(groups: Groups) -> tuple[SliceSample, ...]:
    """Return what each person's slice uses."""
    owned = ((parse_user_slice(name), group) for name, group in sorted(groups.slices.items()))
    return tuple(
        SliceSample(owner.group, owner.user, group.cpu_us, group.memory, group.tasks) for owner, group in owned if owner
    )


def _slices(root: Path) -> Iterator[Path]:
    for name in _names(root):
        if name.endswith(".slice") and name != _LOGINS:
            yield root / name
            yield from _slices(root / name)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 - names are all that is needed, and there are thousands
    except OSError:
        return []  # It is gone.


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""  # It is gone.
