"""Compare the list of people with the host, and edit the account database in memory to match."""

from __future__ import annotations

import datetime as dt
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..problems import Problem
from . import homes, keys
from .accounts import ETC, Accounts
from .identity import UnsafeError, open_owned_directory
from .ids import Ids, login_defs
from .memberships import group_known, settle
from .model import ADMIN_GROUP, USERS_GROUP, Change, Person, PersonPlan
from .spec import is_directory_name, key_blob

DEFAULT_SHELL: Final = "/bin/bash"
KEYS_ONLY: Final = "*"
"""Password field of a new account: no password fits, and unlike `!` sshd does not take the account for a locked one."""
_NOLOGIN: Final = frozenset({"/usr/sbin/nologin", "/sbin/nologin", "/bin/false"})
EPOCH: Final = dt.date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is the same for everybody."""

    managed_groups: tuple[str, ...] = (USERS_GROUP, ADMIN_GROUP)
    """Made if missing, and exact: a listed person who does not have one in the list loses it."""
    home_base: str = "/home"
    scratch_base: str | None = "/scratch"
    scratch_mode: int = 0o711
    etc: Path = ETC
    skel: Path = homes.SKEL
    reserved_uids: tuple[int, ...] = ()
    disabled: Mapping[str, str] = field(default_factory=dict)
    """Off-boarded people who are not yet removed: login -> shell to give back."""
    today: dt.date = EPOCH
    find: Callable[[str], pwd.struct_passwd | None] | None = None
    """Ask NSS for a name; None asks the host's."""


