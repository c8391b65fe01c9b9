"""Names of slices: escaped as systemd does it, so that no two people ever share one."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import Final, NamedTuple

ROOT_SLICE: Final = "ds01.slice"
UNMANAGED_GROUP: Final = "unmanaged"
UNMANAGED_SLICE: Final = "ds01-unmanaged.slice"
LOGIN_ROOT_SLICE: Final = "user.slice"

SLICE_NAME_MAX: Final = 253
"""Bytes: 255 is the most for a file name (NAME_MAX) and for a unit name; the directory of its drop-ins adds `.d`."""

_GROUP: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_PLAIN: Final = frozenset(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:_.")
_ESCAPED: Final = re.compile(rb"\\x([0-9a-f]{2})")
_USER_SLICE: Final = re.compile(r"ds01-([a-z][a-z0-9_]{0,30})-([^-/]+)\.slice")
_GROUP_SLICE: Final = re.compile(r"ds01-([a-z][a-z0-9_]{0,30})\.slice")
_LOGIN_SLICE: Final = re.compile(r"user-(0|[1-9][0-9]*)\.slice")


class SliceNameError(ValueError):
    """A group or user that no slice can be named after. The text is `name: what was expected: fix`."""


class UserSlice(NamedTuple):
    """Whose slice it is."""

    group: str
    user: str


def escape(text: str) -> str:
    """Return `text` as `systemd-escape` prints it."""
    raw = os.fsencode(text)
    parts = []
    for position, byte in enumerate(raw):
        if byte == ord("/"):
            parts.append("-")
        elif byte in _PLAIN and not (position == 0 and byte == ord(".")):
            parts.append(chr(byte))
        else:
            parts.append(f"\\x{byte:02x}")
    return "".join(parts)


def unescape(text: str) -> str:
    """Return what `escape` was given. Raises ValueError for text that it never returns."""
    raw = os.fsencode(text).replace(b"-", b"/")
    result = os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw))
    if escape(result) != text:
        raise ValueError(f"{text}: expected a name as systemd-escape prints it")
    return result


def group_slice(group: str) -> str:
    """Return the slice of a group. Raises SliceNameError."""
    return f"ds01-{_checked_group(group)}.slice"


def user_slice(group: str, user: str) -> str:
    """Return the slice of a person in a group: the cgroup parent of their containers. Raises SliceNameError."""
    if not user or user in {".", ".."} or set(user) & {"/", ":", "\0", "\n"}:
        raise SliceNameError(
            f"{user!r}: expected a login name, without / : and line ends: use the name `id -un` prints"
        )
    name = f"ds01-{_checked_group(group)}-{escape(user)}.slice"
    if len(name) > SLICE_NAME_MAX:
        raise SliceNameError(
            f"{user}: expected a name of at most {SLICE_NAME_MAX} bytes once escaped for systemd, got {len(name)}: "
            "give this person a shorter login name"
        )
    return name


def user_slice_prefix(group: str) -> str:
    """Return the name whose `.d` directory holds drop-ins for the slices of everybody in a group."""
    return f"ds01-{_checked_group(group)}-.slice"


def login_slice(uid: int) -> str:
    """Return the slice in which systemd-logind runs the logins of a user."""
    return f"user-{uid}.slice"


def parse_user_slice(name: str) -> UserSlice | None:
    """Return whose slice this is, None if it is not one that a person can have from us."""
    match = _USER_SLICE.fullmatch(name)
    if match is None:
        return None
    try:
        owner = UserSlice(match[1], unescape(match[2]))
        return owner if user_slice(*owner) == name else None
    except ValueError:
        return None


def parse_group_slice(name: str) -> str | None:
    """Return the group whose slice this is, else None."""
    match = _GROUP_SLICE.fullmatch(name)
    return None if match is None or name == UNMANAGED_SLICE else match[1]


def parse_login_slice(name: str) -> int | None:
    """Return the uid whose login slice this is, else None."""
    match = _LOGIN_SLICE.fullmatch(name)
    return None if match is None else int(match[1])


def cgroup_path(name: str) -> PurePosixPath:
    """Return where systemd puts a slice below the root of a cgroup hierarchy: each `-` is one level."""
    parts = name.removesuffix(".slice").split("-")
    return PurePosixPath(*("-".join(parts[: depth + 1]) + ".slice" for depth in range(len(parts))))


def _checked_group(group: str) -> str:
    if not _GROUP.fullmatch(group) or group in {UNMANAGED_GROUP, "system", "user"}:
        raise SliceNameError(
            f"{group!r}: expected a group name: a lower-case letter, then up to 30 of a-z, 0-9 and _, "
            "and not unmanaged, system or user: rename the group"
        )
    return group
