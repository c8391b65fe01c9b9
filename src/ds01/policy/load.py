"""From files to a policy: read, bring to today's names, include, validate, check."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from ds01.policy.compat import normalise
from ds01.policy.draft import Draft
from ds01.policy.matching import matching_files
from ds01.policy.models import Policy
from ds01.policy.people import Person, read_people
from ds01.policy.problems import PolicyError, closest
from ds01.policy.references import add_member, include_all
from ds01.policy.rules import check_rules
from ds01.policy.source import empty_problem, read_yaml
from ds01.problems import ERROR, WARNING, Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01.policy.source import Steps

# The same finding for a thousand members is one cause.
_SAME_FINDINGS_SHOWN = 20


class LoadedPolicy(NamedTuple):
    """A valid policy, the people who get accounts, and what the administrator should look at."""

    policy: Policy
    people: tuple[Person, ...]
    warnings: tuple[Problem, ...]
    path: Path
    # What the policy was made from, beside the file itself: files (some may not exist) and patterns with their matches.
    sources: tuple[Path, ...] = ()
    globs: dict[str, list[str]] = {}  # noqa: RUF012 - never changed


def load_policy(
    path: str | Path, *, extra_people: Iterable[str | Path] = (), now: datetime | None = None
) -> LoadedPolicy:
    """Read and check a policy file and all files it refers to.

    `extra_people` are further people files, relative to the working directory. Raises PolicyError with ALL findings.
    """
    path = Path(path)
    document = read_yaml(path)
    if document.data is None:
        raise PolicyError([*document.problems, empty_problem(str(path), "start from the example policy", ERROR)])
    if not isinstance(document.data, dict):
        fix = "write sections like defaults: and groups: at the left margin"
        raise PolicyError(
            [*document.problems, Problem(str(path), shown(document.data), "a mapping", fix, where=document.where(()))]
        )
    draft = Draft(document)
    draft.data = normalise(Policy, document.data, (), draft)
    if draft.data.get("access_control") == {}:
        del draft.data["access_control"]  # All of it has moved.
    include_all(draft, path.parent)
    people = _include_people(draft, path.parent, extra_people)
    draft.apply_moves()
    policy = _validate(draft, now or datetime.now(UTC))
    problems = _shortened(draft.problems)
    if policy is None or any(problem.severity == ERROR for problem in problems):
        raise PolicyError(problems)
    return LoadedPolicy(policy, people, tuple(problems), path, tuple(draft.sources), draft.globs)


def _include_people(draft: Draft, base: Path, extra: Iterable[str | Path]) -> tuple[Person, ...]:
    people: dict[str, Person] = {}
    for file, name in _people_files(draft, base, [Path(file) for file in extra]).items():
        draft.sources.append(file)
        entries, problems = read_people(file, name=name)
        draft.problems.extend(problems)
        for person in entries:
            known = people.setdefault(person.login, person)
            if known is person:
                _join_group(draft, person)
            elif known._replace(where="") != person._replace(where=""):
                expected = f"each person once, or twice the same (also at {known.where})"
                draft.problems.append(Problem(name, person.login, expected, "remove one line", ERROR, person.where))
    return tuple(people.values())


def _people_files(draft: Draft, base: Path, extra: list[Path]) -> dict[Path, str]:
    """Return the people files with their names for messages. An extra file stands for a file of the same name."""
    files: dict[Path, str] = {}
    replaced = {file.name for file in extra}
    patterns = draft.data.get("people_files")
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        found = _matching(draft, base, pattern)
        if not found and not extra:
            draft.warn(("people_files", index), pattern, "the name of an existing file", "check the path")
        for file in found:
            if file.name not in replaced:
                inside = file.is_relative_to(base.absolute())
                files[file] = str(file.relative_to(base.absolute()) if inside else file)
    return files | {file: str(file) for file in extra}


def _matching(draft: Draft, base: Path, pattern: Any) -> list[Path]:
    if not isinstance(pattern, str) or not pattern.strip():
        return []
    absolute = str(base.absolute() / pattern)
    draft.globs[absolute] = matching_files(absolute)
    return [Path(name) for name in draft.globs[absolute]]


def _join_group(draft: Draft, person: Person) -> None:
    groups = draft.data.get("groups")
    if person.group is None:
        return
    if not isinstance(groups, dict) or not isinstance(groups.get(person.group), dict):
        near = closest(person.group, groups if isinstance(groups, dict) else ())
        fix = f"did you mean {near}?" if near else "add the group to the policy"
        path = f"{person.where.rpartition(':')[0]}: {person.login}.group"
        draft.problems.append(Problem(path, person.group, "a group of the policy", fix, ERROR, person.where))
        return
    members = groups[person.group].get("members")
    if not isinstance(members, list) or person.login not in members:
        add_member(draft, person.group, person.login, person.where)


def _validate(draft: Draft, now: datetime) -> Policy | None:
    """Return the policy, or None when values are wrong; then the rules still look at everything that is right."""
    try:
        policy = Policy.model_validate(draft.data)
    except ValidationError as error:
        rest = draft.data
        findings = error.errors(include_url=False)
        for finding in findings:
            _report(draft, finding)
        # From the end, so that places in lists stay what they are.
        for finding in reversed(findings):
            path = finding["loc"][:-1] if finding["type"] == "missing" else finding["loc"]
            if path:
                rest = _without(rest, path)
                draft.dropped(path)
        with suppress(ValidationError):  # What is still wrong hangs on something that is reported already.
            check_rules(Policy.model_validate(rest), draft, now)
        return None
    check_rules(policy, draft, now)
    return policy


def _report(draft: Draft, finding: Any) -> None:
    path: Steps = tuple(finding["loc"])
    context = finding.get("ctx", {})
    kind = finding["type"]
    if kind == "bad_value":
        draft.error(path, finding["input"], context["expected"], context["fix"])
    elif kind == "missing":
        draft.error(path, "missing", "a value", f"write {path[-1]}: ...")
    elif kind in {"model_type", "model_attributes_type", "dict_type"}:
        draft.error(path, finding["input"], "a section of `key: value` lines", "indent its keys below it")
    elif kind == "tuple_type":
        value = finding["input"]
        fix = (
            f"write [{shown(value)}]"
            if isinstance(value, str | int | float)
            else "write one entry per line, each after `- `"
        )
        draft.error(path, value, "a list", fix)
    else:
        draft.error(path, finding["input"], finding["msg"], "see the policy reference")


def _without(data: Any, path: Steps) -> Any:
    """Return a copy of the data without the value at `path`, or without its short form that holds it."""
    step, rest = path[0], path[1:]
    if isinstance(data, dict):
        kept = {key: value for key, value in data.items() if key != step or _reaches(value, rest)}
        return {key: _without(value, rest) if key == step else value for key, value in kept.items()}
    items = [value for index, value in enumerate(data) if index != step or _reaches(value, rest)]
    return [
        _without(value, rest) if index == step and _reaches(data[index], rest) else value
        for index, value in enumerate(items)
    ]


def _reaches(value: Any, path: Steps) -> bool:
    """Tell whether a path leads to something inside the value."""
    return bool(path) and isinstance(value, dict | list)


def _shortened(problems: list[Problem]) -> list[Problem]:
    """Return the findings without repetitions; after the first twenty of one kind, one line counts the others."""
    kept: list[Problem] = []
    counts: dict[tuple[str, str, str], int] = {}
    for problem in dict.fromkeys(problems):
        path = problem.path.partition("[")[0]
        kind = (path, problem.expected.partition("(")[0], problem.severity)
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _SAME_FINDINGS_SHOWN or problem.severity == ERROR:
            kept.append(problem)
    for (path, expected, severity), count in counts.items():
        if severity == WARNING and count > _SAME_FINDINGS_SHOWN:
            more = count - _SAME_FINDINGS_SHOWN
            kept.append(Problem(path, f"{more} more", expected.strip(), "see the lines above", WARNING))
    return kept
