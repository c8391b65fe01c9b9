"""Who is in which Unix group: exact for the groups that are managed, added to for all others."""

from __future__ import annotations

import grp
from collections.abc import Iterable, Mapping

from ..problems import Problem
from .accounts import Accounts
from .model import PersonPlan


def settle(
    people: Iterable[PersonPlan], accounts: Accounts, managed: Iterable[str], *, nss: bool
) -> tuple[list[str], list[Problem]]:
    """Edit the groups in memory and note the changes with each person.

    Args:
        people: Everybody whose memberships are looked at.
        accounts: The account database.
        managed: Groups of which a listed person is a member only if the list says so.
        nss: Ask the directories for groups that are not in the files.

    Returns:
        Warnings and problems.
    """
    people = list(people)
    problems: list[Problem] = []
    warnings: list[str] = []
    wanted: dict[str, dict[str, bool]] = {group: {plan.login: False for plan in people} for group in managed}
    for plan in people:
        for group in plan.person.groups:
            if group in wanted or group in accounts.group or (nss and group_known(group)):
                wanted.setdefault(group, {})[plan.login] = True
                continue
            where = f"people.{plan.person.name}.groups"
            problems.append(Problem(where, group, "a group of this host", "create it, or correct the name"))
    gained: dict[str, list[str]] = {}
    for group, members in wanted.items():
        if group in accounts.group:
            _edit(accounts, group, members, gained)
        else:
            missing = (login for login, belongs in members.items() if belongs and login not in _nss_members(group))
            warnings += [f"{login}: group {group} comes from the directory: add the person there" for login in missing]
    for plan in people:
        if plan.login in gained:
            plan.note("groups", "", " ".join(gained[plan.login]))
    return warnings, problems


def group_known(name: str) -> bool:
    """Say whether this host or a directory has a group."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _edit(accounts: Accounts, group: str, members: Mapping[str, bool], gained: dict[str, list[str]]) -> None:
    before = accounts.members(group)
    present = set(before)
    after = [login for login in before if members.get(login, True)]
    after += [login for login, belongs in members.items() if belongs and login not in present]
    for login, belongs in members.items():
        if belongs != (login in present):
            gained.setdefault(login, []).append(("+" if belongs else "-") + group)
    if after != before:
        accounts.set_members(group, after)


def _nss_members(group: str) -> list[str]:
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []
