"""The GPU limits of people, from the policy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ds01.allocator.model import Limits, Person
from ds01.policy.exempting import exempting
from ds01.policy.resolver import group_of, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01.policy.resolver import Tables

_WHOLE = "group_aggregate.max_gpu_equivalents"
_UNUSED = "policies.created_container_timeout"
_GRACE = "policies.sigterm_grace"
_HOLD = "gpu_hold_after_stop"
_FIELDS = (
    "max_mig_instances",
    "max_gpu_equivalents",
    "max_gpus_per_container",
    "allow_full_gpu",
    _HOLD,
    "container_hold_after_stop",
    "max_runtime",
    "priority",
)


class People:
    """Looks up who may what in the tables of one policy (`ds01.policy.tables`)."""

    def __init__(self, tables: Tables) -> None:
        """Answer from these tables."""
        self._tables = tables

    @property
    def allocation(self) -> Mapping[str, Any]:
        """The section `gpu_allocation`."""
        section: Mapping[str, Any] = self._tables["gpu_allocation"]
        return section

    @property
    def reservations(self) -> list[dict[str, Any]]:
        """The reservations of the policy."""
        entries: list[dict[str, Any]] = self._tables["reservations"]
        return entries

    def group(self, user: str) -> str:
        """Return the group of somebody, as far as the policy alone says."""
        return group_of(self._tables, user)[0]

    def person(self, uid: int, user: str, now: int, unix_groups: Iterable[str] = ()) -> Person:
        """Return somebody with their limits at a moment (UTC ms); `unix_groups` are the person's groups by NSS."""
        at = datetime.fromtimestamp(now / 1000, UTC)
        resolved = resolve(self._tables, user, at, unix_groups)
        values: dict[str, Any] = {field: resolved.values.get(field) for field in _FIELDS}
        if exempting(self._tables, user, _HOLD, at) is not None:
            values[_HOLD] = None
        whole = self._tables["group_aggregate"].get(resolved.group, {})
        limits = Limits(
            **values,
            created_container_timeout=resolved.values[_UNUSED],
            sigterm_grace=resolved.values[_GRACE],
            group_equivalents=whole.get("max_gpu_equivalents"),
        )
        origins = {field: resolved.origins[field] for field in _FIELDS if field in resolved.origins}
        return Person(uid, user, resolved.group, limits, {**origins, _WHOLE: f"groups.{resolved.group}"})

    def known(self, uid: int, user: str, group: str, now: int) -> Person:
        """Return somebody whose group the ledger knows, without asking name services."""
        if group_of(self._tables, user)[0] == group:
            return self.person(uid, user, now)
        # Whoever is in the group by a directory service has the limits of its members.
        return self.person(uid, user, now, [name for name, of in self._tables["unix_groups"].items() if of == group])
