"""Disk quotas by directory tree (project quotas) on ext4 and xfs.

The project of a home is the owner's uid, that of a scratch directory the uid plus 2^31: both can lie on one file
system, no table is needed to keep them apart, and a number on a disk names its owner.

What they do not do: the kernel lets owners of files change their project. They stop accidents and habits; a person
who sets out to evade them is found by comparing projects with owners.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ..mountinfo import mounts, topmost
from .identity import UnsafeError, open_owned_directory

SCRATCH_OFFSET: Final = 2**31
_GETXATTR: Final = 0x801C581F
"""FS_IOC_FSGETXATTR of linux/fs.h."""
_SETXATTR: Final = 0x401C5820
"""FS_IOC_FSSETXATTR of linux/fs.h."""
_LAYOUT: Final = struct.Struct("=IIIII8s")
"""struct fsxattr: xflags, extsize, nextents, projid, cowextsize, padding."""
_PROJINHERIT: Final = 0x200
"""FS_XFLAG_PROJINHERIT: what is made below gets the same project."""
BLOCK: Final = 1024
"""Bytes of one block in setquota(8) and repquota(8)."""


_LIMITS: Final = ("BlockSoft", "BlockHard", "FileSoft", "FileHard")


class Limit(NamedTuple):
    """The limits of one project as setquota(8) takes them, in blocks and files; 0 = none."""

    block_soft: int = 0
    block_hard: int = 0
    file_soft: int = 0
    file_hard: int = 0


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the file system of a directory enforces project quotas."""

    mount: str
    kind: str
    reason: str = ""
    """Why not; empty where they are enforced."""
    fix: str = ""

    @property
    def supported(self) -> bool:
        """Whether limits are enforced now."""
        return not self.reason


def support(path: str) -> Support:
    """Find out whether project quotas are enforced at a directory, or at the nearest one above it that exists."""
    mount, kind = file_system_of(path)
    if kind not in {"ext4", "xfs"}:
        return Support(mount, kind, f"{kind} has no project quotas", "use ext4 or xfs for it")
    if shutil.which("setquota") is None:
        return Support(mount, kind, "the quota tools are missing", "apt-get install quota")
    # The mount options do not tell: ext4 also enforces limits that were switched on later.
    shown = subprocess.run(
        ["quotaon", "-P", "-p", mount], capture_output=True, text=True, check=False, env=_environment()
    )
    if re.search(r"^project quota on .* is on(?! \(accounting\))", shown.stdout, re.MULTILINE):
        return Support(mount, kind)
    how = "tune2fs -O project,quota while it is not mounted, then " if kind == "ext4" else ""
    fix = f"{how}add prjquota to the options of {mount} in /etc/fstab and reboot"
    return Support(mount, kind, f"project quotas are off on {mount}", fix)


def can_switch_on(mount: str) -> bool:
    """Say whether an ext4 file system counts by project already, and only lacks somebody who switches the limits on.

    Where the mount option prjquota does it, nobody else has to.
    """
    if shutil.which("quotaon") is None:
        return False
    found = topmost().get(mount)
    if found is None or "prjquota" in found.options:
        return False
    shown = subprocess.run(
        ["dumpe2fs", "-h", found.source], capture_output=True, text=True, check=False, env=_environment()
    )
    features = next((line for line in shown.stdout.splitlines() if line.startswith("Filesystem features:")), "")
    return {"project", "quota"} <= set(features.split())


def file_system_of(path: str) -> tuple[str, str]:
    """Return mount point and type of the file system that holds a path or will hold it.

    Of several mounts of one file system the whole one counts: the quota tools know nothing of a bind of a part.
    """
    where = Path(path).resolve()
    while not os.path.lexists(where):
        where = where.parent
    device = where.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    parts = [mount for mount in mounts() if mount.device == number]
    best = next((mount for mount in parts if mount.root == "/"), parts[0] if parts else None)
    return (best.place, best.kind) if best else ("/", "unknown")


def project_of(uid: int, kind: str) -> int:
    """Return the project id of a person's `home` or `scratch`."""
    return uid + (SCRATCH_OFFSET if kind == "scratch" else 0)


def limits(mount: str) -> dict[int, Limit]:
    """Return the limits of every project of a file system.

    Raises:
        OSError: The quotas could not be read.
    """
    command = ["repquota", "-P", "-n", "-v", "-O", "csv", mount]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(), stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise OSError(f"{mount}: quotas cannot be read: {done.stderr.strip()}")
    found: dict[int, Limit] = {}
    for row in csv.DictReader(io.StringIO(done.stdout)):
        number = (row.get("Project") or "").lstrip("#")
        if number.isdigit():
            found[int(number)] = Limit(*(int(row.get(f"{name}Limit") or 0) for name in _LIMITS))
    return found


def set_limits(mount: str, wanted: Mapping[int, Limit]) -> None:
    """Set the limits of several projects in one call.

    Raises:
        OSError: setquota refused.
    """
    lines = [f"{project} {' '.join(map(str, limit))}" for project, limit in wanted.items()]
    command = ["setquota", "-P", "-b", mount]
    done = subprocess.run(
        command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode != 0:
        raise OSError(f"{mount}: quotas cannot be set: {done.stderr.strip()}")


def project(path: str, uid: int) -> int | None:
    """Return the project that new files in a person's directory get; None where that cannot be known."""
    try:
        descriptor = open_owned_directory(path, uid)
    except (UnsafeError, OSError):
        return None
    try:
        flags, number = _get(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return number if flags & _PROJINHERIT else 0


def assign(path: str, uid: int, number: int) -> None:
    """Put a person's directory and all that is in it into a project. Links, other file systems and devices are left.

    Raises:
        OSError: The file system refused.
        UnsafeError: The directory is not the person's.
    """
    top = open_owned_directory(path, uid)
    try:
        device = os.fstat(top).st_dev
        for place, directories, files, here in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            if os.fstat(here).st_dev != device:
                directories.clear()
                continue
            if place != ".":
                _put(here, number)
            for name in files:
                _assign_file(name, here, number)
        # Last, since the next run looks at it alone: an interrupted one is taken up again.
        _put(top, number)
        # What was made here meanwhile.
        with os.scandir(top) as entries:
            for entry in entries:
                _assign_file(entry.name, top, number)
    finally:
        os.close(top)


def _assign_file(name: str, directory: int, number: int) -> None:
    try:
        # Opening a pipe or a device could block or act: O_NONBLOCK and the look first keep to regular files.
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        # Gone, or something else by now: its owner may change it at any moment.
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            return
        raise
    try:
        _put(descriptor, number)
    finally:
        os.close(descriptor)


def _get(descriptor: int) -> tuple[int, int]:
    data = bytearray(_LAYOUT.size)
    fcntl.ioctl(descriptor, _GETXATTR, data)
    fields = _LAYOUT.unpack(data)
    return fields[0], fields[3]


def _put(descriptor: int, number: int) -> None:
    data = bytearray(_LAYOUT.size)
    fcntl.ioctl(descriptor, _GETXATTR, data)
    fields = list(_LAYOUT.unpack(data))
    is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    flags = fields[0] | _PROJINHERIT if is_directory else fields[0]
    if (flags, number) != (fields[0], fields[3]):
        fields[0], fields[3] = flags, number
        fcntl.ioctl(descriptor, _SETXATTR, _LAYOUT.pack(*fields))


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
