"""What DS01 says when something is wrong: one shape for every finding, one family for every error that people mend.

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

ERROR: Final = "error"
WARNING: Final = "warning"
_SHOWN_VALUE: Final = 60
"""Characters of a value in a message: with the rest of it one line of a wide terminal."""


class Problem(NamedTuple):
    """One finding.

    `path` is the dotted place in the policy, a file, or a part of the host; `value` what was found there; `expected`
    what belongs there; `fix` the next step; `where` is `file:line` when it is known.
    """

    path: str
    value: str
    expected: str
    fix: str
    severity: str = ERROR
    where: str = ""

    def __str__(self) -> str:
        """Return `path: value: what was expected: fix`, then the place in brackets."""
        place = f" ({self.where})" if self.where else ""
        text = f"{self.path}: {self.value}: {self.expected}: {self.fix}{place}"
        # Names of files and values may hold anything; a terminal gets only what can be seen.
        return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)

    def as_dict(self) -> dict[str, str]:
        """Return the finding as JSON-able data."""
        return self._asdict()


class ReportedError(Exception):
    """Something that people can mend. The text says what and how, so nobody needs a traceback."""


class ProblemsError(ReportedError):
    """`problems` holds every reason found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep all of them."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RefusedError(ProblemsError):
    """Nothing was changed, for all of these reasons."""


class ApplyError(ReportedError):
    """The host refused a change. The text says what was left as it was."""


def shown(value: object) -> str:
    """Return a value as one short printable line, never with control characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a section" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) and value and value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_VALUE else text[: _SHOWN_VALUE - 3] + "..."
