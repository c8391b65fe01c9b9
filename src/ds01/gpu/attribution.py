"""Whose is a process? From `/proc` alone, and never about another process that got the same number.

Standard library only. The kernel's word counts: the control group says which container or login a process is in, the
login uid who logged in before any sudo. What a process says about itself (name, environment) decides nothing.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from ds01.users.uids import UID_MIN_ALLOWED, UID_RESERVED

# The login uid of what no login started: (uid_t) -1.
_NO_UID: Final = (1 << 32) - 1
_ID: Final = "([0-9a-f]{64})"
# How engines name the control group of a container, under systemd and under cgroupfs.
_CONTAINERS: Final = (
    ("docker", re.compile(rf"/docker-{_ID}\.scope(?:/|$)")),
    ("docker", re.compile(rf"/docker/{_ID}(?:/|$)")),
    ("podman", re.compile(rf"/libpod-{_ID}(?:\.scope)?(?:/|$)")),
    ("containerd", re.compile(rf"/cri-containerd-{_ID}(?:\.scope)?(?:/|$)")),
)
_USER_SLICE: Final = re.compile(r"^/user\.slice/user-([0-9]{1,10})\.slice(?:/|$)")
_UNIT: Final = re.compile(r"/([^/]+\.(?:service|scope))(?=/|$)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a process comes from."""

    kind: Literal["container", "user", "system", "unknown"]
    pid: int
    start_ticks: int | None = None
    """Field 22 of its stat: with the pid, one process for ever. None if it is gone or hidden."""
    container_id: str | None = None
    """64 hex digits, of the engine whose container the process was started in."""
    engine: str = ""
    """docker, podman or containerd, as the name of the control group says."""
    uid: int | None = None
    """The person, for kind user: who logged in, else whose login it runs in, else who it runs as."""
    real_uid: int | None = None
    """Who it runs as."""
    unit: str = ""
    """The systemd unit it runs in, like nvidia-persistenced.service."""
    command: str = ""
    """The kernel's name of it, at most 15 bytes; chosen by the process."""
    reason: str = ""
    """Why it is unknown."""


def attribute(pid: int, start_ticks: int | None = None) -> Origin:
    """Say where a process of this host comes from.

    Args:
        pid: As the host numbers it.
        start_ticks: If given, only the process that started then is meant, not a later one with its number.
    """
    try:
        # The open directory stays that of this process: when it ends, reads fail even if its number is used again.
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return Origin("unknown", pid, reason=_why_hidden(pid))
    try:
        command, started = _stat(directory)
        if start_ticks is not None and started != start_ticks:
            return Origin("unknown", pid, reason="the process has ended, and another has its number")
        known: dict[str, Any] = {"pid": pid, "start_ticks": started, "command": command}
        paths = [line.split(":", 2)[2] for line in _read(directory, "cgroup").splitlines() if line.count(":") > 1]
        known["real_uid"] = real_uid = _real_uid(directory)
        login_uid = _login_uid(directory)
        return _classify(paths, real_uid, login_uid, known)
    except (OSError, ValueError, IndexError):
        return Origin("unknown", pid, reason=_why_hidden(pid))
    finally:
        os.close(directory)


def person(uid: int) -> str:
    """Return the name of a uid, or the number if it has none here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it is gone or hidden."""
    try:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        return _stat(directory)[1]
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(directory)


def _classify(paths: list[str], real_uid: int, login_uid: int | None, known: dict[str, Any]) -> Origin:
    for path in paths:
        # Below their own login people name control groups as they like: nothing there says more than whose login it is.
        if found := _USER_SLICE.match(path):
            uid = int(found[1]) if login_uid is None else login_uid
            return Origin("user", uid=uid, unit=_unit(path), **known)
    for path in paths:
        if container := _container(path):
            return Origin("container", engine=container[0], container_id=container[1], **known)
    unit = next(filter(None, map(_unit, paths)), "")
    if login_uid is not None:
        return Origin("user", uid=login_uid, unit=unit, **known)
    if real_uid >= UID_MIN_ALLOWED and real_uid not in UID_RESERVED:
        return Origin("user", uid=real_uid, unit=unit, **known)
    return Origin("system", unit=unit, **known)


def _container(path: str) -> tuple[str, str] | None:
    """Return engine and id of the outermost container of a path: one inside another is the outer one's business."""
    found = [(match.start(), engine, match[1]) for engine, form in _CONTAINERS if (match := form.search(path))]
    return min(found)[1:] if found else None


def _unit(path: str) -> str:
    found = _UNIT.findall(path)
    return found[-1] if found else ""


def _stat(directory: int) -> tuple[str, int]:
    """Return name and start of a process. The name stands in brackets and may hold brackets and blanks."""
    head, _, tail = _read(directory, "stat").rpartition(")")
    # The fields after the name begin with the third; the start is the 22nd (proc_pid_stat(5)).
    return head.partition("(")[2], int(tail.split()[22 - 3])


def _real_uid(directory: int) -> int:
    for line in _read(directory, "status").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    raise ValueError("status without Uid")


def _login_uid(directory: int) -> int | None:
    try:
        uid = int(_read(directory, "loginuid"))
    except (FileNotFoundError, ValueError):
        return None  # A kernel without auditing.
    return None if uid == _NO_UID else uid


def _read(directory: int, name: str) -> str:
    file = os.open(name, os.O_RDONLY, dir_fd=directory)
    with os.fdopen(file, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _why_hidden(pid: int) -> str:
    if pid <= 0:
        return "not a number of this host's processes"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return "the process has ended"
    except OverflowError:
        return "no process has such a number"
    except PermissionError:
        pass
    return "the process is there, but this account may not look at it: ask as root"
