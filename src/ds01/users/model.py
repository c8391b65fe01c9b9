"""The words of this package: people as the policy lists them, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import datetime as dt

USERS_GROUP: Final = "ds01-users"
"""Everybody who is managed. Its members on the host are the record of who was."""
ADMIN_GROUP: Final = "ds01-admin"


@dataclass(frozen=True, slots=True)
class Person:
    """One person of the list. None means: no opinion, an existing account keeps what it has."""

    name: str
    comment: str | None = None
    groups: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    expires: dt.date | None = None
    shell: str | None = None
    uid: int | None = None
    quota_home: int | None = None
    """Bytes; None = unlimited."""
    quota_scratch: int | None = None
    create: bool = True
    """False: expected to exist or to come from the directory; never made here."""


Origin = Literal["new", "local", "directory"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between the list and the host, in words for people."""

    login: str
    what: str
    before: str
    after: str


@dataclass(slots=True)
class PersonPlan:
    """What one person needs on this host."""

    person: Person
    login: str
    """The name the host knows the person by; a directory may spell it differently from the list."""
    origin: Origin
    uid: int
    gid: int
    home: str
    changes: list[Change] = field(default_factory=list)
    home_usable: bool = False
    """There is a directory of this person's, or there will be."""
    make_home: bool = False
    fix_home_mode: bool = False
    keys_text: str | None = None
    """The whole new authorized_keys; None = leave the file."""
    scratch: str | None = None
    make_scratch: bool = False
    fix_scratch_mode: bool = False
    restore: bool = False

    def note(self, what: str, before: str, after: str) -> None:
        """Record a difference."""
        self.changes.append(Change(self.login, what, before, after))
