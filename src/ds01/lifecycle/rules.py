"""Which limits count for a container: by its owner, by its type, and less what is exempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ds01.ledger import View, permits
from ds01.policy.exempting import exempting
from ds01.policy.nss import exists, group_exists, unix_groups
from ds01.policy.resolver import Resolved, resolve

IDLE = "idle_timeout"
RUNTIME = "max_runtime"
HOLD = "container_hold_after_stop"
_CREDIBLE_MS: Final = 31 * 86_400_000
"""Nobody is kept for longer than their maximum or a month; a clock that is wrong is so by years."""


@dataclass(frozen=True)
class Rules:
    """The limits of one container; durations in milliseconds, None is never."""

    idle_timeout: int | None
    max_runtime: int | None
    container_hold: int | None
    created_timeout: int | None
    idle_from: str
    """Where in the policy the limit is."""
    runtime_from: str
    gpu_threshold: float | None
    cpu_threshold: float | None
    network_threshold: int | None
    looks: int
    grace: int
    idle_warn_at: tuple[float, ...]
    runtime_warn_at: tuple[float, ...]
    high_demand: float | None
    reduction: float
    keep_max: int | None
    extend_max: int | None
    sigterm_s: int
    rehearse: bool

    def kept_until(self, noted: int | None, now_ms: int) -> int:
        """Return until when a container is kept, 0: it is not. What a clock promised that ran ahead does not count.

        A maximum that was shortened since takes nothing back.
        """
        until = noted or 0
        return until if self.keep_max is None or until - now_ms <= max(self.keep_max, _CREDIBLE_MS) else 0


class Lawbook:
    """Answers from one policy, at one moment."""

    def __init__(self, tables: Mapping[str, Any], view: View) -> None:
        """Take the policy, and the ledger with the exemptions."""
        self._tables = dict(tables)
        self._view = view
        self._now = datetime.fromtimestamp(view.now / 1000, UTC)
        self._people: dict[str, Resolved] = {}
        self.now_ms = view.now
        """This moment, UTC."""
        self.look_ms = int(self._tables["monitoring"].get("sample_interval", 0)) * 1000
        """Time between two looks of the monitor."""

    def rules(self, user: str, kind: str) -> Rules:
        """Return the limits of a container of this type and owner."""
        person = self._person(user)
        values = person.values
        given: Mapping[str, Any] | None = self._tables["container_types"].get(kind)

        def of(field: str) -> tuple[Any, str]:
            own = values[field]
            # A type rests on labels, which anybody may give: it can shorten what its owner has, never lengthen it. What
            # was agreed for one person holds whatever the container is made with.
            if given is None or given[field] is None or person.origins[field].startswith("user_overrides."):
                return own, f"{person.origins[field]}.{field}"
            if own is not None and own <= given[field]:
                return own, f"{person.origins[field]}.{field}"
            return given[field], f"container_types.{kind}.{field}"

        def policy(field: str) -> Any:
            return values[f"policies.{field}"]

        idle, idle_from = of(IDLE)
        runtime, runtime_from = of(RUNTIME)
        return Rules(
            idle_timeout=_ms(idle),
            max_runtime=_ms(runtime),
            container_hold=_ms(values[HOLD]),
            created_timeout=_ms(policy("created_container_timeout")),
            idle_from=idle_from,
            runtime_from=runtime_from,
            gpu_threshold=policy("gpu_idle_threshold"),
            cpu_threshold=policy("cpu_idle_threshold"),
            network_threshold=policy("network_idle_threshold"),
            looks=policy("idle_detection_window"),
            grace=policy("grace_period") * 1000,
            idle_warn_at=tuple(sorted(policy("idle_warn_at"))),
            runtime_warn_at=tuple(sorted(policy("runtime_warn_at"))),
            high_demand=policy("high_demand_threshold"),
            reduction=policy("high_demand_idle_reduction"),
            keep_max=_ms(policy("keepalive_max_duration")),
            extend_max=_ms(policy("extend_max_duration")),
            sigterm_s=given["sigterm_grace"] if given else policy("sigterm_grace"),
            rehearse=policy("rehearse"),
        )

    def knows(self, user: str) -> bool:
        """Whether it can be told now what counts for somebody.

        When a directory service is away, people are numbers or in fewer groups, and would have the limits of strangers.
        """
        if user in self._tables["members"] or user in self._tables["overrides"]:
            return True
        return exists(user) and (
            self._person(user).group_from != "default_group" or all(map(group_exists, self._tables["unix_groups"]))
        )

    def exempt(self, uid: int, user: str, rule: str, container: str) -> str | None:
        """Return why a rule does not count for somebody's container now, or None if it does."""
        granted = permits.counting(self._view, "exemptions", uid, rule, container)
        if granted is not None:
            return f"{granted.reason} (exemption {granted.id}, approved by {granted.approved_by})"
        return exempting(self._tables, user, rule, self._now)

    def _person(self, user: str) -> Resolved:
        if user not in self._people:
            self._people[user] = resolve(self._tables, user, self._now, unix_groups(self._tables, user))
        return self._people[user]


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def span(milliseconds: float) -> str:
    """Return a duration for people, to the minute."""
    left = timedelta(milliseconds=max(0, milliseconds))
    days, minutes = left.days, left.seconds // 60
    parts = ((days, "d"), (minutes // 60, "h"), (minutes % 60, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or f"{left.seconds} s"
