"""POSIX access control lists as the kernel keeps them: an extended attribute, no tool needed to read or write it."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"
_VERSION: Final = 2
"""POSIX_ACL_XATTR_VERSION of linux/posix_acl_xattr.h."""
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID: Final = 0xFFFFFFFF
_BITS: Final = {"r": 4, "w": 2, "x": 1, "X": 1, "-": 0}


@dataclass(frozen=True, slots=True)
class Acl:
    """The rights of one directory. Permissions are 0 to 7, keys of the maps are uids and gids."""

    owner: int
    group: int
    other: int
    users: tuple[tuple[int, int], ...] = ()
    groups: tuple[tuple[int, int], ...] = ()

    @property
    def mask(self) -> int:
        """The most that the group and named entries may have: all that they are given."""
        mask = self.group
        for _, permissions in (*self.users, *self.groups):
            mask |= permissions
        return mask

    def pack(self) -> bytes:
        """Return the attribute's value."""
        entries = [(_USER_OBJ, self.owner, _NO_ID)]
        entries += [(_USER, permissions, number) for number, permissions in sorted(self.users)]
        entries += [(_GROUP_OBJ, self.group, _NO_ID)]
        entries += [(_GROUP, permissions, number) for number, permissions in sorted(self.groups)]
        if self.users or self.groups:
            entries += [(_MASK, self.mask, _NO_ID)]
        entries += [(_OTHER, self.other, _NO_ID)]
        return _HEAD.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def parse(entries: Iterable[str], mode: int, users: Mapping[str, int], groups: Mapping[str, int]) -> Acl:
    """Make a list of rights from a mode and entries like `group:ds01-users:rwx`.

    Args:
        entries: The named entries.
        mode: Permission bits for owner, group and others.
        users: Name -> uid of every user the entries name.
        groups: Name -> gid of every group the entries name.

    Raises:
        KeyError: A name is in neither map.
        ValueError: An entry is malformed.
    """
    named: dict[str, dict[int, int]] = {"u": {}, "g": {}}
    for entry in entries:
        kind, name, letters = entry.rsplit(":", 2) if entry.count(":") == 2 else ("", "", "")  # noqa: PLR2004
        if kind[:1] not in named or not name or len(letters) != 3 or not set(letters) <= set(_BITS):  # noqa: PLR2004
            raise ValueError(f"{entry}: an entry like group:ds01-users:rwx")
        ids = users if kind[:1] == "u" else groups
        named[kind[:1]][ids[name]] = sum(_BITS[letter] for letter in letters)
    return Acl(mode >> 6 & 7, mode >> 3 & 7, mode & 7, tuple(named["u"].items()), tuple(named["g"].items()))


def group_of(value: bytes) -> int:
    """Return what the owning group may do, which the mode does not show where there is a list: there is the mask."""
    entries = (_ENTRY.unpack_from(value, at) for at in range(_HEAD.size, len(value), _ENTRY.size))
    return next((permissions for tag, permissions, _ in entries if tag == _GROUP_OBJ), 0)


def read(descriptor: int, name: str) -> bytes | None:
    """Return the attribute, or None where there is none.

    Raises:
        OSError: The file system cannot keep access control lists.
    """
    try:
        return os.getxattr(descriptor, name)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise


def write(descriptor: int, name: str, value: bytes | None) -> None:
    """Set the attribute, or remove it for None.

    Raises:
        OSError: The file system cannot keep access control lists.
    """
    if value is not None:
        os.setxattr(descriptor, name, value)
        return
    with contextlib.suppress(OSError):
        os.removexattr(descriptor, name)
