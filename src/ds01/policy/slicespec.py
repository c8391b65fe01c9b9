"""The SliceSpec: the limits of slices as plain data, for the code that writes them to systemd."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01.policy.resolver import group_limits, resolve, resolve_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ds01.policy.models import Policy
    from ds01.policy.resolver import Resolved

# systemd's weights go from 1 to 10,000 with 100 in the middle; priority goes from 1 to 100 with 10 as usual value.
_WEIGHT_PER_PRIORITY = 10
_FIELDS = ("max_cpus", "memory_max", "memory_high", "swap_max", "tasks_max", "io_read_bps", "io_write_bps")


def slice_spec(
    policy: Policy, now: datetime, unix_groups_of: Callable[[str], Iterable[str]] | None = None
) -> dict[str, Any]:
    """Return the SliceSpec of a policy: limits in CPUs, bytes, tasks and bytes per second; None means unlimited.

    Overrides that expired before `now` are left out. `unix_groups_of` (NSS on the host) finds the group of people
    who are in no list.
    """
    tables = policy.tables
    overrides: dict[str, Any] = {}
    for user, override in tables["overrides"].items():
        resolved = resolve(tables, user, now, unix_groups_of(user) if unix_groups_of else ())
        if not resolved.notes:
            # Only what the override decides: the rest is the group's, and only the host knows all Unix groups.
            group = _limits(resolve_group(tables, resolved.group))
            limits = {
                key: value
                for key, value in _limits(resolved).items()
                if value != group[key] or resolved.origins.get(f"aggregate.{key}") == f"user_overrides.{user}"
            }
            overrides[user] = {"group": resolved.group, "aggregate": limits, "expires": override["expires"]}
    return {
        "root": {"slice": "ds01.slice"},
        "unmanaged": dict(policy.enforcement.unmanaged),
        "groups": {
            name: {"aggregate": _limits(resolve_group(tables, name)), "group_aggregate": group_limits(tables, name)}
            for name in policy.groups
        },
        "overrides": overrides,
        "members": dict(sorted(tables["members"].items())),
        "unix_groups": tables["unix_groups"],
        "default_group": policy.default_group,
    }


def _limits(resolved: Resolved) -> dict[str, Any]:
    weight = resolved.values["priority"] * _WEIGHT_PER_PRIORITY
    limits = {field: resolved.values[f"aggregate.{field}"] for field in _FIELDS}
    return limits | {"cpu_weight": weight, "io_weight": weight}
