"""What a host shall have: the unit files of the slices and of the logins, and the limits of each live slice."""

from __future__ import annotations

import abc
import dataclasses
import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from . import render
from .kernel import Disk
from .names import (
    LOGIN_ROOT_SLICE,
    ROOT_SLICE,
    UNMANAGED_SLICE,
    group_slice,
    login_slice,
    parse_group_slice,
    parse_login_slice,
    parse_user_slice,
    user_slice,
    user_slice_prefix,
)
from .spec import WEIGHT_DEFAULT, WEIGHT_KEYS, Limits, LimitValues, SliceSpec, SpecError, given_limits, mapping

LIMITS_FILE: Final = "50-limits.conf"
# Other names than the group's: a drop-in of the same name would hide the group's instead of being merged with it.
OVERRIDE_FILE: Final = "60-override.conf"
MOVED_FILE: Final = "60-moved.conf"
LOGIN_FILE: Final = "50-ds01.conf"


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What the kernel shall say about one live slice."""

    limits: LimitValues
    exempt: bool = False
    """These limits are what the slice shall not have any more."""


class Desired(abc.ABC):
    """One family of unit files and slices: what its files are, and what its live slices shall have."""

    top: ClassVar[str]
    """The slice that holds them all."""
    removed: ClassVar[bool] = False
    """Whether the whole family is being taken off the host."""
    unit_globs: ClassVar[tuple[str, ...]]
    """Where files of this family are, below the directory of unit files."""

    @abc.abstractmethod
    def files(self, live: Collection[str], disks: Sequence[Disk]) -> dict[str, str]:
        """Return {name below the directory of unit files: text}."""

    @abc.abstractmethod
    def expected(self, name: str) -> Expected | None:
        """Return what the kernel shall say about a live slice, None if it is not ours."""


class Slices(Desired):
    """The slices in which containers run."""

    top = ROOT_SLICE
    unit_globs = (
        "ds01.slice",
        "ds01-*.slice",
        f"ds01-*.slice.d/{LIMITS_FILE}",
        f"ds01-*.slice.d/{OVERRIDE_FILE}",
        f"ds01-*.slice.d/{MOVED_FILE}",
    )

    def __init__(self, spec: SliceSpec, now: dt.datetime, host_group_of: Mapping[str, str]) -> None:
        """Take the specification and, for people in no members list, the group that the host's Unix groups give."""
        self._spec = spec
        self._now = now
        self._host_group_of = host_group_of

    def group_of(self, user: str) -> str | None:
        """Return the group a person is in now; None if the host does not know."""
        return self._spec.members.get(user) or self._host_group_of.get(user)

    def files(self, live: Collection[str], disks: Sequence[Disk]) -> dict[str, str]:
        """Return the units, the drop-ins of groups and overrides, and those of people who were moved."""
        spec = self._spec
        result = {
            ROOT_SLICE: render.slice_unit("All containers of this host", {}, disks),
            UNMANAGED_SLICE: render.slice_unit(
                "Containers that nobody asked DS01 for", spec.unmanaged.set_ones(), disks
            ),
        }
        for name, group in spec.groups.items():
            result[group_slice(name)] = render.slice_unit(
                f"Containers of group {name}", group.group_aggregate.set_ones(), disks
            )
            result[f"{user_slice_prefix(name)}.d/{LIMITS_FILE}"] = render.members_drop_in(
                group.aggregate.set_ones(), disks
            )
        for user, override in spec.overrides.items():
            if override.in_force(self._now) and override.given:
                slice_name = user_slice(self.group_of(user) or override.group, user)
                result[f"{slice_name}.d/{OVERRIDE_FILE}"] = render.drop_in(override.given, disks)
        for name in live:
            if (limits := self._moved(name)) is not None:
                result[f"{name}.d/{MOVED_FILE}"] = render.drop_in(limits.values(), disks)
        return result

    def expected(self, name: str) -> Expected | None:
        """Return the limits of a group, of a person, or of a person who was moved."""
        if name == UNMANAGED_SLICE:
            return Expected(self._spec.unmanaged.values())
        if (group := parse_group_slice(name)) is not None and group in self._spec.groups:
            return Expected(self._spec.groups[group].group_aggregate.values())
        if (owner := parse_user_slice(name)) is None:
            return None
        limits = self._moved(name) or self._spec.limits_of(owner.group, owner.user, self._now)
        return Expected(limits.values())

    def _moved(self, name: str) -> Limits | None:
        """Return the limits of a live slice whose owner is in another group now, None if the owner is not."""
        owner = parse_user_slice(name)
        if owner is None:
            return None
        group = self.group_of(owner.user)
        if group is None:
            # A name service that does not answer must not look like a change of group.
            group = owner.group if owner.group in self._spec.groups else self._spec.default_group
        if group == owner.group:
            return None
        new = self._spec.limits_of(group, owner.user, self._now)
        old = self._spec.groups.get(owner.group)
        return new if old is None else new.smaller(old.aggregate)


