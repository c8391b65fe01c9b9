"""Who leaves, and the steps that change the host: disable, remove directories, remove the account."""

from __future__ import annotations

import datetime as dt
import grp
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import events
from ..problems import ApplyError, Problem
from . import keys
from .accounts import Accounts, locked
from .identity import UnsafeError, open_owned_directory
from .model import USERS_GROUP
from .register import Leaver

NOLOGIN: Final = "/usr/sbin/nologin"
KEYWORDS: Final = ("expired", "unlisted")
SPOOLS: Final = ("/var/spool/cron/crontabs", "/var/mail")
"""Where a login has a file of its own besides home and scratch."""
EXPIRED: Final = "1"
"""Days since the epoch in the expiry field. Not 0, which some tools take for "never"."""
_UID_MIN: Final = 1000
_SYSTEM_UIDS: Final = frozenset({65534, 65535})
_REMOVING: Final = ".ds01-removing-"


@dataclass(frozen=True, slots=True)
class Choice:
    """What decides who leaves."""

    accounts: Accounts
    listed: Mapping[str, dt.date | None]
    """login -> expiry of everybody in the list."""
    records: Mapping[str, Leaver]
    admin_groups: tuple[str, ...]
    admin_users: tuple[str, ...]
    scratch_base: str | None
    today: dt.date

    def choose(self, departed: str | Sequence[str]) -> tuple[list[Leaver], list[Problem]]:
        """Return who leaves now, those on their way included, and why somebody may not."""
        if departed == "expired":
            names = [name for name, until in self.listed.items() if until is not None and until <= self.today]
            names += self._expired_accounts()
        elif departed == "unlisted":
            names = [name for name in self.accounts.members(USERS_GROUP) if name not in self.listed]
        else:
            names = list(departed)
        if departed in KEYWORDS:
            # Those who began to leave stay on their way, whichever list brought them there.
            on_their_way = (
                name for name, leaver in self.records.items() if leaver.stage in {"begun", "disabled", "archived"}
            )
            names += [name for name in on_their_way if not self._stays(name)]
        leavers: list[Leaver] = []
        problems: list[Problem] = []
        for name in dict.fromkeys(names):
            found = self._leaver(name)
            if isinstance(found, Leaver):
                leavers.append(found)
            elif found is not None:
                problems.append(found)
        return leavers, problems

    def _stays(self, name: str) -> bool:
        return name in self.listed and ((until := self.listed[name]) is None or until > self.today)

    def _expired_accounts(self) -> list[str]:
        today = (self.today - dt.date(1970, 1, 1)).days
        result: list[str] = []
        for name in self.accounts.members(USERS_GROUP):
            shadow = self.accounts.shadow.get(name)
            if shadow is not None and shadow[7].isdigit() and int(shadow[7]) <= today and not self._stays(name):
                result.append(name)
        return result

    def _leaver(self, name: str) -> Leaver | Problem | None:
        where = f"departed.{name}"
        if self._stays(name):
            return Problem(
                where, name, "somebody who is in no list", "take the person out of the people file, or set expires"
            )
        record = self.records.get(name)
        if record is not None and record.stage in {"begun", "disabled", "archived"}:
            return self._refused(where, record) or record
        fields = self.accounts.passwd.get(name)
        if fields is not None:
            scratch = None if self.scratch_base is None else f"{self.scratch_base}/{name}"
            leaver = Leaver(name, int(fields[2]), int(fields[3]), fields[5], scratch, fields[6], local=True)
        else:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                if record is not None and record.stage == "removed":
                    return None
                return Problem(where, name, "a person of this host", "correct the login")
            scratch = None if self.scratch_base is None else f"{self.scratch_base}/{entry.pw_name}"
            leaver = Leaver(
                entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, scratch, entry.pw_shell, local=False
            )
        if record is not None:
            leaver.former_uids = record.former_uids + [record.uid] * (record.stage == "removed")
        return self._refused(where, leaver) or leaver

    def _refused(self, where: str, leaver: Leaver) -> Problem | None:
        if leaver.uid < _UID_MIN or leaver.uid in _SYSTEM_UIDS:
            return Problem(where, f"uid {leaver.uid}", "a person, not a system account", "correct the login")
        admin_of = self._admin_groups_of(leaver)
        if leaver.login in self.admin_users or admin_of:
            fix = "take the administrator's rights away first (policy admins, group membership), then run again"
            value = f"administrator ({admin_of[0] if admin_of else 'policy'})"
            return Problem(where, value, "somebody who is no administrator", fix)
        others = [
            entry[0] for entry in self.accounts.passwd.entries() if entry[5] == leaver.home and entry[0] != leaver.login
        ]
        if others:
            return Problem(
                where, leaver.home, f"a home that is not also {others[0]}'s", "give one of them another home"
            )
        return None

    def _admin_groups_of(self, leaver: Leaver) -> list[str]:
        """Return the administrators' groups of a person: by their lists, as primary group, or from a directory."""
        gids = {leaver.gid, *os.getgrouplist(leaver.login, leaver.gid)}
        return [
            group
            for group in self.admin_groups
            if leaver.login in self.accounts.members(group) or self._gid_of(group) in gids
        ]

    def _gid_of(self, group: str) -> int | None:
        fields = self.accounts.group.get(group)
        if fields is not None and fields[2].isdigit():
            return int(fields[2])
        try:
            return grp.getgrnam(group).gr_gid
        except KeyError:
            return None


