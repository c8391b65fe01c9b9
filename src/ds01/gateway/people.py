"""Who a uid is: name and Unix groups by NSS, limits and rights by the policy."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ds01.gateway.refusals import Refused
from ds01.gateway.workers import Workers
from ds01.policy.problems import PolicyError
from ds01.policy.resolver import Resolved, resolve

_FRESH_S: Final = 60.0
"""How long an answer of NSS counts: somebody put into a group waits this long at most."""
_STALE_S: Final = 3600.0
"""How long the last answer serves people while the directory does not answer."""
_POLICY_S: Final = 1.0
"""How long the policy is not looked at again: clients open several connections for one command."""
_NSS_THREADS: Final = 4
_NSS_S: Final = 5.0

Tables = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody known to this host."""

    uid: int
    gid: int
    name: str
    home: str
    groups: frozenset[str]
    gids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. An administrator's requests are not judged, only recorded."""

    person: Person
    admin: bool
    via: str
    """How they came: the shared socket, or their own one."""
    pid: int | None = None
    """Of the process at the other end, if it is one of this host."""

    @property
    def uid(self) -> int:
        """The number that objects belong to."""
        return self.person.uid

    def actor(self) -> dict[str, Any]:
        """The caller as an event names it."""
        return {"uid": self.person.uid, "user": self.person.name, "via": self.via}


class People:
    """Answers who somebody is, from memory where it can."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        """Take where the tables of the policy come from; it may block and raise PolicyError."""
        self._tables = tables
        self._known: dict[int, tuple[float, Person]] = {}
        self._asking: dict[int, asyncio.Task[Person]] = {}
        self._nss = Workers("the user directory", _NSS_THREADS, _NSS_S)
        self._policy = Workers("the policy", 1, _NSS_S)
        self._policy_kept: tuple[float, Tables] | None = None
        self._reading: asyncio.Task[Tables] | None = None

    async def person(self, uid: int) -> Person:
        """Return who a uid is. Raises Refused."""
        asked = time.monotonic()
        kept = self._known.get(uid)
        if kept is not None and asked - kept[0] < _FRESH_S:
            return kept[1]
        try:
            # Hundreds of connections of one person are one question.
            task = self._asking.get(uid)
            if task is None:
                task = self._asking[uid] = asyncio.get_running_loop().create_task(self._nss.ask(lambda: look_up(uid)))
                task.add_done_callback(lambda _: self._asking.pop(uid, None))
            found = await asyncio.shield(task)
        except Refused:
            if kept is not None and asked - kept[0] < _STALE_S:
                return kept[1]
            raise
        self._known[uid] = (asked, found)
        return found

    async def is_admin(self, person: Person) -> bool:
        """Whether the policy, or uid 0, makes somebody an administrator."""
        if person.uid == 0:
            return True
        try:
            admins = (await self.tables())["admins"]
        except Refused:
            # A broken policy takes rights away, it gives none.
            return False
        return person.name in admins["users"] or not person.groups.isdisjoint(admins["groups"])

    async def limits(self, person: Person) -> Resolved:
        """Return the limits of somebody. Raises Refused when there is no valid policy."""
        return resolve(dict(await self.tables()), person.name, datetime.now(UTC), person.groups)

    async def tables(self) -> Tables:
        """Return the tables of the policy. Raises Refused when there is no valid one."""
        if self._policy_kept is not None and time.monotonic() - self._policy_kept[0] < _POLICY_S:
            return self._policy_kept[1]
        if self._reading is None:
            # Hundreds of connections at the same moment are one question here, too.
            self._reading = asyncio.get_running_loop().create_task(self._read())
            self._reading.add_done_callback(self._has_read)
        return await asyncio.shield(self._reading)

    async def _read(self) -> Tables:
        asked = time.monotonic()
        try:
            tables = await self._policy.ask(self._tables)
        except (PolicyError, OSError, ValueError) as error:
            raise Refused(
                503,
                "the policy on this server cannot be used, so nothing new is started",
                "policy.broken",
                "tell the administrator: `ds01 policy check` names the problems",
            ) from error
        self._policy_kept = (asked, tables)
        return tables

    def _has_read(self, _: asyncio.Task[Tables]) -> None:
        self._reading = None

    def close(self) -> None:
        """Let go of the threads."""
        self._nss.close()
        self._policy.close()


def look_up(uid: int) -> Person:
    """Ask NSS, which may take as long as a directory server does. Raises Refused for a uid that nobody has."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError as error:
        raise Refused(403, f"uid {uid} is nobody on this host", "identity.unknown") from error
    gids = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    names = set()
    for gid in gids:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Person(uid, entry.pw_gid, entry.pw_name, entry.pw_dir, frozenset(names), gids)
