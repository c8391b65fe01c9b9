"""Who asks, what they may have, and the policy that says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01.api.desk import uid_of
from ds01.policy.nss import unix_groups
from ds01.policy.resolver import group_of, resolve

if TYPE_CHECKING:
    from ds01.api.call import Call
    from ds01.api.desk import Desk
    from ds01.policy.resolver import Resolved


def me(desk: Desk, call: Call) -> Any:
    """Say who the caller is, and how DS01 knows."""
    asker = call.asker
    group, source = group_of(desk.tables, asker.user, desk.groups_of(asker))
    return {
        "uid": asker.uid,
        "user": asker.user,
        "group": group,
        "group_from": source,
        "admin": asker.admin,
        "via": asker.via,
    }


def limits(desk: Desk, call: Call) -> Any:
    """Show the limits of one person, and which part of the policy set each."""
    user = call.subject()
    if user is not None:
        uid_of(user)
    groups = desk.groups_of(call.asker) if user is None else unix_groups(desk.tables, user)
    return limits_data(resolve(desk.tables, user or call.asker.user, datetime.now(UTC), groups), explain=True)


def limits_data(resolved: Resolved, *, explain: bool) -> dict[str, Any]:
    """Return limits as JSON: sizes in bytes, durations in seconds, null = unlimited."""
    nested: dict[str, Any] = {}
    for name, value in resolved.values.items():
        section, _, key = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[key] = value
    answer: dict[str, Any] = {"user": resolved.user, "group": resolved.group, "group_from": resolved.group_from}
    answer |= {"limits": nested, "notes": notes(resolved)}
    return answer | {"origins": resolved.origins} if explain else answer


def notes(resolved: Resolved) -> list[str]:
    """Return what somebody should know about their limits."""
    found = list(resolved.notes)
    if resolved.group_from == "default_group":
        found.insert(0, f"{resolved.user} is in no list; default_group {resolved.group} counts")
    return found


def policy(desk: Desk, call: Call) -> Any:  # noqa: ARG001 - everybody may read it
    """Show the policy in force, as tables (sizes in bytes, durations in seconds, times in UTC milliseconds)."""
    return desk.tables
