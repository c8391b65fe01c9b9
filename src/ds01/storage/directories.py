"""The shared directories: owner, group, mode and access control list of the top; what is inside is people's own."""

from __future__ import annotations

import base64
import errno
import grp
import json
import os
import pwd
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..files import atomic_write, ensure_directory, remove_file
from ..problems import Problem
from ..users.identity import DIRECTORY_FLAGS
from ..users.model import Change
from . import acl

STATE: Final = Path("/var/lib/ds01/storage.json")
"""What the directories were before us, so that they can be given back."""
_SETGID: Final = 0o2000
_SYSTEM_TREES: Final = frozenset(
    {"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/srv"}
    | {"/sys", "/usr", "/var"},
)


@dataclass(frozen=True, slots=True)
class Directory:
    """One shared directory, as the policy wants it."""

    path: str
    owner: str = "root"
    group: str = "root"
    mode: int = 0o755
    acl: tuple[str, ...] = ()


@dataclass(slots=True)
class _Wanted:
    directory: Directory
    uid: int
    gid: int
    access: bytes | None
    default: bytes | None
    mode: int
    """With the mask in place of the group's bits where there is an access control list, as the kernel shows it."""


@dataclass(slots=True)
class DirectoryPlan:
    """What differs."""

    wanted: list[_Wanted] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def plan(directories: Sequence[Directory], coming_groups: Mapping[str, int]) -> DirectoryPlan:
    """Compare the directories with the policy.

    Args:
        directories: What the policy wants.
        coming_groups: Name -> gid of groups that this run makes.
    """
    result = DirectoryPlan()
    for directory in directories:
        wanted = _resolve(directory, coming_groups, result.problems)
        if wanted is None:
            continue
        try:
            differences = _differences(wanted)
        except OSError as error:
            expected = "a directory, no link, on a file system with access control lists"
            fix = f"{error.strerror}: move it away, or correct the policy"
            result.problems.append(Problem("storage.directories", directory.path, expected, fix))
            continue
        if differences:
            result.wanted.append(wanted)
            result.changes += differences
    return result


def apply(wanted: Sequence[_Wanted]) -> None:
    """Make the directories so. What they were before is written down first.

    Raises:
        OSError: A directory could not be made or changed.
    """
    before = _remembered()
    for item in wanted:
        before.setdefault(item.directory.path, _snapshot(item.directory.path))
    ensure_directory(STATE.parent, mode=0o755)
    atomic_write(STATE, json.dumps(before, indent=1) + "\n", mode=0o600)
    for item in wanted:
        path = Path(item.directory.path)
        if not os.path.lexists(path):
            _make(path)
        _set(path, (item.uid, item.gid), item.mode, access=item.access, default=item.default)


def undo(*, check: bool) -> list[Change]:
    """Give every directory back as it was; those that we made and that are empty go, no data ever does.

    Raises:
        OSError: A directory could not be changed.
    """
    changes: list[Change] = []
    for path, before in _remembered().items():
        if not os.path.lexists(path):
            continue
        if before is None and not any(Path(path).iterdir()):
            changes.append(Change("", path, "directory", "absent"))
            if not check:
                Path(path).rmdir()
            continue
        # A directory of ours that holds data stays as it is, without the lists: nobody's right grows.
        old = before or _without_lists(path)
        changes.append(Change("", path, "rights of the policy", "rights from before"))
        if not check:
            access, default = (base64.b64decode(old[key]) if old[key] else None for key in ("access", "default"))
            _set(Path(path), (old["uid"], old["gid"]), old["mode"], access=access, default=default)
    if not check:
        remove_file(STATE)
    return changes


def _resolve(directory: Directory, coming: Mapping[str, int], problems: list[Problem]) -> _Wanted | None:
    where = f"storage.directories.{directory.path}"
    if directory.path in _SYSTEM_TREES or not directory.path.startswith("/"):
        problems.append(
            Problem(where, directory.path, "a directory of its own", "choose a path that the system does not use")
        )
        return None
    entries = [entry.split(":")[:2] for entry in directory.acl]
    users = _ids([directory.owner, *(name for kind, name in entries if kind[:1] == "u")], _uid, {}, where, problems)
    groups = _ids(
        [directory.group, *(name for kind, name in entries if kind[:1] == "g")], _gid, coming, where, problems
    )
    if users is None or groups is None:
        return None
    rights = acl.parse(directory.acl, directory.mode, users, groups)
    listed = bool(directory.acl)
    mode = directory.mode & ~0o070 | rights.mask << 3 if listed else directory.mode
    # With setgid alone new files would have the right group and, under umask 022, nothing that it may write.
    default = rights.pack() if listed or directory.mode & _SETGID else None
    access = rights.pack() if listed else None
    return _Wanted(directory, users[directory.owner], groups[directory.group], access, default, mode)


