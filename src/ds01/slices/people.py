"""Who is in which group on this host: questions to its name services (local files, AD, LDAP)."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from .desired import LoginSpec
from .spec import SliceSpec


def host_groups(spec: SliceSpec, users: Iterable[str]) -> dict[str, str]:
    """Return the group of each user as the host's Unix groups give it, the default one for who is in none of them.

    Users that the name services do not know, or of whom they cannot tell, are left out.
    """
    gids: dict[int, str] = {}
    complete = True
    for unix_group, group in spec.unix_groups.items():
        try:
            # The first one listed counts for who is in several.
            gids.setdefault(grp.getgrnam(unix_group).gr_gid, group)
        except KeyError:
            complete = False
    result: dict[str, str] = {}
    for user in users:
        own = _gids_of(user)
        if own is None:
            continue
        found = next((group for gid, group in gids.items() if gid in own), None)
        if found is not None:
            result[user] = found
        elif complete:
            override = spec.overrides.get(user)
            result[user] = spec.default_group if override is None else override.group
    return result


def exempt_uids(spec: LoginSpec, live_uids: Iterable[int]) -> set[int]:
    """Return the uids of the exempt users and of the members of exempt groups.

    Members of a group are taken from its list and, since a directory service may not list them, from who is logged in.
    """
    names = set(spec.exempt_users)
    gids = set()
    for group in spec.exempt_groups:
        try:
            entry = grp.getgrnam(group)
        except KeyError:
            continue
        names.update(entry.gr_mem)
        gids.add(entry.gr_gid)
    result = set()
    for name in names:
        try:
            result.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    for uid in live_uids:
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            continue
        if gids & (_gids_of(name) or set()):
            result.add(uid)
    return result


def unknown_uids(uids: Iterable[int]) -> set[int]:
    """Return the uids that no name service knows now: who was exempt stays so until it is known again who that is."""
    result = set()
    for uid in uids:
        try:
            pwd.getpwuid(uid)
        except KeyError:
            result.add(uid)
    return result


def _gids_of(user: str) -> set[int] | None:
    try:
        return set(os.getgrouplist(user, pwd.getpwnam(user).pw_gid))
    except KeyError:
        return None
