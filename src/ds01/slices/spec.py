"""What the slices of a host shall be: the plain data that the policy is boiled down to for the kernel."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from ..problems import ReportedError
from .names import ROOT_SLICE, SliceNameError, group_slice, user_slice

LimitValues = Mapping[str, float | int | None]
"""Limits by key; None is unlimited."""

WEIGHT_DEFAULT: Final = 100
"""CPUWeight and IOWeight of a unit without one: systemd.resource-control(5)."""


class SpecError(ReportedError):
    """The data is not a slice specification. The text is `path: value: what was expected: fix`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one slice; None is unlimited (for a weight: the default)."""

    max_cpus: float | None = None
    """CPUs, e.g. 1.5."""
    memory_max: int | None = None
    """Bytes; above it the kernel kills."""
    memory_high: int | None = None
    """Bytes; above it the kernel slows down and reclaims."""
    swap_max: int | None = None
    """Bytes."""
    tasks_max: int | None = None
    """Processes and threads."""
    io_read_bps: int | None = None
    """Bytes a second, on each disk."""
    io_write_bps: int | None = None
    """Bytes a second, on each disk."""
    cpu_weight: int | None = None
    """1 to 10000."""
    io_weight: int | None = None
    """1 to 10000."""

    def values(self) -> dict[str, float | int | None]:
        """Return every limit by key."""
        return {key: getattr(self, key) for key in LIMIT_KEYS}

    def set_ones(self) -> dict[str, float | int | None]:
        """Return the limits that are not unlimited, by key."""
        return {key: value for key, value in self.values().items() if value is not None}

    def with_given(self, given: LimitValues) -> Limits:
        """Return these limits with some replaced."""
        replaced: dict[str, Any] = {**self.values(), **given}
        return Limits(**replaced)

    def smaller(self, other: Limits) -> Limits:
        """Return the smaller one of both for each limit."""
        least: dict[str, Any] = {key: _smaller(key, mine, getattr(other, key)) for key, mine in self.values().items()}
        return Limits(**least)


LIMIT_KEYS: Final[tuple[str, ...]] = tuple(field.name for field in dataclasses.fields(Limits))
WEIGHT_KEYS: Final = frozenset({"cpu_weight", "io_weight"})
_LARGEST: Final = {**dict.fromkeys(LIMIT_KEYS, 1 << 62), "max_cpus": 100_000, **dict.fromkeys(WEIGHT_KEYS, 10_000)}


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Limits of a group: for each person in it, and for all of them together."""

    aggregate: Limits
    group_aggregate: Limits


@dataclasses.dataclass(frozen=True, slots=True)
class Override:
    """Limits that one person has instead of the group's. A key that is not given stays the group's."""

    group: str
    given: LimitValues
    expires: dt.date | None

    def in_force(self, now: dt.datetime) -> bool:
        """Whether it counts: until the end of its last day, UTC."""
        return self.expires is None or now.astimezone(dt.UTC).date() <= self.expires