@dataclass(slots=True)
class Plan:
    """Everything that one run would do."""

    accounts: Accounts
    settings: Settings
    people: list[PersonPlan] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    """Changes that are nobody's own: groups, bases."""
    unresolved: list[str] = field(default_factory=list)
    past: list[str] = field(default_factory=list)
    """Listed, without an account here, and their date has passed: nothing is made for them."""
    unlisted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether a run would change anything."""
        return bool(self.changes) or any(person.changes for person in self.people)

    def all_changes(self) -> list[Change]:
        """Return the changes in a stable order."""
        return self.changes + [change for person in self.people for change in person.changes]


class Planner:
    """Makes one plan; holds what it needs on the way."""

    def __init__(self, people: Sequence[Person], accounts: Accounts, settings: Settings) -> None:
        self._people = people
        self._accounts = accounts
        self._settings = settings
        self._nss = settings.etc == ETC
        self._defs = login_defs(settings.etc)
        self._ids = Ids(accounts, self._defs, settings.reserved_uids, nss=self._nss)
        self._plan = Plan(accounts, settings)
        self._problems: list[Problem] = []

    def make(self) -> tuple[Plan, list[Problem]]:
        """Return the plan and every problem that keeps it from being applied."""
        self._bases()
        self._groups()
        for person in self._people:
            if person.uid is not None and person.name not in self._accounts.passwd:
                self._explicit_uid(person.name, person.uid)
        for person in self._people:
            self._person(person)
        staying = [plan for plan in self._plan.people if not self._left(plan)]
        warnings, problems = settle(staying, self._accounts, self._settings.managed_groups, nss=self._nss)
        self._plan.warnings += warnings
        self._problems += problems
        self._same_person()
        self._shared_keys()
        listed = {plan.login for plan in self._plan.people} | {person.name for person in self._people}
        members = [name for group in self._settings.managed_groups for name in self._accounts.members(group)]
        self._plan.unlisted = sorted({name for name in members if name not in listed})
        return self._plan, self._problems

    def _bases(self) -> None:
        for base in (self._settings.home_base, self._settings.scratch_base):
            if base is not None and not os.path.lexists(base):
                self._plan.changes.append(Change("", base, "absent", "directory"))

    def _groups(self) -> None:
        for group in self._settings.managed_groups:
            if group not in self._accounts.group and not (self._nss and group_known(group)):
                gid = self._ids.new_system_gid()
                self._accounts.add_group(group, gid)
                self._plan.changes.append(Change("", f"group {group}", "absent", "group"))

    def _explicit_uid(self, name: str, uid: int) -> None:
        entry = self._find(name)
        if entry is None and self._ids.uid_taken(uid):
            where = f"people.{name}.uid"
            self._problems.append(Problem(where, str(uid), "a uid that nobody has", "choose another, or leave it out"))
        self._ids.claim_uid(uid)

    def _person(self, person: Person) -> None:
        local = self._accounts.passwd.get(person.name)
        if local is not None:
            plan = self._local(person, local)
        elif person.expires is not None and person.expires <= self._settings.today:
            # Whoever was off-boarded and is still in an old list must not come back as an empty account.
            self._plan.past.append(person.name)
            return
        else:
            entry = self._find(person.name)
            if entry is not None:
                plan = self._directory(person, entry)
            elif is_directory_name(person.name) or not person.create or self._was_from_directory(person.name):
                self._plan.unresolved.append(person.name)
                return
            else:
                plan = self._new(person)
        if plan is None:
            return
        self._files(plan)
        self._plan.people.append(plan)

    def _find(self, name: str) -> pwd.struct_passwd | None:
        if self._settings.find is not None:
            return self._settings.find(name)
        try:
            return pwd.getpwnam(name)
        except KeyError:
            return None

    def _was_from_directory(self, name: str) -> bool:
        """Say whether an earlier run found this person in a directory, which does not answer now."""
        # Listed in our groups, and no group of its own was ever made for an account.
        listed = any(name in self._accounts.members(group) for group in self._settings.managed_groups)
        return listed and name not in self._accounts.group

    def _local(self, person: Person, fields: list[str]) -> PersonPlan | None:
        where = f"people.{person.name}"
        if len(fields) != 7 or not fields[2].isdigit() or not fields[3].isdigit():  # noqa: PLR2004 - passwd(5)
            self._problems.append(
                Problem(where, person.name, "a well-formed line in /etc/passwd", "repair it with vipw")
            )
            return None
        uid = int(fields[2])
        if uid < self._defs["UID_MIN"] or uid in {65534, 65535}:
            self._system_account(person, uid)
            return None
        if person.uid not in (None, uid):
            fix = f"write uid: {uid}, or leave it out; an account is never renumbered"
            self._problems.append(Problem(f"{where}.uid", str(person.uid), f"the uid that the account has, {uid}", fix))
            return None
        plan = PersonPlan(person, person.name, "local", uid, int(fields[3]), fields[5])
        self._returning(plan)
        self._edit(plan, fields)
        return plan

    def _system_account(self, person: Person, uid: int) -> None:
        fix = "take the name out of the list; system accounts are not people"
        problem = Problem(f"people.{person.name}", f"uid {uid}", "a person's account", fix)
        if person.create:
            self._problems.append(problem)
        else:
            self._plan.warnings.append(str(problem))

    def _returning(self, plan: PersonPlan) -> None:
        """Off-boarded and listed again, with a date that has not passed: the person comes back."""
        expires = plan.person.expires
        if plan.login in self._settings.disabled and (expires is None or expires > self._settings.today):
            plan.restore = True
            plan.note("enabled", "off-boarded", "enabled")

    def _left(self, plan: PersonPlan) -> bool:
        return plan.login in self._settings.disabled and not plan.restore

    def _edit(self, plan: PersonPlan, fields: list[str]) -> None:
        person = plan.person
        if self._left(plan):
            return
        shell = person.shell
        if plan.restore:
            shell = shell or self._settings.disabled[plan.login]
        if person.comment is not None and person.comment != fields[4]:
            plan.note("comment", fields[4], person.comment)
            fields[4] = person.comment
        if shell is not None and shell != fields[6]:
            self._check_shell(person, shell)
            plan.note("shell", fields[6], shell)
            fields[6] = shell
        if fields != self._accounts.passwd.get(plan.login):
            self._accounts.passwd.put(fields)
        shadow = self._accounts.shadow.get(plan.login)
        if shadow is None:
            return
        before = list(shadow)
        if plan.restore:
            shadow[1] = shadow[1].removeprefix("!") or KEYS_ONLY
        if person.create:
            wanted = _days(person.expires)
            if shadow[7] != wanted:
                plan.note("expires", _date(shadow[7]), _date(wanted))
                shadow[7] = wanted
        if shadow != before:
            self._accounts.shadow.put(shadow)

    def _new(self, person: Person) -> PersonPlan | None:
        where = f"people.{person.name}"
        home = f"{self._settings.home_base}/{person.name}"
        group = self._accounts.group.get(person.name)
        if group is not None and not self._own_group(person.name, group):
            fix = "choose another login"
            self._problems.append(Problem(where, person.name, "a name that is not a group's", fix))
            return None
        uid = person.uid if person.uid is not None else self._left_uid(home)
        if uid is None:
            uid = self._ids.new_uid()
        if group is None:
            gid = self._ids.new_gid(uid)
            self._accounts.add_group(person.name, gid)
        else:
            gid = int(group[2])
        shell = person.shell or DEFAULT_SHELL
        self._check_shell(person, shell)
        self._accounts.passwd.put([person.name, "x", str(uid), str(gid), person.comment or "", home, shell])
        days = str((self._settings.today - EPOCH).days)
        aging = [str(self._defs[key]) for key in ("PASS_MIN_DAYS", "PASS_MAX_DAYS", "PASS_WARN_AGE")]
        self._accounts.shadow.put([person.name, KEYS_ONLY, days, *aging, "", _days(person.expires), ""])
        plan = PersonPlan(person, person.name, "new", uid, gid, home)
        until = "" if person.expires is None else f", expires {person.expires}"
        plan.note("account", "absent", f"uid {uid}, shell {shell}, ssh keys only{until}")
        return plan

    def _own_group(self, name: str, fields: list[str]) -> bool:
        """Say whether a group of the person's name is what an interrupted run left: private, empty, nobody's."""
        if len(fields) < 4 or not fields[2].isdigit() or int(fields[2]) < self._defs["GID_MIN"] or fields[3]:  # noqa: PLR2004
            return False
        return name not in self._settings.managed_groups and all(
            entry[3] != fields[2] for entry in self._accounts.passwd.entries()
        )

    def _left_uid(self, home: str) -> int | None:
        """Return the owner of a home that is there without an account: after an interruption or a new installation."""
        try:
            owner = os.lstat(home).st_uid
        except OSError:
            return None
        low, high = self._defs["UID_MIN"], self._defs["UID_MAX"]
        if low <= owner <= high and not self._ids.uid_taken(owner):
            self._ids.claim_uid(owner)
            return owner
        return None

    def _directory(self, person: Person, entry: pwd.struct_passwd) -> PersonPlan | None:
        if entry.pw_uid < self._defs["UID_MIN"] or entry.pw_uid in {65534, 65535}:
            self._system_account(person, entry.pw_uid)
            return None
        if person.uid not in (None, entry.pw_uid):
            fix = "leave it out: the directory decides"
            expected = f"the uid that the directory gives, {entry.pw_uid}"
            self._problems.append(Problem(f"people.{person.name}.uid", str(person.uid), expected, fix))
            return None
        plan = PersonPlan(person, entry.pw_name, "directory", entry.pw_uid, entry.pw_gid, entry.pw_dir)
        self._returning(plan)
        return plan

    def _files(self, plan: PersonPlan) -> None:
        disabled = self._left(plan)
        if _is_home(plan.home):
            self._home(plan, disabled=disabled)
        else:
            self._plan.warnings.append(
                f"{plan.login}: home {plan.home!r}: no place for a home: home and keys are left alone"
            )
        base = self._settings.scratch_base
        if base is None or disabled:
            return
        plan.scratch = f"{base}/{plan.login}"
        found = homes.look(plan.scratch, plan.uid)
        if found.state == "absent":
            plan.make_scratch = True
            plan.note("scratch", "absent", f"{plan.scratch} 0700")
        elif found.state == "open":
            plan.fix_scratch_mode = True
            plan.note("scratch mode", found.detail, "0700")
        elif found.state == "unsafe":
            plan.scratch = None
            self._plan.warnings.append(f"{plan.login}: {found.detail}: scratch is left alone")

    def _home(self, plan: PersonPlan, *, disabled: bool) -> None:
        found = homes.look(plan.home, plan.uid)
        if found.state == "absent":
            plan.make_home = plan.home_usable = True
            plan.note("home", "absent", f"{plan.home} 0700")
            plan.keys_text = keys.merge("", plan.person.keys) or None
            if plan.keys_text:
                plan.note("ssh keys", "", _key_names(plan.person.keys))
            return
        if found.state == "unsafe" and plan.origin == "new":
            fix = "move it away, or give the account the uid that owns it"
            self._problems.append(
                Problem(f"people.{plan.login}", plan.home, f"a home that can be theirs ({found.detail})", fix)
            )
            return
        if found.state == "unsafe":
            self._plan.warnings.append(f"{plan.login}: {found.detail}: home and keys are left alone")
            return
        plan.home_usable = True
        if found.state == "open":
            plan.fix_home_mode = True
            plan.note("home mode", found.detail, "0700")
        if not disabled:
            self._keys(plan)

    def _keys(self, plan: PersonPlan) -> None:
        try:
            home = open_owned_directory(plan.home, plan.uid)
            try:
                old = keys.read(home, plan.uid, plan.gid)
                if old is None and plan.restore:
                    old = keys.read(home, plan.uid, plan.gid, keys.ASIDE)
                new = keys.merge(old or "", plan.person.keys)
                if new != (old or ""):
                    keys.require_writable(home, plan.uid, plan.gid)
            finally:
                os.close(home)
        except (UnsafeError, OSError) as error:
            self._plan.warnings.append(f"{plan.login}: {error}: keys are left alone")
            return
        if new != (old or ""):
            plan.keys_text = new
            plan.note("ssh keys", _key_names(keys.block(old or "")), _key_names(plan.person.keys))

    def _check_shell(self, person: Person, shell: str) -> None:
        if shell not in _NOLOGIN and not os.access(shell, os.X_OK):
            fix = "install it, or choose another"
            self._problems.append(Problem(f"people.{person.name}.shell", shell, "a shell that this host has", fix))

    def _same_person(self) -> None:
        seen: dict[int, str] = {}
        for plan in self._plan.people:
            other = seen.setdefault(plan.uid, plan.person.name)
            if other != plan.person.name:
                fix = "list the person once, in one spelling"
                where = f"people.{plan.person.name}"
                self._problems.append(Problem(where, f"uid {plan.uid}", f"somebody other than {other}", fix))

    def _shared_keys(self) -> None:
        holders: dict[str, str] = {}
        for person in self._people:
            for line in person.keys:
                other = holders.setdefault(key_blob(line), person.name)
                if other != person.name:
                    self._plan.warnings.append(
                        f"{person.name}: has the same ssh key as {other}: one of them can act as both"
                    )


def _is_home(path: str) -> bool:
    return (
        path.startswith("/")
        and path.count("/") > 1
        and not path.startswith(("/dev/", "/proc/", "/sys/", "/run/", "/etc/"))
        and ".." not in path.split("/")
    )


def _days(date: dt.date | None) -> str:
    return "" if date is None else str((date - EPOCH).days)


def _date(days: str) -> str:
    return str(EPOCH + dt.timedelta(days=int(days))) if days.isdigit() else "never"


def _key_names(lines: Sequence[str]) -> str:
    return ", ".join(f"{line.split()[0] if line[:1] != '#' else '#'} …{key_blob(line)[-12:]}" for line in lines)
