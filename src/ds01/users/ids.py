"""Which numbers new accounts and groups get, within the ranges of login.defs(5)."""

from __future__ import annotations

import grp
import itertools
import pwd
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ..problems import ApplyError
from .accounts import ETC, Accounts

_DEFAULTS: Final = {
    "UID_MIN": 1000,
    "UID_MAX": 60000,
    "GID_MIN": 1000,
    "GID_MAX": 60000,
    "SYS_GID_MIN": 100,
    "SYS_GID_MAX": 999,
    "PASS_MIN_DAYS": 0,
    "PASS_MAX_DAYS": 99999,
    "PASS_WARN_AGE": 7,
}
"""What useradd(8) assumes for a key that login.defs does not set."""


def login_defs(etc: Path = ETC) -> dict[str, int]:
    """Return the numbers of login.defs that matter here; a missing or unreadable key has useradd's default."""
    values = dict(_DEFAULTS)
    try:
        text = (etc / "login.defs").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return values
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] in values:  # noqa: PLR2004 - key and value
            try:
                values[words[0]] = int(words[1], 0)
            except ValueError:
                continue
    return values


class Ids:
    """The numbers in use, of this host's files and of every directory that NSS asks."""

    def __init__(
        self, accounts: Accounts, defs: dict[str, int], reserved: Iterable[int] = (), *, nss: bool = True
    ) -> None:
        """Read the numbers in use.

        Args:
            accounts: The account database.
            defs: The result of `login_defs`.
            reserved: Uids of removed people: their files and archives must never seem to be somebody else's.
            nss: Ask NSS too; a test with account files of its own says no.
        """
        self._defs = defs
        self._nss = nss
        self._uids = {int(fields[2]) for fields in accounts.passwd.entries() if len(fields) > 2 and fields[2].isdigit()}  # noqa: PLR2004
        self._gids = {int(fields[2]) for fields in accounts.group.entries() if len(fields) > 2 and fields[2].isdigit()}  # noqa: PLR2004
        self._uids |= set(reserved)
        self._next = (
            max((uid for uid in self._uids if defs["UID_MIN"] <= uid <= defs["UID_MAX"]), default=defs["UID_MIN"] - 1)
            + 1
        )

    def uid_taken(self, uid: int) -> bool:
        """Say whether an account here or in a directory has this uid."""
        return uid in self._uids or (self._nss and _known(pwd.getpwuid, uid))

    def gid_taken(self, gid: int) -> bool:
        """Say whether a group here or in a directory has this gid."""
        return gid in self._gids or (self._nss and _known(grp.getgrgid, gid))

    def claim_uid(self, uid: int) -> None:
        """Mark a uid as used."""
        self._uids.add(uid)

    def new_uid(self) -> int:
        """Return a free uid: above the highest in use, like useradd, then the lowest gap.

        Raises:
            ApplyError: The range of login.defs is full.
        """
        low, high = self._defs["UID_MIN"], self._defs["UID_MAX"]
        while self._next <= high:
            uid = self._next
            self._next += 1
            if not self.uid_taken(uid):
                self._uids.add(uid)
                return uid
        for uid in range(low, high + 1):
            if not self.uid_taken(uid):
                self._uids.add(uid)
                return uid
        raise ApplyError(
            f"login.defs: UID_MIN {low} to UID_MAX {high}: no free uid: raise UID_MAX; nothing was changed"
        )

    def new_gid(self, wish: int) -> int:
        """Return a free gid for a private group: the wished number if nobody has it.

        Raises:
            ApplyError: The range of login.defs is full.
        """
        low, high = self._defs["GID_MIN"], self._defs["GID_MAX"]
        for gid in itertools.chain([wish], range(high, low - 1, -1)):
            if not self.gid_taken(gid):
                self._gids.add(gid)
                return gid
        raise ApplyError(
            f"login.defs: GID_MIN {low} to GID_MAX {high}: no free gid: raise GID_MAX; nothing was changed"
        )

    def new_system_gid(self) -> int:
        """Return a free gid for a group of the system, from the top of its range like groupadd -r.

        Raises:
            ApplyError: The range of login.defs is full.
        """
        low, high = self._defs["SYS_GID_MIN"], self._defs["SYS_GID_MAX"]
        for gid in range(high, low - 1, -1):
            if not self.gid_taken(gid):
                self._gids.add(gid)
                return gid
        raise ApplyError(f"login.defs: SYS_GID_MIN {low} to SYS_GID_MAX {high}: no free gid; nothing was changed")


def _known(look_up: Callable[[int], object], number: int) -> bool:
    try:
        look_up(number)
    except (KeyError, OverflowError):
        return False
    return True
