"""Files a policy refers to: members, overrides, exemptions. Their content becomes part of the draft."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ds01.policy.compat import normalise
from ds01.policy.models import Policy
from ds01.policy.models.members import Exemption
from ds01.policy.problems import PolicyError, closest, dotted
from ds01.policy.source import Document, empty_problem, read_text, read_yaml
from ds01.problems import ERROR, WARNING, Problem, shown

if TYPE_CHECKING:
    from pathlib import Path

    from ds01.policy.draft import Draft
    from ds01.policy.source import Steps

# Names that earlier installations read without being told.
_CUSTOMARY = {
    "user_overrides_file": "user-overrides.yaml",
    "exemptions_file": "lifecycle-exemptions.yaml",
    "group_overrides_file": "group-overrides.txt",
}
_CUSTOMARY_MEMBERS = "groups/{}.members"


def include_all(draft: Draft, base: Path) -> None:
    """Add the content of all referenced files to the draft. `base` is the directory of the policy file."""
    _include_overrides(draft, base)
    _include_exemptions(draft, base)
    groups = draft.data.get("groups")
    if not isinstance(groups, dict):
        return
    for name, group in groups.items():
        if isinstance(group, dict):
            _include_members(draft, base, name, group)
    _include_group_overrides(draft, base, groups)
    _report_unused_members(draft, base, groups)


def _named_file(draft: Draft, base: Path, path: Steps, value: Any, customary: str) -> tuple[Path, str] | None:
    """Return the referenced file and its name for messages; the customary one, with a warning, if none is named."""
    named = isinstance(value, str) and bool(value.strip())
    draft.sources.append(base / (value if named else customary))
    if named:
        return base / value, value
    if value is None and (base / customary).is_file():
        draft.warn(
            path, "not set", f"the name of the file {customary}, which is there", f"write {path[-1]}: {customary}"
        )
        return base / customary, customary
    return None


def _read_yaml(draft: Draft, base: Path, key: str) -> Document | None:
    named = _named_file(draft, base, (key,), draft.data.get(key), _CUSTOMARY[key])
    if named is None:
        return None
    try:
        document = read_yaml(named[0], name=named[1])
    except PolicyError as error:
        draft.problems.extend(_at(problem, draft, (key,)) for problem in error.problems)
        return None
    draft.problems.extend(document.problems)
    if document.data is None:
        draft.problems.append(empty_problem(named[1], f"remove it and {key}"))
        return None
    return document


def _at(problem: Problem, draft: Draft, path: Steps) -> Problem:
    """Name the key that refers to an unreadable file, unless the file itself gives the place."""
    if problem.where:
        return problem
    return problem._replace(path=f"{dotted(path)}: {problem.path}", where=draft.where(path))


def _include_overrides(draft: Draft, base: Path) -> None:
    document = _read_yaml(draft, base, "user_overrides_file")
    if document is None:
        return
    if not isinstance(document.data, dict):
        fix = "write a login name, a colon, and the limits below it"
        draft.problems.append(_shape_problem(document, "a mapping of login names to limits", fix))
        return
    wrapped = set(document.data) == {"user_overrides"} and isinstance(document.data["user_overrides"], dict)
    draft.learn(document, ("user_overrides",), skip=int(wrapped))
    entries = document.data["user_overrides"] if wrapped else document.data
    given = draft.data.setdefault("user_overrides", {})
    found = normalise(Policy.model_fields["user_overrides"].annotation, entries, ("user_overrides",), draft)
    if not isinstance(given, dict):
        return
    for user, override in found.items():
        # The file wins field by field, as it did before.
        both = isinstance(given.get(user), dict) and isinstance(override, dict)
        given[user] = {**given[user], **override} if both else override


def _include_exemptions(draft: Draft, base: Path) -> None:
    document = _read_yaml(draft, base, "exemptions_file")
    if document is None:
        return
    wrapped = isinstance(document.data, dict) and set(document.data) == {"exemptions"}
    entries = document.data["exemptions"] if wrapped else document.data
    if entries is None:
        return
    if not isinstance(entries, list):
        fix = "write exemptions: and below it a list of entries with user, exempt_from, reason"
        draft.problems.append(_shape_problem(document, "a list of exemptions", fix))
        return
    given = draft.data.setdefault("exemptions", [])
    if not isinstance(given, list):
        return
    for index, entry in enumerate(entries):
        path = ("exemptions", len(given))
        inside = ("exemptions", index) if wrapped else (index,)
        part = Document(document.name)
        part.lines = {at: line for at, line in document.lines.items() if at[: len(inside)] == inside}
        draft.learn(part, path, skip=len(inside))
        given.append(normalise(Exemption, entry, path, draft))


def _shape_problem(document: Document, expected: str, fix: str) -> Problem:
    return Problem(document.name, shown(document.data), expected, fix, where=document.where(()))


def read_names(path: Path, name: str) -> list[tuple[int, str]]:
    """Return (line number, text) of each non-empty line without its comment. Raises PolicyError."""
    # Not splitlines(), which makes two names of one that holds an exotic separator.
    lines = re.split(r"\r\n?|\n", read_text(path, name=name))
    stripped = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, start=1))
    return [(number, text) for number, text in stripped if text]


def _include_members(draft: Draft, base: Path, name: str, group: dict[str, Any]) -> None:
    path: Steps = ("groups", name, "members_file")
    named = _named_file(draft, base, path, group.get("members_file"), _CUSTOMARY_MEMBERS.format(name))
    if named is None:
        return
    try:
        entries = read_names(named[0], named[1])
    except PolicyError as error:
        draft.problems.extend(_at(problem, draft, path) for problem in error.problems)
        return
    if not entries:
        draft.problems.append(empty_problem(named[1], "add login names, one per line"))
    for line, user in entries:
        add_member(draft, name, user, f"{named[1]}:{line}")


def add_member(draft: Draft, group: str, user: str, where: str) -> None:
    """Add one login name to a group of the draft, remembering the place it came from."""
    section = draft.data["groups"][group]
    members = section.setdefault("members", [])
    if isinstance(section, dict) and isinstance(members, list):
        draft.place(("groups", group, "members", len(members)), where)
        members.append(user)


def _include_group_overrides(draft: Draft, base: Path, groups: dict[str, Any]) -> None:
    key = "group_overrides_file"
    named = _named_file(draft, base, (key,), draft.data.get(key), _CUSTOMARY[key])
    if named is None:
        return
    try:
        entries = read_names(named[0], named[1])
    except PolicyError as error:
        draft.problems.extend(_at(problem, draft, (key,)) for problem in error.problems)
        return
    if not entries:
        draft.problems.append(empty_problem(named[1], f"remove it and {key}"))
    for line, text in entries:
        user, colon, group = (part.strip() for part in text.rpartition(":"))
        where = f"{named[1]}:{line}"
        if not colon or not user:
            fix = "write it like alice:researcher"
            draft.problems.append(Problem(named[1], shown(text), "a line user:group", fix, ERROR, where))
        elif not isinstance(groups.get(group), dict):
            near = closest(group, groups)
            fix = f"did you mean {near}?" if near else "add the group or remove the line"
            draft.problems.append(Problem(named[1], shown(group), "a group of this policy", fix, ERROR, where))
        else:
            add_member(draft, group, user, where)


def _report_unused_members(draft: Draft, base: Path, groups: dict[str, Any]) -> None:
    used = {base / str(group.get("members_file")) for group in groups.values() if isinstance(group, dict)}
    customary = {base / _CUSTOMARY_MEMBERS.format(name) for name in groups}
    for file in sorted((base / "groups").glob("*.members")):
        if file not in used | customary:
            name = str(file.relative_to(base))
            fix = f"add members_file: {name} to a group, or remove the file"
            draft.problems.append(Problem(name, "not used", "a members file of a group", fix, WARNING, name))