@dataclasses.dataclass(frozen=True, slots=True)
class SliceSpec:
    """All slices of a host."""

    unmanaged: Limits
    groups: Mapping[str, Group]
    overrides: Mapping[str, Override]
    members: Mapping[str, str]
    unix_groups: Mapping[str, str]
    default_group: str

    @classmethod
    def from_dict(cls, data: Any) -> SliceSpec:
        """Read the plain form. Raises SpecError at the first thing that is not as expected."""
        top = mapping("", data)
        known("", top, {"root", "unmanaged", "groups", "overrides", "members", "unix_groups", "default_group"})
        root = mapping("root", top.get("root", {})).get("slice", ROOT_SLICE)
        if root != ROOT_SLICE:
            raise _wrong("root.slice", root, ROOT_SLICE)
        groups = {name: _group(f"groups.{name}", value) for name, value in mapping("groups", top.get("groups")).items()}
        spec = cls(
            unmanaged=limits("unmanaged", top.get("unmanaged", {})),
            groups=groups,
            overrides={
                user: _override(f"overrides.{user}", value)
                for user, value in mapping("overrides", top.get("overrides", {})).items()
            },
            members=mapping("members", top.get("members", {})),
            unix_groups=mapping("unix_groups", top.get("unix_groups", {})),
            default_group=top.get("default_group", ""),
        )
        spec._check_names()
        return spec

    def limits_of(self, group: str, user: str, now: dt.datetime) -> Limits:
        """Return what a person of `group` has: the override that is in force over the group's limits."""
        base = self.groups[group].aggregate
        override = self.overrides.get(user)
        return base if override is None or not override.in_force(now) else base.with_given(override.given)

    def _check_names(self) -> None:
        used = [("default_group", self.default_group)]
        used += [(f"members.{user}", group) for user, group in self.members.items()]
        used += [(f"unix_groups.{name}", group) for name, group in self.unix_groups.items()]
        used += [(f"overrides.{user}.group", override.group) for user, override in self.overrides.items()]
        for path, group in used:
            if group not in self.groups:
                raise _wrong(path, group, f"one of the groups {', '.join(self.groups) or '(there is none)'}")
        try:
            for group in self.groups:
                group_slice(group)
            for user, override in self.overrides.items():
                user_slice(override.group, user)
        except SliceNameError as error:
            raise SpecError(str(error)) from error


def limits(path: str, data: Any) -> Limits:
    """Read limits. Raises SpecError."""
    given: Mapping[str, Any] = given_limits(path, data)
    return Limits(**given)


def given_limits(path: str, data: Any) -> LimitValues:
    """Read only the limits that are given. Raises SpecError."""
    values = mapping(path, data)
    known(path, values, set(LIMIT_KEYS))
    for key, value in values.items():
        wanted = "a number" if key == "max_cpus" else "a whole number"
        number = isinstance(value, int | float if key == "max_cpus" else int) and not isinstance(value, bool)
        least = 0 if key in {"swap_max", "max_cpus"} else 1
        if value is not None and not (number and least <= value <= _LARGEST[key] and (value or key != "max_cpus")):
            raise _wrong(f"{path}.{key}", value, f"{wanted} from {least} to {_LARGEST[key]}, or null for unlimited")
    return values


def mapping(path: str, data: Any) -> Mapping[str, Any]:
    """Return `data` if it is a mapping. Raises SpecError."""
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise _wrong(path, data, "a mapping")
    return data


def known(path: str, data: Mapping[str, Any], keys: set[str]) -> None:
    """Raise SpecError for a key that is not one of `keys`."""
    for key in data:
        if key not in keys:
            raise _wrong(f"{path}.{key}".lstrip("."), data[key], f"one of {', '.join(sorted(keys))}")


def _group(path: str, data: Any) -> Group:
    values = mapping(path, data)
    known(path, values, {"aggregate", "group_aggregate"})
    return Group(
        aggregate=limits(f"{path}.aggregate", values.get("aggregate", {})),
        group_aggregate=limits(f"{path}.group_aggregate", values.get("group_aggregate", {})),
    )


def _override(path: str, data: Any) -> Override:
    values = mapping(path, data)
    known(path, values, {"group", "aggregate", "expires"})
    expires = values.get("expires")
    try:
        last_day = None if expires is None else dt.date.fromisoformat(expires)
    except (TypeError, ValueError):
        raise _wrong(f"{path}.expires", expires, "a date like 2026-12-31, or null") from None
    return Override(values.get("group", ""), given_limits(f"{path}.aggregate", values.get("aggregate", {})), last_day)


def _smaller(key: str, one: float | None, other: float | None) -> float | None:
    if key in WEIGHT_KEYS:
        return min(one or WEIGHT_DEFAULT, other or WEIGHT_DEFAULT)
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _wrong(path: str, value: Any, expected: str) -> SpecError:
    return SpecError(f"{path}: {value!r}: expected {expected}: correct the data given to the slices")
