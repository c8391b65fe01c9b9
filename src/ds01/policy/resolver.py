"""Whose limits are what: override, then group, then defaults, for each field on its own.

Works on the plain data of `tables` and imports nothing heavy, because commands start with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

Tables = dict[str, Any]
# An override stands for somebody important unless it says otherwise.
OVERRIDE_PRIORITY = 100


class Resolved:
    """The limits of one person, with the level each came from."""

    def __init__(self, user: str | None, group: str, group_from: str) -> None:
        """Start without limits."""
        self.user = user
        self.group = group
        # "members", "unix_group NAME" or "default_group".
        self.group_from = group_from
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.notes: list[str] = []

    def set(self, field: str, value: Any, origin: str) -> None:
        """Keep one field."""
        self.values[field] = value
        self.origins[field] = origin


def resolve(policy: Any, user: str, now: datetime, unix_groups: Iterable[str] = ()) -> Resolved:
    """Return the limits of a person. `policy` is a Policy or its tables; `unix_groups` are the person's groups (NSS).

    Somebody in no list gets `default_group`. An expired override has no effect and is noted.
    """
    tables: Tables = policy if isinstance(policy, dict) else policy.tables
    return _resolve(tables, user, now.date().isoformat(), unix_groups)


def resolve_member(tables: Tables, user: str) -> Resolved:
    """Return the limits of a person with the override as if it never expired: what validation looks at."""
    return _resolve(tables, user, "", ())


def resolve_group(tables: Tables, group: str) -> Resolved:
    """Return the limits of every member of a group who has no override."""
    resolved = Resolved(None, group, "group")
    _fill(resolved, tables, None)
    return resolved


def group_limits(tables: Tables, group: str) -> dict[str, Any]:
    """Return the limits of a group as a whole; max_tasks counts where group_aggregate names no tasks_max."""
    given = tables["group_aggregate"].get(group, {})
    tasks = given["tasks_max"] if "tasks_max" in given else resolve_group(tables, group).values["max_tasks"]
    return {"max_cpus": given.get("max_cpus"), "memory_max": given.get("memory_max"), "tasks_max": tasks}


def group_of(tables: Tables, user: str, unix_groups: Iterable[str] = ()) -> tuple[str, str]:
    """Return the group of a person and what decided it."""
    if group := tables["members"].get(user):
        return group, "members"
    theirs = set(unix_groups)
    for unix_group, group in tables["unix_groups"].items():
        if unix_group in theirs:
            return group, f"unix_group {unix_group}"
    return tables["default_group"], "default_group"


def _resolve(tables: Tables, user: str, today: str, unix_groups: Iterable[str]) -> Resolved:
    resolved = Resolved(user, *group_of(tables, user, unix_groups))
    override = tables["overrides"].get(user)
    if override and override["expires"] and override["expires"] < today:
        resolved.notes.append(f"the override expired on {override['expires']} and has no effect")
        override = None
    _fill(resolved, tables, override["values"] if override else None)
    return resolved


def _fill(resolved: Resolved, tables: Tables, override: Mapping[str, Any] | None) -> None:
    levels: list[tuple[str, Mapping[str, Any]]] = [
        (f"groups.{resolved.group}", tables["groups"].get(resolved.group, {})),
        ("defaults", tables["defaults"]),
        ("policies", tables["policies"]),
        ("built-in", tables["builtin"]),
    ]
    if override is not None:
        origin = f"user_overrides.{resolved.user}"
        levels[:0] = [(origin, override), (f"{origin} (implied)", {"priority": OVERRIDE_PRIORITY})]
    for field in tables["kinds"]:
        for origin, values in levels:
            if field in values:
                resolved.set(field, values[field], origin)
                break
    _derive(resolved, unlimited=not tables["aggregate_limits"])


def _derive(resolved: Resolved, *, unlimited: bool) -> None:
    """Fill the fields whose default depends on others."""
    values = resolved.values
    for inner, outer in _BUILT_IN_WITHIN:
        limit = values.get(outer)
        if resolved.origins[inner] == "built-in" and limit is not None and limit < values[inner]:
            resolved.set(inner, limit, f"= {outer}")
    if "memory_swap" not in values or _outgrown(resolved):
        resolved.set("memory_swap", values["memory"], "= memory")
    if unlimited:
        for field in _AGGREGATES:
            resolved.set(field, None, "enforcement.aggregate_limits")
        return
    for field, (rule, total) in _AGGREGATES.items():
        if field not in values:
            resolved.set(field, total(values), rule)


def _outgrown(resolved: Resolved) -> bool:
    """Tell whether memory_swap is from another level than memory, and too small for it: then it was not meant so."""
    memory, both = resolved.values["memory"], resolved.values["memory_swap"]
    other = resolved.origins["memory"] != resolved.origins["memory_swap"]
    return memory is None or (other and both is not None and both < memory)


def _times(amount: float | None, values: Mapping[str, Any]) -> Any:
    """Return an amount for all containers of a person together. One container is the least that makes sense."""
    count = values["max_containers_per_user"]
    return None if amount is None or count is None else amount * max(count, 1)


def _swap(values: Mapping[str, Any]) -> Any:
    # Where memory has no limit for all containers together, nobody asked for one of swap either.
    memory, both = values["memory"], values["memory_swap"]
    unlimited = memory is None or both is None or values["aggregate.memory_max"] is None
    return None if unlimited else _times(max(0, both - memory), values)


def _tasks(values: Mapping[str, Any]) -> Any:
    limits = (_times(values["pids_limit"], values), values["max_tasks"])
    return min((limit for limit in limits if limit is not None), default=None)


def _all_containers(field: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: _times(values[field], values)


# A built-in value nobody wrote gives way to what somebody wrote.
_BUILT_IN_WITHIN = (
    ("max_cpus", "aggregate.max_cpus"),
    ("memory", "aggregate.memory_max"),
    ("shm_size", "memory"),
    ("pids_limit", "aggregate.tasks_max"),
    ("pids_limit", "max_tasks"),
)
_AGGREGATES: dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "aggregate.max_cpus": ("= max_cpus x containers", _all_containers("max_cpus")),
    "aggregate.memory_max": ("= memory x containers", _all_containers("memory")),
    "aggregate.memory_high": ("built-in", lambda _values: None),
    "aggregate.swap_max": ("= (memory_swap - memory) x containers", _swap),
    "aggregate.tasks_max": ("= pids_limit x containers, max_tasks", _tasks),
    "aggregate.io_read_bps": ("= io_read_bps x containers", _all_containers("io_read_bps")),
    "aggregate.io_write_bps": ("= io_write_bps x containers", _all_containers("io_write_bps")),
}
