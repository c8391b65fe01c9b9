"""What changes for whom between two policies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ds01.policy.rendering import canonical
from ds01.policy.resolver import resolve
from ds01.policy.rules import known_users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ds01.policy.load import LoadedPolicy
    from ds01.policy.resolver import Resolved

# Shown per person, so not repeated as sections of the file.
_PER_PERSON = frozenset({"defaults", "groups", "user_overrides", "default_group"})
# More of these is not a gain: they are thresholds, weights and warnings.
_NEUTRAL_PREFIX = "policies."
EVERYBODY_ELSE = "(people in no list)"


class Change(NamedTuple):
    """One field with both values in internal units; `effect` is gains, loses or changes."""

    field: str
    old: Any
    new: Any
    kind: str
    effect: str


class Difference(NamedTuple):
    """`people` maps a set of changes to everybody it concerns; `settings` are changed values of other sections."""

    people: list[tuple[tuple[Change, ...], list[str]]]
    settings: list[tuple[str, Any, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON-able data."""
        return {
            "people": [
                {"users": users, "changes": [change._asdict() for change in changes]} for changes, users in self.people
            ],
            "settings": [{"path": path, "old": old, "new": new} for path, old, new in self.settings],
        }


def difference(old: LoadedPolicy, new: LoadedPolicy, now: datetime) -> Difference:
    """Return who gains or loses what. People with the same changes are together, the largest crowd first."""
    crowds: dict[str, tuple[tuple[Change, ...], list[str]]] = {}
    users = {user for loaded in (old, new) for user in known_users(loaded.policy) | set(loaded.policy.user_overrides)}
    for user in [*sorted(users), EVERYBODY_ELSE]:
        before, after = resolve(old.policy, user, now), resolve(new.policy, user, now)
        changes = tuple(_changes(before, after, new.policy.tables["kinds"]))
        if changes:
            crowds.setdefault(repr(changes), (changes, []))[1].append(user)
    people = sorted(crowds.values(), key=lambda crowd: -len(crowd[1]))
    return Difference(people, _settings(canonical(old), canonical(new)))


def _changes(before: Resolved, after: Resolved, kinds: dict[str, str]) -> Iterator[Change]:
    listed = {True: "", False: " (in no list)"}
    groups = [entry.group + listed[entry.group_from != "default_group"] for entry in (before, after)]
    if groups[0] != groups[1]:
        yield Change("group", groups[0], groups[1], "name", "changes")
    for field, kind in kinds.items():
        old, new = before.values[field], after.values[field]
        if old != new:
            yield Change(field, old, new, kind, _effect(field, old, new, kind))


def _effect(field: str, old: Any, new: Any, kind: str) -> str:
    if field.startswith(_NEUTRAL_PREFIX) or kind in {"list", "name"}:
        return "changes"
    return "gains" if _amount(new) > _amount(old) else "loses"


def _amount(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _settings(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    before, after = _flat(old), _flat(new)
    paths = dict.fromkeys([*before, *after])
    return [(path, before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)]


def _flat(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if not path and key in _PER_PERSON:
            continue
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat
