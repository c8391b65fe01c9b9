"""The limits of a policy as plain data: what the resolver reads and the cache keeps.

Shape (JSON-able; sizes in bytes, durations in seconds, CPUs as numbers, absent = not set at this level):

    builtin, policies, defaults   {field: value}; "policies" holds the section of that name
    groups                        {group: {field: value}}
    group_aggregate               {group: {field: value}}
    overrides                     {user: {"values": {field: value}, "expires": day or None, "reason": text or None}}
    members, unix_groups          {user: group}, {Unix group: group}
    default_group, aggregate_limits
    admins                        {"groups": [Unix group], "users": [user]}
    logins                        what `logins` returns
    bare_metal                    {"default_grant_duration": seconds}
    kinds                         {field: kind}, for printing
    gpu_allocation, monitoring, container_types, notifications
                                  the sections of these names
    exemptions                    [{user, exempt_from, expires: day or None, reason}]
    storage                       {"home_root": path, "scratch_root": path}
    images                        {"registries": [name], "max_upload": bytes or None}
    reservations                  [{user, group, start, end, devices, gpus, reason}]; user or group is None; UTC ms

Fields of sections are dotted: "storage.home", "aggregate.memory_max", "policies.grace_period".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01.policy.models.base import Derived, Section
from ds01.policy.models.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01.policy.models import Policy
    from ds01.policy.models.members import Window

_LIMITS = frozenset(Limits.model_fields)


def build_tables(policy: Policy) -> dict[str, Any]:
    """Return the limits of a policy as plain data."""
    return {
        "builtin": _builtin(Limits()),
        "policies": {f"policies.{key}": value for key, value in _given(policy.policies).items()},
        "defaults": _given(policy.defaults),
        "groups": {name: _given(group) for name, group in policy.groups.items()},
        "group_aggregate": {name: _given(group.group_aggregate) for name, group in policy.groups.items()},
        "overrides": {
            user: {
                "values": _given(override),
                "expires": override.expires.isoformat() if override.expires else None,
                "reason": override.reason,
            }
            for user, override in policy.user_overrides.items()
        },
        "members": {user: name for name, group in policy.groups.items() for user in group.members},
        "unix_groups": {group.unix_group: name for name, group in policy.groups.items() if group.unix_group},
        "default_group": policy.default_group,
        "aggregate_limits": policy.enforcement.aggregate_limits,
        "admins": {"groups": list(policy.admins.groups), "users": list(policy.admins.users)},
        "logins": logins(policy),
        "bare_metal": {"default_grant_duration": policy.bare_metal.default_grant_duration},
        "kinds": _kinds(Limits),
        "gpu_allocation": policy.gpu_allocation.model_dump(mode="json"),
        "monitoring": _section(policy.monitoring),
        "container_types": _section(policy.container_types),
        "notifications": _section(policy.notifications),
        "exemptions": [
            {
                "user": exemption.user,
                "exempt_from": list(exemption.exempt_from),
                "expires": exemption.expires.isoformat() if exemption.expires else None,
                "reason": exemption.reason,
            }
            for exemption in policy.exemptions
        ],
        "storage": {"home_root": policy.storage.home_root, "scratch_root": policy.storage.scratch_root},
        "images": {"registries": list(policy.images.registries), "max_upload": policy.images.max_upload},
        "reservations": list(_reservations(policy)),
    }


def logins(policy: Policy) -> dict[str, Any]:
    """Return the caps of logins, and whether GPUs are closed to them; neither is for administrators and the exempt."""
    users = {*policy.admins.users, *policy.bare_metal.exempt_users}
    groups = {*policy.admins.groups, *policy.bare_metal.exempt_groups}
    caps: dict[str, Any] = dict(policy.logins)
    caps |= {"exempt_users": sorted(users), "exempt_groups": sorted(groups)}
    return caps | {"close_gpus": policy.bare_metal.close_gpus}


def _reservations(policy: Policy) -> Iterator[dict[str, Any]]:
    """Yield every reservation; those of an override end with it."""
    for entry in policy.reservations:
        yield _window(entry, entry.user, entry.group)
    for user, override in policy.user_overrides.items():
        for window in override.all_windows():
            if override.expires is None or window.start.date() <= override.expires:
                yield _window(window, user, None)


def _window(window: Window, user: str | None, group: str | None) -> dict[str, Any]:
    return {
        "user": user,
        "group": group,
        "start": int(window.start.timestamp() * 1000),
        "end": int(window.end.timestamp() * 1000),
        "devices": list(window.devices),
        "gpus": window.gpus,
        "reason": window.reason,
    }


def _section(section: Section) -> dict[str, Any]:
    """Return a whole section, as it is in force."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    return {
        name: _section(value) if isinstance(value, Section) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def _given(section: Section) -> dict[str, Any]:
    """Return the limits set in a section, flat."""
    flat: dict[str, Any] = {}
    for name in section.model_fields_set:
        if isinstance(section, Limits) and name not in _LIMITS:
            continue
        value = getattr(section, name)
        if isinstance(value, Section):
            flat |= {f"{name}.{key}": inner for key, inner in _given(value).items()}
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def _builtin(section: Section) -> dict[str, Any]:
    """Return the built-in value of every field except those that are derived from others."""
    flat: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            flat |= {f"{name}.{key}": inner for key, inner in _builtin(value).items()}
        elif not any(isinstance(item, Derived) for item in field.metadata):
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def _kinds(model: type[Section]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, field, kind in model.kinds():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            flat |= {f"{name}.{key}": inner for key, inner in _kinds(field.annotation).items()}
        else:
            flat[name] = kind.name if kind else "list"
    return flat
