"""The policy as plain data for provisioning: what the Ansible roles work with."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ds01.policy.people import Person
from ds01.policy.rendering import render
from ds01.policy.resolver import resolve
from ds01.policy.slicespec import slice_spec
from ds01.policy.tables import logins
from ds01.users.model import ADMIN_GROUP, USERS_GROUP

if TYPE_CHECKING:
    from datetime import datetime

    from ds01.policy.load import LoadedPolicy
    from ds01.policy.models import Policy


def handover(loaded: LoadedPolicy, now: datetime) -> dict[str, Any]:
    """Return everything the roles need, as JSON-able data: sizes in bytes, dates as text."""
    policy = loaded.policy
    return {
        "rendered": render(loaded),
        "slices": slice_spec(policy, now),
        "logins": logins(policy),
        "people": [
            *(_person(policy, person, now) for person in loaded.people),
            *(_person(policy, Person(login), now) | {"create": False} for login in _only_members(loaded)),
        ],
        "groups": {
            name: {
                "members": sorted(set(group.members)),
                "unix_group": group.unix_group,
                "description": group.description,
            }
            for name, group in policy.groups.items()
        },
        "storage": policy.storage.model_dump(mode="json"),
        "users": dict(policy.users),
        "admins": policy.admins.model_dump(mode="json"),
        "engine": policy.engine.model_dump(mode="json"),
        "gpu_allocation": policy.gpu_allocation.model_dump(mode="json"),
        "warnings": [str(problem) for problem in loaded.warnings],
    }


def _only_members(loaded: LoadedPolicy) -> list[str]:
    """Return who is in a group and in no people file: such people exist already or come from a directory."""
    members = {login for group in loaded.policy.groups.values() for login in group.members}
    return sorted(members - {person.login for person in loaded.people})


def _person(policy: Policy, person: Person, now: datetime) -> dict[str, Any]:
    values = resolve(policy, person.login, now).values
    # An account closes at the start of a day (shadow(5)); in the policy the last day still counts.
    # Directories write the last day there is for never.
    closed = person.expires + timedelta(days=1) if person.expires and person.expires < date.max else None
    return {
        "name": person.login,
        "comment": person.name,
        "groups": [USERS_GROUP, *([ADMIN_GROUP] if person.login in policy.admins.users else [])],
        "ssh_keys": list(person.keys),
        "expires": closed.isoformat() if closed else None,
        "shell": person.shell,
        "uid": person.uid,
        "quota": {"home": values["storage.home"], "scratch": values["storage.scratch"]},
    }
