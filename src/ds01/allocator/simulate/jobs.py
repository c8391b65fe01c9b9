"""The requests of a week: made up from the people in a policy, read from a file, or as they were on this host."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ds01.allocator.request import Request
from ds01.problems import ReportedError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ds01.ledger import View

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_BY_HOUR = [1] * 8 + [4, 8, 10, 10, 7, 9, 10, 10, 9, 7, 5, 4, 3, 3, 2, 1]
"""How much begins in each hour of a day: a university's day, with some work at night."""
_WEEKEND = 0.4
"""Of a working day; the first day is a Monday."""
_MEDIAN_HOURS = 3.0
_SPREAD = 1.2
"""Of the logarithm of hours: one job in ten is longer than 14 hours, as in published traces of shared clusters."""
_MIX = ((0.80, "any"), (0.90, "memory"), (0.96, "two"), (1.0, "full"))
_MEMORY = 30 * 2**30


@dataclass(frozen=True, slots=True)
class Job:
    """Somebody wants devices at a time (ms since the beginning) for some milliseconds, and waits so long for them."""

    at: int
    user: str
    request: Request
    lasts: int
    patience: int = DAY_MS


def generated(users: Iterable[str], days: int, per_week: float, seed: int) -> list[Job]:
    """Return made-up requests: `per_week` of each person on average. The same seed gives the same requests."""
    chance = random.Random(seed)  # noqa: S311 - not for secrets: it must be the same each time
    slots = [
        (day, hour, weight * (_WEEKEND if day % 7 >= 5 else 1))  # noqa: PLR2004 - Saturday
        for day in range(days)
        for hour, weight in enumerate(_BY_HOUR)
    ]
    weights = [weight for _, _, weight in slots]
    jobs = []
    for user in sorted(users):
        # Some work much more than others: an exponential share of the mean.
        count = round(chance.expovariate(1 / per_week) * days / 7) if per_week > 0 else 0
        for day, hour, _ in chance.choices(slots, weights, k=count):
            at = day * DAY_MS + hour * HOUR_MS + chance.randrange(HOUR_MS)
            hours = min(_MEDIAN_HOURS * chance.lognormvariate(0, _SPREAD), 7 * 24)
            jobs.append(Job(at, user, _wanted(chance.random()), max(60_000, int(hours * HOUR_MS))))
    return sorted(jobs, key=lambda job: (job.at, job.user))


def _wanted(draw: float) -> Request:
    kind = next(kind for limit, kind in _MIX if draw <= limit)
    if kind == "memory":
        return Request(memory_bytes=_MEMORY)
    return Request(count=2) if kind == "two" else Request(full=kind == "full")


def read(path: Path) -> list[Job]:
    """Return the requests of a file: one JSON object a line. Raises ReportedError.

    Keys: `hour` (since the beginning), `user`, `hours`, and as the request has them `count`, `profile`,
    `memory_bytes`, `full`; `patience_hours` how long it waits at most.
    """
    jobs = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            jobs.append(_job(json.loads(line)))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            example = '{"hour": 9.5, "user": "alice", "hours": 3, "count": 1}'
            raise ReportedError(f"{path}:{number}: {error}: write lines like {example}") from error
    return sorted(jobs, key=lambda job: (job.at, job.user))


def _job(data: dict[str, Any]) -> Job:
    rest = dict(data)
    at, lasts = _milliseconds(rest.pop("hour")), _milliseconds(rest.pop("hours"))
    user, patience = str(rest.pop("user")), _milliseconds(rest.pop("patience_hours", 24))
    if at < 0 or lasts <= 0 or patience < 0:
        raise ValueError("hour and patience_hours are at least 0, hours more than 0")
    return Job(at, user, Request.from_dict(rest), lasts, patience)


def _milliseconds(hours: Any) -> int:
    # A text could be multiplied as well.
    if isinstance(hours, bool) or not isinstance(hours, int | float):
        raise ValueError(f"{shown(hours)} is no number of hours")  # noqa: TRY004 - of the file, not of our code
    return int(hours * HOUR_MS)


def written(jobs: Iterable[Job]) -> str:
    """Return requests in the form that `read` takes."""
    lines = []
    for job in jobs:
        data: dict[str, Any] = {"hour": round(job.at / HOUR_MS, 4), "user": job.user}
        data |= {"hours": round(job.lasts / HOUR_MS, 4), "patience_hours": round(job.patience / HOUR_MS, 2)}
        asked = job.request.as_dict()
        lines.append(json.dumps(data | {key: asked[key] for key in ("count", "profile", "memory_bytes", "full")}))
    return "\n".join(lines) + "\n"


def recorded(view: View, days: int) -> list[Job]:
    """Return the requests that were granted on this host in the last days, for as long as their containers ran."""
    since = view.now - days * DAY_MS
    found = view.rows(
        _Past,
        "SELECT c.created, c.user, c.request, max(u.ran) AS ran FROM claims c JOIN leases l USING (token)"
        " JOIN (SELECT lease, sum(gpu_ms) AS ran FROM usage WHERE kind = 'running' AND closed_at IS NOT NULL"
        " GROUP BY lease) u ON u.lease = l.id WHERE c.created >= ? AND u.ran > 0 GROUP BY c.token ORDER BY c.created",
        (since,),
    )
    jobs = []
    for past in found:
        asked = Request.stored(past.request) or Request()
        # Devices by name exist only here; another division has others.
        request = Request(asked.count, asked.profile, asked.memory_bytes, asked.full)
        jobs.append(Job(past.created - since, past.user, request, past.ran))
    return jobs


class _Past(NamedTuple):
    created: int
    user: str
    request: str
    ran: int
