"""Overrides and exemptions whose last day is over: reported once each. Whose override ends is told before it does."""

from __future__ import annotations

import pwd
from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ds01 import events
from ds01.enforce import state
from ds01.ledger import JOB_DEADLINE_S, Ledger, lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from ds01.policy import Policy

_AHEAD: Final = timedelta(days=2)
"""So long before the last day of an override its owner is told. Of an exemption they need not be: what it spared them
has warnings of its own."""
_ONCE_MS: Final = 7 * 86_400_000


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


def tell_of_ends(policy: Policy, now: datetime, ledger_path: Path, *, dry_run: bool) -> list[str]:
    """Tell people, once, that their override ends soon: then the kernel may end what takes more memory than they have.

    Returns one line for each who is told. Raises LedgerError.
    """
    today = now.astimezone(UTC).date()
    soon = {user: day for kind, user, day in _dated(policy) if kind == "override" and today <= day <= today + _AHEAD}
    # Before the ledger is taken: name services may be slow.
    known = [(user, uid, day) for user, day in soon.items() if (uid := _uid(user)) is not None]
    if not known:
        return []
    with Ledger(ledger_path, deadline_s=JOB_DEADLINE_S) as ledger, ledger.transaction(keep=not dry_run) as tx:
        return [
            f"{user} is told that the override ends on {day}"
            for user, uid, day in known
            if lifecycle.tell(tx, uid, "notice", "your limits", _warning(day), repeat_after_ms=_ONCE_MS)
        ]


def _warning(day: date) -> str:
    return (
        f"What you may have beyond your group counts until the end of {day} (UTC). Then your limits are those of the "
        "group, at once, also for what runs: where it takes more memory, the kernel ends programs. Save your work "
        "before, or ask an administrator for a later day."
    )


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _dated(policy: Policy) -> Iterator[tuple[str, str, date]]:
    for user, override in policy.user_overrides.items():
        if override.expires is not None:
            yield "override", user, override.expires
    for exemption in policy.exemptions:
        if exemption.expires is not None:
            yield "exemption", exemption.user, exemption.expires
