"""`ds01 policy`: check, compare and show policy files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.limits import show_value
from ds01.cli.output import FAILED, OK, say_json, say_problems, table
from ds01.policy.problems import PolicyError

if TYPE_CHECKING:
    from ds01.policy import LoadedPolicy, Problem
    from ds01.policy.difference import Change, Difference

_NAMES_SHOWN = 3
_people_option = click.option(
    "--people", multiple=True, metavar="FILE", help="A further people file (CSV or YAML); may be given again."
)


@click.group()
def policy() -> None:
    """Check, compare and show policy files."""


def _loaded(file: str, people: tuple[str, ...] = ()) -> LoadedPolicy:
    from ds01.policy import load_policy  # noqa: PLC0415 - help texts need no validator

    return load_policy(file, extra_people=people)


@policy.command()
@click.argument("file")
@_people_option
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(file: str, people: tuple[str, ...], *, as_json: bool) -> int:
    """Check FILE and everything it refers to. Exit code 1 when it cannot be used."""
    loaded: LoadedPolicy | None = None
    problems: tuple[Problem, ...]
    try:
        loaded = _loaded(file, people)
        problems = loaded.warnings
    except PolicyError as error:
        problems = error.problems
    if as_json:
        say_json({"valid": loaded is not None, "problems": [problem.as_dict() for problem in problems]})
    else:
        say_problems(problems)
        errors = sum(problem.severity == "error" for problem in problems)
        counts = f"{_count(errors, 'error')}, {_count(len(problems) - errors, 'warning')}"
        click.echo(
            f"{file}: {_summary(loaded)}, {counts}" if loaded else f"{file}: not usable: {counts}", err=not loaded
        )
    return OK if loaded else FAILED


def _summary(loaded: LoadedPolicy) -> str:
    tables = loaded.policy.tables
    people = f"{_count(len(tables['members']), 'person', 'people')} in lists"
    return f"ok: {_count(len(tables['groups']), 'group')}, {people}, {_count(len(tables['overrides']), 'override')}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@policy.command()
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="JSON; sizes in bytes, durations in seconds, null = unlimited.")
def diff(old: str, new: str, *, as_json: bool) -> None:
    """Show who gains or loses what when OLD is replaced by NEW."""
    from ds01.policy.difference import difference  # noqa: PLC0415 - only here

    before, after = _load_all(old, new)
    found = difference(before, after, datetime.now(UTC))
    if as_json:
        say_json(found.as_dict())
    else:
        click.echo(_diff_text(found))


def _load_all(*files: str) -> list[LoadedPolicy]:
    """Return all policies. Raises PolicyError with the findings of all of them."""
    loaded: list[LoadedPolicy] = []
    problems: list[Problem] = []
    for file in files:
        try:
            loaded.append(_loaded(file))
        except PolicyError as error:
            problems += error.problems
    if problems:
        raise PolicyError(problems)
    return loaded


def _diff_text(found: Difference) -> str:
    parts = [f"{_crowd(users)}:\n{table([_row(change) for change in changes])}" for changes, users in found.people]
    if found.settings:
        rows = [[path, f"{_plain(before)} -> {_plain(after)}"] for path, before, after in found.settings]
        parts.append(f"Settings:\n{table(rows)}")
    return "\n\n".join(parts) or "Nothing changes for anybody."


def _crowd(users: list[str]) -> str:
    if len(users) <= _NAMES_SHOWN:
        return ", ".join(users)
    return f"{len(users)} people ({', '.join(users[:_NAMES_SHOWN])}, ...)"


def _row(change: Change) -> list[str]:
    if change.kind == "name":
        return [change.field, f"{change.old} -> {change.new}", ""]
    values = f"{show_value(change.old, change.kind)} -> {show_value(change.new, change.kind)}"
    return [change.field, values, change.effect]


def _plain(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, dict):
        return " ".join(f"{key}={_plain(inner)}" for key, inner in value.items()) or "defaults"
    return str(value)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of the policy file, for editors."""
    from ds01.policy.schema import schema_text  # noqa: PLC0415 - only here

    click.echo(schema_text(), nl=False)


@policy.command()
@click.argument("file")
def render(file: str) -> None:
    """Print FILE as one self-contained policy.

    Old names of keys become today's. Hosts get the policy in this form.
    """
    from ds01.policy import render as rendered  # noqa: PLC0415 - only here

    loaded = _loaded(file)
    say_problems(loaded.warnings)
    click.echo(rendered(loaded).encode(), nl=False)  # UTF-8 whatever the terminal has: it is a policy file.


@policy.command()
def docs() -> None:
    """Print the reference of the policy file in Markdown."""
    from ds01.policy.reference import reference_text  # noqa: PLC0415 - only here

    click.echo(reference_text(), nl=False)
