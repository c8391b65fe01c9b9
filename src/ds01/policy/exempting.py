"""For whom a lifecycle rule does not count, as the policy says."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from ds01.policy.resolver import Tables


def exempting(tables: Tables, user: str, rule: str, now: datetime) -> str | None:
    """Return why a rule does not count for somebody now, or None if it does. The last day counts whole, in UTC."""
    for entry in tables["exemptions"]:
        last = entry["expires"]
        over = last is not None and now.date() > date.fromisoformat(last)
        if entry["user"] == user and rule in entry["exempt_from"] and not over:
            return entry["reason"] or "the policy exempts its owner"
    return None