def words_disable(leaver: Leaver) -> list[str]:
    """Say what `disable` does to a person."""
    steps = ["move the ssh keys aside"]
    if leaver.local:
        steps.insert(0, f"lock the password, expire the account, set the shell to {NOLOGIN}, end group memberships")
    else:
        steps.append("end local group memberships; the account itself is in the directory: have it disabled there")
    return steps


def disable(leaver: Leaver, today: dt.date) -> None:
    """Shut a person out. Nothing that runs is stopped. Can be done again.

    Raises:
        ApplyError: The account files could not be changed.
    """
    leaver.stage = "begun"
    leaver.archive = leaver.archive_sha256 = leaver.archived_at = leaver.removed_on = None
    with locked():
        accounts = Accounts()
        leaver.groups = accounts.groups_of(leaver.login) or leaver.groups
        # Written first: after an interruption the old shell and groups are still known.
        leaver.save()
        for group in accounts.groups_of(leaver.login):
            accounts.set_members(group, [name for name in accounts.members(group) if name != leaver.login])
        if leaver.local:
            _shut(accounts, leaver.login)
        accounts.commit()
    try:
        home = open_owned_directory(leaver.home, leaver.uid)
    except (UnsafeError, OSError):
        home = None
    if home is not None:
        try:
            keys.set_aside(home, leaver.uid, leaver.gid)
        except (UnsafeError, OSError):
            # Keys that cannot be moved open nothing: the account has expired and its shell is nologin.
            pass
        finally:
            os.close(home)
    leaver.stage = "disabled"
    leaver.disabled_on = today.isoformat()
    leaver.save()
    events.record(
        "user.change",
        subject={"kind": "user", "name": leaver.login, "id": leaver.uid},
        decision="changed",
        rule="offboarding",
        reason="the person left: locked, expired, no shell, no keys",
        fix="list the person again, without a past expiry date",
    )


def places(leaver: Leaver) -> list[str]:
    """Return every path where something of this person's may be."""
    spools = [f"{spool}/{leaver.login}" for spool in SPOOLS]
    return [path for path in (leaver.home, leaver.scratch, *spools) if path]


def is_theirs(path: str, uid: int) -> bool:
    """Say whether a path is a directory or file of this uid itself, not a link."""
    found = os.lstat(path)
    return found.st_uid == uid and (found.st_mode & 0o170000) in {0o040000, 0o100000} and not os.path.ismount(path)


def remove_directories(leaver: Leaver, paths: Sequence[str]) -> None:
    """Remove what was archived; links are removed, not followed.

    Raises:
        ApplyError: Something could not be removed; the next run goes on.
    """
    for path in paths:
        if not is_theirs(path, leaver.uid):
            raise ApplyError(f"{path}: no longer belongs to {leaver.login}: it was left: look at it")
        target = Path(path)
        # Out of the way first: half a home must never be found at the home's place.
        moved = target.with_name(f"{_REMOVING}{target.name[:200]}")
        target.rename(moved)
    for path in places(leaver):
        _remove_moved(Path(path).with_name(f"{_REMOVING}{Path(path).name[:200]}"))


def remove_account(leaver: Leaver) -> None:
    """Take the account, its private group, its memberships and its subordinate ids out of the account files.

    Raises:
        ApplyError: The files could not be changed.
    """
    accounts = Accounts()
    fields = accounts.passwd.get(leaver.login)
    for group in accounts.groups_of(leaver.login):
        accounts.set_members(group, [name for name in accounts.members(group) if name != leaver.login])
    if leaver.local and fields is not None and fields[2] == str(leaver.uid):
        accounts.passwd.remove(leaver.login)
        accounts.shadow.remove(leaver.login)
        for table in ("subuid", "subgid"):
            accounts.tables[table].remove(leaver.login)
        own = accounts.group.get(leaver.login)
        if own is not None and own[2] == fields[3] and all(entry[3] != own[2] for entry in accounts.passwd.entries()):
            accounts.remove_group(leaver.login)
    accounts.commit()


def _shut(accounts: Accounts, login: str) -> None:
    fields = accounts.passwd.get(login)
    if fields is not None and fields[6] != NOLOGIN:
        fields[6] = NOLOGIN
        accounts.passwd.put(fields)
    shadow = accounts.shadow.get(login)
    if shadow is not None:
        shadow[1] = shadow[1] if shadow[1].startswith("!") else "!" + shadow[1]
        shadow[7] = EXPIRED
        accounts.shadow.put(shadow)


def _remove_moved(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ApplyError(f"{path}: {error.strerror}: not wholly removed: remove what holds it and run again") from error
