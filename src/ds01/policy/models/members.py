"""Who is who: groups, overrides, exemptions, reservations."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, ClassVar

from ds01.policy.fields import Choice, Whole
from ds01.policy.models.base import SUFFIXES, Old, Section
from ds01.policy.models.limits import GroupAggregate, Limits
from ds01.policy.text_fields import Day, Instant, Name, Text

_FILE = "a file name, relative to the policy file"
_REASON = "a reason in one sentence"


class Group(Limits):
    """One group: its limits where they differ from `defaults`, and its members."""

    description: Annotated[str | None, Text(nullable=True, null_means="none")] = None
    """What the group is for."""
    members: tuple[Annotated[str, Name("user")], ...] = ()
    """Login names."""
    members_file: Annotated[str | None, Text(describe=_FILE, nullable=True, null_means="none")] = None
    """File with one login name per line; # starts a comment. Path relative to the policy file."""
    unix_group: Annotated[str | None, Name("unix_group", nullable=True, null_means="none")] = None
    """Unix group (also AD or LDAP) whose members belong here; looked up on the host."""
    group_aggregate: GroupAggregate = GroupAggregate()
    """Limits of the group as a whole."""


class Window(Section):
    """A time in which GPU devices are kept for somebody."""

    start: Annotated[datetime, Instant()]
    """First moment (UTC)."""
    end: Annotated[datetime, Instant()]
    """End (UTC), later than start."""
    devices: tuple[
        Annotated[str, Text(r"[0-9]+(:[0-9]+)?|(MIG-|GPU-)[0-9A-Za-z/-]+", 'a device like "0", "0:1" or a UUID')], ...
    ] = ()
    """The devices: GPU `0`, MIG device `0:1`, or a UUID. None named: any `gpus` devices."""
    gpus: Annotated[int, Whole(1, 4_096)] = 1
    """How many devices, when none are named."""
    reason: Annotated[str | None, Text(describe=_REASON, nullable=True, null_means="none")] = None
    """Why."""


class Reservation(Window):
    """A reservation for a person or a group."""

    user: Annotated[str | None, Name("user", nullable=True, null_means="none")] = None
    """For this person."""
    group: Annotated[str | None, Name("group", nullable=True, null_means="none")] = None
    """For this group. Name either `user` or `group`."""


class Override(Limits):
    """Other limits for one person, who stays in the group. What is not set here comes from there."""

    reason: Annotated[str | None, Text(describe=_REASON, nullable=True, null_means="none")] = None
    """Why this person has other limits."""
    approved_by: Annotated[str | None, Text(nullable=True, null_means="none")] = None
    """Who agreed."""
    approved_on: Annotated[date | None, Day(nullable=True, null_means="unknown")] = None
    """When."""
    expires: Annotated[date | None, Day(nullable=True, null_means="never")] = None
    """Last UTC day on which the override counts."""
    reservation_start: Annotated[datetime | None, Instant(nullable=True, null_means="none")] = None
    """Start (UTC) of one reservation for this person."""
    reservation_end: Annotated[datetime | None, Instant(nullable=True, null_means="none")] = None
    """End (UTC) of that reservation."""
    reservations: tuple[Window, ...] = ()
    """Reservations for this person, when one is not enough or devices are named."""

    old_names: ClassVar[dict[str, Old]] = {**Limits.old_names, "expires_on": Old(to="expires")}

    def all_windows(self) -> tuple[Window, ...]:
        """Return all reservations of the person, the single one last."""
        if self.reservation_start is None or self.reservation_end is None:
            return self.reservations
        single = Window.model_construct(start=self.reservation_start, end=self.reservation_end)
        return (*self.reservations, single)


class ExemptFrom(Choice):
    """A lifecycle rule; the old suffixed names are the same rules."""

    def parse(self, value: Any) -> str:
        """Return the name without the suffix of the unit."""
        if isinstance(value, str) and value[-2:] in SUFFIXES:
            value = value[:-2]
        return super().parse(value)


class Exemption(Section):
    """A person for whom some lifecycle rules do not count."""

    old_names: ClassVar[dict[str, Old]] = {"username": Old(to="user"), "expires_on": Old(to="expires")}

    user: Annotated[str, Name("user")]
    """The person."""
    exempt_from: tuple[
        Annotated[str, ExemptFrom("idle_timeout", "max_runtime", "gpu_hold_after_stop", "container_hold_after_stop")],
        ...,
    ] = ()
    """The rules that do not count."""
    category: Annotated[str | None, Text(nullable=True, null_means="none")] = None
    """Free word for reports, like research or teaching."""
    reason: Annotated[str | None, Text(describe=_REASON, nullable=True, null_means="none")] = None
    """Why."""
    approved_by: Annotated[str | None, Text(nullable=True, null_means="none")] = None
    """Who agreed."""
    approved_on: Annotated[date | None, Day(nullable=True, null_means="unknown")] = None
    """When."""
    expires: Annotated[date | None, Day(nullable=True, null_means="never")] = None
    """Last UTC day on which the exemption counts."""
