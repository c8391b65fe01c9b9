"""One question to the API: who asks, and what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ds01.api.errors import BAD, FORBIDDEN, ApiError, error
from ds01.problems import shown

_YES: Final = frozenset({"1", "true", "yes"})


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks. `groups` are their Unix groups, None where nobody asked NSS yet."""

    uid: int
    user: str
    admin: bool
    via: str
    groups: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A question. `names` is what the placeholders of the path stand for."""

    asker: Asker
    names: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query says yes."""
        return self.query.get(name, "") in _YES

    def number(self, name: str, most: int) -> int | None:
        """Return a parameter of the query as a whole number from 1 to `most`. Raises ApiError."""
        text = self.query.get(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:20]) <= most:
            raise bad(name, text, f"write a whole number from 1 to {most}")
        return int(text)

    def value(self, name: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """Return a value of the body. Raises ApiError when it is of another kind."""
        found = self.body.get(name, default)
        # bool is an int for Python, and for nobody else.
        if found is not default and (not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool)):
            raise bad(name, found, "of another type than documented")
        return found

    def subject(self) -> str | None:
        """Return whom an administrator asks for; None is oneself. Raises ApiError for others who ask for others."""
        user = self.query.get("user") or self.body.get("user")
        if user is not None and not isinstance(user, str):
            raise bad("user", user, "write a login")
        if user is None or user == self.asker.user:
            return None
        if not self.asker.admin:
            fix = "leave the user out: only administrators ask for others"
            raise error(FORBIDDEN, f"{user} is not you", "api.user", fix)
        return user


def check_length(seconds: int, most: int, fix: str = "") -> None:
    """See that something lasts, and not too long. Raises ApiError."""
    from ds01.policy.units import format_duration  # noqa: PLC0415 - most questions have none

    if seconds <= 0:
        raise bad("seconds", seconds, "write more than 0")
    if seconds > most:
        text = f"{format_duration(seconds)}: is longer than {format_duration(most)}"
        raise error(BAD, text, "api.value", fix or "ask for less")


def bad(name: str, value: object, expected: str) -> ApiError:
    """Return the error for a value that cannot be used."""
    return error(BAD, f"{name}: {shown(value)}", "api.value", expected)
