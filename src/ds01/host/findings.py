"""What a look at a host finds."""

from __future__ import annotations

from typing import NamedTuple

from ..problems import Problem


class Finding(NamedTuple):
    """Something to know. `id` names it for `preflight_accept`; a refusal stops the deployment unless it is accepted."""

    id: str
    refuses: bool
    acceptable: bool
    problem: Problem

    def __str__(self) -> str:
        """Return the one line that people read, with the name."""
        return f"{self.problem} [{self.id}]"


def refusal(name: str, path: str, value: str, expected: str, fix: str) -> Finding:
    """Return a finding that has to be settled first."""
    return must(name, Problem(path, value, expected, fix))


def must(name: str, problem: Problem) -> Finding:
    """Return a problem as a finding that has to be settled first."""
    return Finding(name, refuses=True, acceptable=False, problem=problem)


def condition(name: str, path: str, value: str, expected: str, fix: str) -> Finding:
    """Return a finding that the administrator may accept by its name."""
    return Finding(name, refuses=True, acceptable=True, problem=Problem(path, value, expected, fix))


def warning(name: str, path: str, value: str, expected: str, fix: str) -> Finding:
    """Return a finding that stops nothing."""
    return Finding(name, refuses=False, acceptable=True, problem=Problem(path, value, expected, fix))
