"""What is said: one message with all that somebody is told at once, as text that steers no terminal and no mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template
from typing import Any, Final

from ds01.engine.owners import short
from ds01.ledger.messages import Entry
from ds01.problems import ReportedError

_LINES_MAX: Final = 20
_LINE_MAX: Final = 400
"""Characters: a name of a container and two sentences."""


class UndeliverableError(ReportedError):
    """This message will never arrive: nobody there, no address, refused for good."""


class UnreachableError(ReportedError):
    """Nothing can be sent this way now; later perhaps."""


@dataclass(frozen=True)
class Message:
    """All that one person is told at once. Texts of others are in `lines` and `user`, and clean."""

    id: str
    uid: int
    user: str
    host: str
    lines: tuple[str, ...]
    headline: str
    count: int

    def fill(self, template: str) -> str:
        """Return a line of the policy's with its places filled."""
        places = {"user": self.user, "host": self.host, "headline": self.headline, "count": str(self.count)}
        return clean(Template(template).safe_substitute(places))


def compose(number: str, user: str, host: str, entries: Sequence[Entry]) -> Message:
    """Return the message of some notices of one person, of too many only the last ones."""
    shown = entries[-_LINES_MAX:]
    lines = [f"{_when(entry.at)}  {entry.kind}: {_what(entry.subject)}: {clean(entry.text)}" for entry in shown]
    if len(entries) > len(shown):
        lines.insert(0, f"{len(entries) - len(shown)} earlier ones: ds01 notices")
    last = entries[-1]
    more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
    headline = f"{last.kind}: {_what(last.subject)}{more}"
    return Message(number, entries[0].uid, clean(user), clean(host), tuple(lines), headline, len(entries))


def clean(text: str) -> str:
    """Return a text of others as one line that can be seen, and no longer than that of ours."""
    seen = "".join(sign if sign.isprintable() else "?" for sign in text)
    return seen if len(seen) <= _LINE_MAX else seen[:_LINE_MAX] + "..."


def words(settings: Mapping[str, Any], name: str, message: Message) -> str:
    """Return a line of `notifications.templates`, filled."""
    return message.fill(settings["templates"][name])


def _what(subject: str) -> str:
    """Return the name of a container as its owner types it."""
    return clean(short(subject))


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%d %b %H:%M UTC")
