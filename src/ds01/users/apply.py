"""Carry out a plan: homes of new people first, then the account files in one step, then everything else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..problems import ApplyError
from . import homes, keys
from .identity import UnsafeError, open_owned_directory
from .model import PersonPlan
from .plan import Plan
from .quotaplan import QuotaPlan


@dataclass(slots=True)
class Outcome:
    """What a run did and what it could not do."""

    files: list[str] = field(default_factory=list)
    """Account files that were replaced."""
    failed: dict[str, str] = field(default_factory=dict)
    """login or mount point -> why."""
    left_alone: dict[str, str] = field(default_factory=dict)
    """login -> what the person has put in the way; nobody can fail the run for the others by that."""


def apply(plan: Plan, quotas: QuotaPlan) -> Outcome:
    """Make the host match. The caller holds the lock of the account files.

    A new person's account appears only when the home with its keys is whole. Where one such home cannot be made
    (a full disk), the homes made by this run are taken away again and the account files stay as they are.

    Raises:
        ApplyError: Nothing was changed.
    """
    outcome = Outcome()
    settings = plan.settings
    made: list[PersonPlan] = []
    try:
        homes.ensure_base(settings.home_base, 0o755)
        if settings.scratch_base is not None:
            homes.ensure_base(settings.scratch_base, settings.scratch_mode)
            homes.sweep(settings.scratch_base)
        homes.sweep(settings.home_base)
        for person in plan.people:
            if person.origin == "new" and person.make_home:
                homes.make_home(person.home, person.uid, person.gid, person.keys_text, skel=settings.skel)
                made.append(person)
        outcome.files = plan.accounts.commit()
    except (OSError, ApplyError) as error:
        for person in made:
            homes.remove_home(person.home, person.uid, person.gid)
        if isinstance(error, ApplyError):
            raise
        raise ApplyError(
            f"{error.filename or settings.home_base}: {error.strerror}: no account was made: free space and run again"
        ) from error
    for person in plan.people:
        _files(person, plan, outcome)
    failed, left_alone = quotas.apply()
    outcome.failed |= failed
    outcome.left_alone |= left_alone
    return outcome


def _files(person: PersonPlan, plan: Plan, outcome: Outcome) -> None:
    steps: list[tuple[bool, Callable[[], object]]] = [
        (person.make_home and person.origin != "new", lambda: _home(person, plan)),
        (person.fix_home_mode, lambda: homes.make_private(person.home, person.uid, person.gid)),
        (person.restore and person.home_usable and not person.make_home, lambda: _bring_back(person)),
        (person.keys_text is not None and not person.make_home, lambda: _keys(person)),
        (person.make_scratch, lambda: homes.make_directory(person.scratch or "", person.uid, person.gid)),
        (person.fix_scratch_mode, lambda: homes.make_private(person.scratch or "", person.uid, person.gid)),
    ]
    for needed, step in steps:
        if not needed:
            continue
        try:
            step()
        except UnsafeError as error:
            outcome.left_alone[person.login] = str(error)
        except OSError as error:
            outcome.failed[person.login] = str(error)


def _home(person: PersonPlan, plan: Plan) -> None:
    homes.make_home(person.home, person.uid, person.gid, person.keys_text, skel=plan.settings.skel)


def _bring_back(person: PersonPlan) -> None:
    with _opened(person) as home:
        keys.bring_back(home, person.uid, person.gid)


def _keys(person: PersonPlan) -> None:
    with _opened(person) as home:
        keys.write(home, person.uid, person.gid, person.keys_text or "")


@contextlib.contextmanager
def _opened(person: PersonPlan) -> Iterator[int]:
    home = open_owned_directory(person.home, person.uid)
    try:
        yield home
    finally:
        os.close(home)
