"""The two Unix groups that everything else refers to, for those who need them before there are people."""

from __future__ import annotations

from collections.abc import Sequence

from .accounts import Accounts, locked
from .ids import Ids, login_defs
from .memberships import group_known
from .model import ADMIN_GROUP, USERS_GROUP, Change


class GroupPlan:
    """Which of the groups are missing, and the gids they would get."""

    def __init__(self, names: Sequence[str] = (USERS_GROUP, ADMIN_GROUP)) -> None:
        """Look at the host; change nothing."""
        self._names = names
        self._accounts = Accounts()
        self.gids: dict[str, int] = {}
        self.changes: list[Change] = []
        self._add()

    def commit(self) -> None:
        """Make the missing groups, with the numbers that are free at this moment.

        Raises:
            ApplyError: The account files could not be changed.
        """
        if not self.changes:
            return
        with locked():
            self._accounts = Accounts()
            self.gids.clear()
            self.changes.clear()
            self._add()
            self._accounts.commit()

    def _add(self) -> None:
        ids = Ids(self._accounts, login_defs())
        for name in self._names:
            if name not in self._accounts.group and not group_known(name):
                self.gids[name] = ids.new_system_gid()
                self._accounts.add_group(name, self.gids[name])
                self.changes.append(Change("", f"group {name}", "absent", "group"))
