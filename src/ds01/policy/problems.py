"""What is wrong with a policy: the error that holds all findings, and the words in which they are told.

Standard library only, so that the fast paths can import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01.problems import ERROR, Problem, ProblemsError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_FIX = 300


class PolicyError(ProblemsError):
    """The policy cannot be used. `problems` holds every finding, errors first, warnings included."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep all findings."""
        super().__init__(sorted(problems, key=lambda problem: problem.severity != ERROR))

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Only what makes the policy unusable."""
        return tuple(problem for problem in self.problems if problem.severity == ERROR)


class BadValue(ValueError):  # noqa: N818 - it names what was found, and never reaches a person as an exception
    """A value that does not fit its field. Carries what was expected and how to put it right."""

    def __init__(self, expected: str, fix: str) -> None:
        """Keep both halves of the message."""
        fix = fix if len(fix) <= _SHOWN_FIX else fix[: _SHOWN_FIX - 3] + "..."
        super().__init__(f"{expected}: {fix}")
        self.expected = expected
        self.fix = fix

    @property
    def elsewhere(self) -> str:
        """How to put it right outside the policy, for which it was written: null is no value there."""
        return "" if self.fix.startswith("null ") else self.fix.partition("; null ")[0]


def dotted(path: Iterable[str | int]) -> str:
    """Return ("groups", "student", "members", 3) as `groups.student.members[3]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        # A dot inside a name would read as two steps; control characters never reach the terminal.
        name = part if part.isprintable() and part and "." not in part else repr(part)
        text += f".{name}" if text else name
    return text or "(whole file)"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` was most likely meant to be, or None."""
    import difflib  # noqa: PLC0415 - only needed when something is wrong

    matches = difflib.get_close_matches(word.lower(), {name.lower(): name for name in known}, n=1, cutoff=0.6)
    return next((name for name in known if matches and name.lower() == matches[0]), None)