@dataclasses.dataclass(frozen=True, slots=True)
class LoginSpec:
    """What people run outside containers: its limits, and who has none."""

    limits: LimitValues
    exempt_users: tuple[str, ...]
    exempt_groups: tuple[str, ...]
    close_gpus: bool = False
    """Whether the GPUs of the host are closed to who is not exempt."""

    @classmethod
    def from_dict(cls, data: Any) -> LoginSpec:
        """Read the plain form: limits, `exempt_users`, `exempt_groups`, `close_gpus` side by side. Raises SpecError."""
        values = dict(mapping("logins", data))
        close_gpus = values.pop("close_gpus", False)
        if not isinstance(close_gpus, bool):
            raise SpecError(f"logins.close_gpus: {close_gpus!r}: expected true or false: correct the data given")
        names = {key: values.pop(key, []) for key in ("exempt_users", "exempt_groups")}
        for key, value in names.items():
            if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
                raise SpecError(f"logins.{key}: {value!r}: expected a list of names: correct the data given")
        given = {key: value for key, value in given_limits("logins", values).items() if value is not None}
        return cls(given, tuple(names["exempt_users"]), tuple(names["exempt_groups"]), close_gpus)


class Logins(Desired):
    """The slices in which systemd-logind runs the logins of each user."""

    top = LOGIN_ROOT_SLICE
    unit_globs = (f"user-*.slice.d/{LOGIN_FILE}",)

    def __init__(self, spec: LoginSpec, exempt_uids: Iterable[int]) -> None:
        """Take the specification and the uids of the exempt people on this host; root is always exempt."""
        self._spec = spec
        self._exempt = {0, *exempt_uids}

    def files(self, live: Collection[str], disks: Sequence[Disk]) -> dict[str, str]:
        """Return the drop-in for all users and those that hide it for the exempt ones."""
        del live
        if not self._spec.limits:
            return {}
        result = {f"user-.slice.d/{LOGIN_FILE}": render.drop_in(self._spec.limits, disks)}
        hidden = render.empty_drop_in("Empty on purpose: it hides the limits that user-.slice.d gives to other logins.")
        return result | {f"{login_slice(uid)}.d/{LOGIN_FILE}": hidden for uid in self._exempt}

    def expected(self, name: str) -> Expected | None:
        """Return the limits of a login, or what an exempt one must not have."""
        uid = parse_login_slice(name)
        if uid is None:
            return None
        if uid not in self._exempt:
            return Expected(self._spec.limits)
        # A weight that is the default anyway tells nothing.
        telling = {
            key: value
            for key, value in self._spec.limits.items()
            if not (key in WEIGHT_KEYS and value == WEIGHT_DEFAULT)
        }
        return Expected(telling, exempt=True)


class _Nothing(Desired):
    """What remains when a family is taken off a host: no file, nothing to expect."""

    removed = True

    def files(self, live: Collection[str], disks: Sequence[Disk]) -> dict[str, str]:
        """Return no file."""
        del live, disks
        return {}

    def expected(self, name: str) -> Expected | None:
        """Return what every slice meets."""
        del name
        return Expected({})


class NoSlices(_Nothing):
    """A host without the slices in which containers run."""

    top = Slices.top
    unit_globs = Slices.unit_globs


class NoLogins(_Nothing):
    """A host without limits of logins."""

    top = Logins.top
    unit_globs = Logins.unit_globs
