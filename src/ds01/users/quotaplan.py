"""Which quotas differ from the list, and setting them in one call for each file system."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..files import atomic_write, ensure_directory, remove_file
from . import quota
from .identity import UnsafeError
from .model import Change, PersonPlan
from .quota import Limit, Support

RECORD: Final = Path("/var/lib/ds01/quotas.json")
"""What every limit was before us, by mount point and project, so that it can be given back."""


@dataclass(frozen=True, slots=True)
class _Assignment:
    login: str
    path: str
    uid: int
    project: int


@dataclass(slots=True)
class QuotaPlan:
    """What has to be set, by mount point."""

    limits: dict[str, dict[int, Limit]] = field(default_factory=dict)
    before: dict[str, dict[int, Limit]] = field(default_factory=dict)
    """What these are now."""
    assignments: list[_Assignment] = field(default_factory=list)
    support: dict[str, Support] = field(default_factory=dict)
    """By kind, for the directory most people have."""
    warnings: list[str] = field(default_factory=list)

    def apply(self) -> tuple[dict[str, str], dict[str, str]]:
        """Set limits first, then put directories under them.

        Returns:
            Login or mount point -> what could not be set, and login -> what the person has put in the way.
        """
        failed: dict[str, str] = {}
        left_alone: dict[str, str] = {}
        if self.limits:
            _remember(self.before)
        for mount, wanted in self.limits.items():
            try:
                quota.set_limits(mount, wanted)
            except OSError as error:
                failed[mount] = str(error)
        for item in self.assignments:
            try:
                quota.assign(item.path, item.uid, item.project)
            except UnsafeError as error:
                left_alone[item.login] = f"{item.path}: quota: {error}"
            except OSError as error:
                failed[item.login] = f"{item.path}: quota: {error}"
        return failed, left_alone


def plan_quotas(people: Iterable[PersonPlan], home_base: str, scratch_base: str | None) -> QuotaPlan:
    """Compare the quotas of the list with the host, and note the differences with each person."""
    result = QuotaPlan(support={"home": quota.support(home_base)})
    if scratch_base is not None:
        result.support["scratch"] = quota.support(scratch_base)
    supports: dict[str, Support] = {}
    current: dict[str, dict[int, Limit]] = {}
    without: dict[str, list[str]] = {}
    for plan in people:
        for kind, path, size in _wishes(plan):
            above = path.rpartition("/")[0] or "/"
            if above not in supports:
                supports[above] = quota.support(above)
            found = supports[above]
            if not found.supported:
                if size is not None:
                    without.setdefault(f"{above}: {found.reason}: {found.fix}", []).append(plan.login)
                continue
            if found.mount not in current:
                current[found.mount] = quota.limits(found.mount)
            number = quota.project_of(plan.uid, kind)
            before = current[found.mount].get(number, Limit())
            wanted = Limit(block_hard=0 if size is None else -(-size // quota.BLOCK))
            if wanted.block_hard != before.block_hard:
                result.limits.setdefault(found.mount, {})[number] = wanted
                result.before.setdefault(found.mount, {})[number] = before
                plan.note(f"{kind} quota", _words(before), _words(wanted))
            if size is not None:
                _assign(result, plan, kind, path)
    for reason, logins in without.items():
        result.warnings.append(f"no quota for {len(logins)} people: {reason}")
    return result


def _wishes(plan: PersonPlan) -> Iterable[tuple[str, str, int | None]]:
    if plan.home_usable:
        yield "home", plan.home, plan.person.quota_home
    if plan.scratch is not None:
        yield "scratch", plan.scratch, plan.person.quota_scratch


def _assign(result: QuotaPlan, plan: PersonPlan, kind: str, path: str) -> None:
    number = quota.project_of(plan.uid, kind)
    if quota.project(path, plan.uid) != number:
        result.assignments.append(_Assignment(plan.login, path, plan.uid, number))
        plan.note(f"{kind} project", "outside", str(number))


def _words(limit: Limit) -> str:
    return f"{limit.block_hard * quota.BLOCK / 2**30:g} GiB" if limit.block_hard else "none"


def undo(*, check: bool) -> tuple[list[Change], list[str]]:
    """Give every limit back as it was. What people's files are counted under stays: without a limit it means nothing.

    Returns:
        What changes, and what could not be given back.

    Raises:
        OSError: The record could not be removed.
    """
    changes: list[Change] = []
    warnings: list[str] = []
    for mount, before in _remembered().items():
        try:
            now = quota.limits(mount)
            back = {number: limit for number, limit in before.items() if now.get(number, Limit()) != limit}
            if back and not check:
                quota.set_limits(mount, back)
        except OSError as error:
            fix = f"switch quotas on there and set those of {RECORD.name} with setquota -P"
            warnings.append(f"{error}: {len(before)} disk quotas stay: {fix}: {_as_text({mount: before})}")
            continue
        if back:
            changes.append(Change("", f"disk quotas on {mount}", f"{len(back)} of the policy", "as before"))
    if not check:
        remove_file(RECORD)
    return changes, warnings


def _remember(before: Mapping[str, Mapping[int, Limit]]) -> None:
    known = _remembered()
    for mount, limits in before.items():
        known[mount] = {**limits, **known.get(mount, {})}
    ensure_directory(RECORD.parent, mode=0o755)
    atomic_write(RECORD, _as_text(known) + "\n", mode=0o600)


def _remembered() -> dict[str, dict[int, Limit]]:
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {mount: {int(number): Limit(*limit) for number, limit in limits.items()} for mount, limits in found.items()}


def _as_text(limits: Mapping[str, Mapping[int, Limit]]) -> str:
    return json.dumps(limits)