def _ids(
    names: Sequence[str], find: Callable[[str], int], coming: Mapping[str, int], where: str, problems: list[Problem]
) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for name in names:
        try:
            found[name] = coming[name] if name in coming else find(name)
        except KeyError:
            problems.append(Problem(where, name, "a user or group of this host", "create it, or correct the name"))
    return found if len(found) == len(set(names)) else None


def _uid(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _gid(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _differences(wanted: _Wanted) -> list[Change]:
    path = wanted.directory.path
    found = _snapshot(path)
    if found is None:
        text = " ".join(
            [
                f"{wanted.directory.mode:04o}",
                f"{wanted.directory.owner}:{wanted.directory.group}",
                *wanted.directory.acl,
            ]
        )
        return [Change("", path, "absent", text)]
    changes: list[Change] = []
    for what, before, after in (
        ("owner", found["uid"], wanted.uid),
        ("group", found["gid"], wanted.gid),
        ("mode", f"{found['mode']:04o}", f"{wanted.mode:04o}"),
    ):
        if before != after:
            changes.append(Change("", f"{path} {what}", str(before), str(after)))
    for what, value in (("access", wanted.access), ("default", wanted.default)):
        before = base64.b64decode(found[what]) if found[what] else None
        if before != value:
            text = " ".join(wanted.directory.acl) or "as the mode"
            changes.append(
                Change("", f"{path} {what} list", "none" if before is None else "another", text if value else "none")
            )
    return changes


def _snapshot(path: str) -> dict[str, Any] | None:
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        result: dict[str, Any] = {"uid": status.st_uid, "gid": status.st_gid, "mode": stat.S_IMODE(status.st_mode)}
        for key, name in (("access", acl.ACCESS), ("default", acl.DEFAULT)):
            value = None
            try:
                value = acl.read(descriptor, name)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
            result[key] = None if value is None else base64.b64encode(value).decode()
    finally:
        os.close(descriptor)
    return result


def _without_lists(path: str) -> dict[str, Any]:
    found = _snapshot(path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if found["access"]:
        found["mode"] = found["mode"] & ~0o070 | acl.group_of(base64.b64decode(found["access"])) << 3
    return found | {"access": None, "default": None}


def _set(path: Path, owner: tuple[int, int], mode: int, *, access: bytes | None, default: bytes | None) -> None:
    descriptor = _open(str(path))
    try:
        # Closed to all but root while it changes hands, so that no step in between gives anybody too much.
        os.fchmod(descriptor, 0o700)
        os.fchown(descriptor, *owner)
        acl.write(descriptor, acl.DEFAULT, default)
        acl.write(descriptor, acl.ACCESS, access)
        # Last: changing owner or list may take the setgid bit away.
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    """Open a directory that may lie in one where people write: on the way only links that root laid are followed.

    Raises:
        OSError: Something on the way is missing, no directory, or a link of somebody else's; the last must be no link.
    """
    here = os.open("/", DIRECTORY_FLAGS)
    parts = Path(path).parts[1:]
    for number, name in enumerate(parts, start=1):
        above = here
        try:
            here = os.open(name, _flags(name, above, last=number == len(parts)), dir_fd=above)
        finally:
            os.close(above)
    return here


def _flags(name: str, above: int, *, last: bool) -> int:
    owned = os.fstat(above)
    found = os.lstat(name, dir_fd=above)
    roots = found.st_uid == 0 and owned.st_uid == 0 and not owned.st_mode & 0o022
    follow = stat.S_ISLNK(found.st_mode) and roots and not last
    return DIRECTORY_FLAGS & ~os.O_NOFOLLOW if follow else DIRECTORY_FLAGS


def _make(path: Path) -> None:
    """Make a directory, closed to all but root, and what is missing above it, open to all."""
    if not os.path.lexists(path.parent):
        _make(path.parent)
        descriptor = _open(str(path.parent))
        os.fchmod(descriptor, 0o755)
        os.close(descriptor)
    above = _open(str(path.parent))
    try:
        os.mkdir(path.name, 0o700, dir_fd=above)
    finally:
        os.close(above)


def _remembered() -> dict[str, Any]:
    try:
        return dict(json.loads(STATE.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
