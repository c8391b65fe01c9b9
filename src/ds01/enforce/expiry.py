"""Overrides and exemptions whose last day is over: reported once each."""

from __future__ import annotations

from datetime import UTC, date
from typing import TYPE_CHECKING, NamedTuple

from ds01 import events
from ds01.enforce import state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ds01.policy import Policy


class Expired(NamedTuple):
    """Something of a person that has no effect any more."""

    kind: str
    user: str
    last_day: str

    @property
    def key(self) -> str:
        """What tells it from others of its kind, its next one included."""
        return f"{self.kind} {self.user} {self.last_day}"

    def __str__(self) -> str:
        """Return one line for people."""
        return f"{self.kind} of {self.user} ended on {self.last_day}"


def expired(policy: Policy, now: datetime) -> list[Expired]:
    """Return everything whose last day, in UTC, is before `now`."""
    today = now.astimezone(UTC).date()
    return [Expired(kind, user, day.isoformat()) for kind, user, day in _dated(policy) if day < today]


def report_expired(policy: Policy, now: datetime, *, dry_run: bool) -> list[Expired]:
    """Record an event for each thing that expired since the last call, and return these.

    Raises OSError when the state cannot be kept; events already written are then written again by the next call.
    """
    known = state.load()
    reported = known.get("expired", [])
    all_expired = expired(policy, now)
    new = [item for item in all_expired if item.key not in reported]
    keys = sorted({item.key for item in all_expired})
    if dry_run or keys == reported:
        return new
    for item in new:
        events.record(
            "policy.expire",
            actor=events.this_process("enforce"),
            subject={"kind": item.kind, "name": item.user},
            decision="changed",
            rule="user_overrides" if item.kind == "override" else "exemptions",
            reason=f"The {item}.",
            fix="Ask an administrator for a new one; it goes into the policy with a later date.",
        )
    state.save(known | {"expired": keys})
    return new


def _dated(policy: Policy) -> Iterator[tuple[str, str, date]]:
    for user, override in policy.user_overrides.items():
        if override.expires is not None:
            yield "override", user, override.expires
    for exemption in policy.exemptions:
        if exemption.expires is not None:
            yield "exemption", exemption.user, exemption.expires
