"""What answers need: the policy, the ledger, the allocator, and people by their names."""

from __future__ import annotations

import pwd
import time
from functools import cached_property
from typing import TYPE_CHECKING

from ds01.api.errors import NOT_THERE, error
from ds01.engine import owners
from ds01.policy.names import check_user
from ds01.policy.nss import unix_groups
from ds01.policy.problems import BadValue

if TYPE_CHECKING:
    from ds01.allocator.model import Person
    from ds01.allocator.people import People
    from ds01.allocator.service import Allocator
    from ds01.api.call import Asker, Call
    from ds01.engine.api import Engine
    from ds01.ledger import Ledger, View
    from ds01.policy.resolver import Tables


class Desk:
    """One place to answer from; for one thread."""

    def __init__(self, tables: Tables, ledger: Ledger, *, specs: bool, engine: Engine) -> None:
        """Work with these.

        Args:
            tables: The policy in force.
            ledger: Who holds what.
            specs: Whether an engine works by this ledger, so that CDI specs follow it.
            engine: The engine of the containers.
        """
        self.tables = tables
        self.ledger = ledger
        self.engine = engine
        self._specs = specs

    @cached_property
    def allocator(self) -> Allocator:
        """Who gives devices, by this policy."""
        from ds01.allocator.people import People  # noqa: PLC0415 - most questions need no allocator
        from ds01.allocator.service import Allocator  # noqa: PLC0415 - as above
        from ds01.cdi.files import SpecFiles  # noqa: PLC0415 - as above

        return Allocator(self.ledger, People(self.tables), SpecFiles() if self._specs else None)

    @property
    def of_host(self) -> bool:
        """Whether this is the ledger by which this host works, and not a file of somebody's."""
        return self._specs

    @property
    def people(self) -> People:
        """The GPU limits of people."""
        return self.allocator.people

    @property
    def groups(self) -> list[str]:
        """The names of the groups in the policy."""
        return sorted(self.tables["groups"])

    def person(self, user: str) -> Person:
        """Return somebody who has an account here. Raises ApiError."""
        return self.people.person(uid_of(user), user, now_ms(), unix_groups(self.tables, user))

    def subject(self, call: Call) -> Person:
        """Return whom a question is about. Raises ApiError."""
        user = call.subject()
        if user is not None:
            return self.person(user)
        asker = call.asker
        return self.people.person(asker.uid, asker.user, now_ms(), self.groups_of(asker))

    def groups_of(self, asker: Asker) -> list[str]:
        """Return the Unix groups of whoever asks, as far as the policy needs them."""
        return unix_groups(self.tables, asker.user) if asker.groups is None else sorted(asker.groups)

    def token(self, view: View, name: str, uid: int | None = None) -> str:
        """Return the claim that a token, container id or container name means, of one person if a uid is given.

        Raises:
            ApiError: There is none, or it is somebody else's.
        """
        found = view.value(
            "SELECT token FROM claims WHERE (:uid IS NULL OR uid = :uid) AND (token = :name OR container_id = :name"
            " OR (state = 'open' AND container_name IN (:name, :name || '._.' || :uid)))"
            " ORDER BY created DESC LIMIT 1",
            {"name": name, "uid": uid},
        )
        if found is None:
            raise error(
                NOT_THERE, f"{name}: no container with GPUs has that name", "gpu.claim", "`ds01 gpu status` lists them"
            )
        return str(found)


def uid_of(user: str) -> int:
    """Return the uid of somebody who has an account here. Raises ApiError."""
    try:
        return pwd.getpwnam(check_user(user)).pw_uid
    except (KeyError, BadValue) as problem:
        raise error(
            NOT_THERE, f"{user}: nobody here has that name", "api.user", f"`getent passwd {user}` shows who has"
        ) from problem


def account_of(user: str) -> tuple[int, str]:
    """Return the uid of somebody, and the name that the name services give it, which may have several. As `uid_of`."""
    uid = uid_of(user)
    try:
        return uid, pwd.getpwuid(uid).pw_name
    except KeyError:
        # Some know people by name only, or not any more at this moment.
        return uid, user


def now_ms() -> int:
    """Return the present in UTC milliseconds."""
    return time.time_ns() // 1_000_000


def short(name: str | None, uid: int) -> str | None:
    """Return what the owner calls a container."""
    return None if name is None else owners.short(name, uid)
