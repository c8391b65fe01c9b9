"""The Unix groups of people, by the name service: what decides a group of the policy, and who administers."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Mapping
from typing import Any


def unix_groups(tables: Mapping[str, Any], user: str) -> list[str]:
    """Return the Unix groups of a person, if the policy needs them to find the group."""
    if not tables["unix_groups"] or user in tables["members"]:
        return []
    return groups_of(user)


def is_admin(tables: Mapping[str, Any], uid: int, user: str) -> bool:
    """Whether a person administers DS01: uid 0, or by the policy."""
    admins = tables["admins"]
    return uid == 0 or user in admins["users"] or not set(admins["groups"]).isdisjoint(groups_of(user))


def exists(user: str) -> bool:
    """Whether the name services know somebody now."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def group_exists(name: str) -> bool:
    """Whether the name services know a group now."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def groups_of(user: str) -> list[str]:
    """Return the names of the Unix groups of a person; of somebody unknown there are none."""
    try:
        gids = os.getgrouplist(user, pwd.getpwnam(user).pw_gid)
    except KeyError:
        return []
    names = []
    for gid in gids:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return names
