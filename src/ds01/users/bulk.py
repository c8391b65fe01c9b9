"""All people of a host in one go: what `library/ds01_users.py` and the tests call."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .. import events
from ..files import ensure_directory
from ..locks import exclusive
from ..problems import Problem, RefusedError
from . import register
from .accounts import Accounts, locked
from .apply import Outcome, apply
from .model import Change, Person
from .plan import Plan, Planner, Settings
from .quotaplan import QuotaPlan, plan_quotas
from .spec import parse_people

RUN_LOCK: Final = Path("/run/ds01/users.lock")
_LOCK_TIMEOUT_S: Final = 60.0
"""A run for 500 people takes seconds; whoever waits longer waits for something that hangs."""

_NOTHING: Final = frozenset({"", "absent"})


def run(config: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Bring the people of this host in line with the list.

    Args:
        config: `people` (see `ds01.users.spec`), and optionally `home_base`, `scratch_base` (None: no scratch
            directories), `quotas` (False: none).
        check: Only say what would be done.

    Returns:
        changed, created, changes (login, what, before, after), unlisted, unresolved, past, quota, warnings,
        failed, diff.

    Raises:
        RefusedError: The list or the host stands against it; nothing was changed. Holds all problems.
        ApplyError: The host refused a change; nothing was changed.
    """
    people, problems = parse_people(config.get("people"))
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(one_run())
        settings = _settings(config)
        # A directory service may answer late or never: it is asked before everybody else's passwd(1) has to wait.
        plan, quotas = _plan(people, problems, settings, config)
        outcome = Outcome()
        if not check and plan.changed:
            with locked():
                # Of the files as they are now that nobody else writes them.
                plan, quotas = _plan(people, problems, settings, config)
                outcome = apply(plan, quotas)
    if not check:
        _record(plan, outcome)
    return _result(plan, quotas, outcome)


def _plan(
    people: Sequence[Person], problems: Sequence[Problem], settings: Settings, config: Mapping[str, Any]
) -> tuple[Plan, QuotaPlan]:
    """Compare the list with the host. Raises RefusedError with all problems, those of the list first."""
    plan, found = Planner(people, Accounts(), settings).make()
    if problems or found:
        raise RefusedError([*problems, *found])
    if not config.get("quotas", True):
        return plan, QuotaPlan()
    return plan, plan_quotas(plan.people, settings.home_base, settings.scratch_base)


def one_run(path: Path = RUN_LOCK, timeout_s: float = _LOCK_TIMEOUT_S) -> contextlib.AbstractContextManager[None]:
    """Keep other runs for people off this host.

    Raises:
        ApplyError: Another run is still at work after the time-out.
    """
    ensure_directory(path.parent, mode=0o755)
    return exclusive(path, timeout_s, "another run for people is at work: wait for it to end")


def _settings(config: Mapping[str, Any]) -> Settings:
    return Settings(
        home_base=config.get("home_base") or "/home",
        scratch_base=config.get("scratch_base"),
        reserved_uids=register.reserved_uids(),
        disabled=register.disabled(),
        today=dt.datetime.now(dt.UTC).date(),
    )


def _record(plan: Plan, outcome: Outcome) -> None:
    for person in plan.people:
        if not person.changes:
            continue
        failure = outcome.failed.get(person.login) or outcome.left_alone.get(person.login)
        if person.restore and failure is None:
            _mark_returned(person.login)
        events.record(
            "user.add" if person.origin == "new" else "user.change",
            subject={"kind": "user", "name": person.login, "id": person.uid},
            decision="changed" if failure is None else "failed",
            rule="people",
            reason=failure or "the list of people differed from the host",
            details={change.what: change.after for change in person.changes},
        )


def _mark_returned(login: str) -> None:
    for leaver in register.load_all():
        if leaver.login == login:
            leaver.stage = "returned"
            leaver.save()


def _result(plan: Plan, quotas: QuotaPlan, outcome: Outcome) -> dict[str, Any]:
    changes = plan.all_changes()
    warnings = [*plan.warnings, *quotas.warnings]
    warnings += [f"{login}: {reason}: left alone" for login, reason in outcome.left_alone.items()]
    warnings += [f"{name}: not known here nor in a directory: no account was made" for name in plan.unresolved]
    return {
        "changed": plan.changed,
        "created": [person.login for person in plan.people if person.origin == "new"],
        "changes": [
            {"login": change.login, "what": change.what, "before": change.before, "after": change.after}
            for change in changes
        ],
        "unlisted": plan.unlisted,
        "unresolved": plan.unresolved,
        "past": plan.past,
        "quota": {
            kind: {"supported": found.supported, "mount": found.mount, "reason": found.reason, "fix": found.fix}
            for kind, found in quotas.support.items()
        },
        "warnings": warnings,
        "failed": outcome.failed,
        "diff": {"before": text_of(changes, before=True), "after": text_of(changes, before=False)},
    }


def text_of(changes: Sequence[Change], *, before: bool) -> str:
    """Return one side of a diff for people."""
    values = ((change, change.before if before else change.after) for change in changes)
    return "".join(
        f"{change.login or 'host'}: {change.what}: {value}\n" for change, value in values if value not in _NOTHING
    )
