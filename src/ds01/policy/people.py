"""People files: CSV or YAML lists of people who get accounts.

Columns or keys: login, name, group, keys, expires, uid, shell. In CSV several SSH keys are separated by `;`.
A key may also be the name of a file with public keys, relative to the people file.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from ds01.policy.fields import Kind, Whole
from ds01.policy.names import unusual_user
from ds01.policy.problems import BadValue, PolicyError, closest
from ds01.policy.source import Steps, parse_yaml, read_text
from ds01.policy.text_fields import Day, HostPath, Name, Text
from ds01.problems import ERROR, WARNING, Problem, shown
from ds01.users.spec import parse_people

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS: dict[str, Kind] = {
    "login": Name("user"),
    "name": Text(r"[^:,\n]*", "a name without : and ,", most=200, nullable=True),
    "group": Name("group", nullable=True),
    "keys": Text("", "SSH public keys"),
    "expires": Day(nullable=True),
    "uid": Whole(0, nullable=True),
    "shell": HostPath(nullable=True),
}
# Spellings of headings seen in exported lists.
_HEADINGS = {"username": "login", "user": "login", "full name": "name", "ssh_keys": "keys", "key": "keys"}


class Person(NamedTuple):
    """One person of a people file. `expires` is the last UTC day on which the account is open."""

    login: str
    name: str = ""
    group: str | None = None
    keys: tuple[str, ...] = ()
    expires: date | None = None
    uid: int | None = None
    shell: str | None = None
    where: str = ""


class _Row(NamedTuple):
    """One entry as written, with its place."""

    values: dict[str, Any]
    where: str


def read_people(path: Path, *, name: str | None = None) -> tuple[list[Person], list[Problem]]:
    """Return the valid people of a file, and all findings. Raises nothing: an unreadable file is a finding."""
    name = name or str(path)
    problems: list[Problem] = []
    try:
        text = read_text(path, name=name)
        rows = _yaml_rows(text, name, problems) if path.suffix in {".yaml", ".yml"} else _csv_rows(text, name, problems)
    except PolicyError as error:
        return [], [*problems, *error.problems]
    if not rows and not problems:
        fix = "write a heading login,name,group,keys,expires and one line for each person"
        problems.append(Problem(name, "no people", "at least one person", fix, WARNING, name))
    people = [person for row in rows if (person := _person(row, path.parent, problems))]
    return people, problems


def _csv_rows(text: str, name: str, problems: list[Problem]) -> list[_Row]:
    # Spreadsheets in many languages export `;`; the heading tells, because it holds no quoted text.
    heading = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    columns: list[str] | None = None
    rows: list[_Row] = []
    try:
        for cells in reader:
            where = f"{name}:{reader.line_num}"
            stripped = [cell.strip() for cell in cells]
            if not any(stripped) or stripped[0].startswith("#"):
                continue
            if columns is None:
                columns = _headings(stripped, where, problems)
                if "login" not in columns:
                    break
                continue
            while len(stripped) > len(columns) and not stripped[-1]:
                stripped.pop()
            if len(stripped) > len(columns):
                fix = "put values with commas in quotes; separate keys by ;"
                found = f"{len(stripped)} values"
                problems.append(Problem(name, found, f"at most {len(columns)}, as in the heading", fix, ERROR, where))
                continue
            values = {column: cell or None for column, cell in zip(columns, stripped, strict=False) if column}
            rows.append(_Row(values, where))
    except csv.Error as error:
        fix = "check the quotes on this line"
        where = f"{name}:{reader.line_num}"
        problems.append(Problem(name, str(error), "lines of values separated by commas", fix, ERROR, where))
    return rows


def _headings(cells: list[str], where: str, problems: list[Problem]) -> list[str]:
    file = where.rpartition(":")[0]
    columns: list[str] = []
    for cell in cells:
        column = _HEADINGS.get(cell.lower(), cell.lower())
        if column and column not in COLUMNS:
            near = closest(column, [*COLUMNS, *_HEADINGS])
            fix = f"did you mean {near}?" if near else "remove the column"
            problems.append(Problem(file, shown(cell), "a heading: " + ", ".join(COLUMNS), fix, ERROR, where))
        elif column and column in columns:
            problems.append(Problem(file, shown(cell), "each heading once", "remove one column", ERROR, where))
        columns.append(column if column in COLUMNS and column not in columns else "")
    if "login" not in columns:
        fix = "start the file with a line like login,name,group,keys,expires"
        problems.append(Problem(file, shown(",".join(cells)), "a heading with login", fix, ERROR, where))
    return columns


def _yaml_rows(text: str, name: str, problems: list[Problem]) -> list[_Row]:
    document = parse_yaml(text, name)
    problems.extend(document.problems)
    data = document.data
    base: Steps = ()
    if isinstance(data, dict) and set(data) == {"people"}:
        data, base = data["people"], ("people",)
    if data is None:
        return []
    if not isinstance(data, list):
        fix = "write people: and below it - login: alice"
        problems.append(Problem(name, shown(data), "a list of people", fix, ERROR, document.where(())))
        return []
    rows: list[_Row] = []
    for index, entry in enumerate(data):
        where = document.where((*base, index))
        if not isinstance(entry, dict):
            fix = "write - login: alice"
            problems.append(Problem(name, shown(entry), "a person with login", fix, ERROR, where))
            continue
        values: dict[str, Any] = {}
        for key, value in entry.items():
            column = _HEADINGS.get(key, key)
            if column in COLUMNS:
                values[column] = value
                continue
            near = closest(key, COLUMNS)
            fix = f"did you mean {near}?" if near else "remove it"
            problems.append(Problem(name, shown(key), "a key: " + ", ".join(COLUMNS), fix, ERROR, where))
        rows.append(_Row(values, where))
    return rows


def _person(row: _Row, base: Path, problems: list[Problem]) -> Person | None:
    file = row.where.rpartition(":")[0]
    found: dict[str, Any] = {}
    login = row.values.get("login")
    subject = f"{file}: {shown(login)}" if login is not None else file
    before = len(problems)
    for column, kind in COLUMNS.items():
        value = row.values.get(column)
        if column == "uid" and isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
            value = int(value)
        try:
            if column == "keys":
                found["keys"] = _keys(value, base)
            elif value is not None or column == "login":
                found[column] = kind.check(value)
        except BadValue as error:
            problems.append(Problem(f"{subject}.{column}", shown(value), error.expected, error.fix, ERROR, row.where))
    found_person = Person(**found, where=row.where) if len(problems) == before else None
    faults = account_faults(found_person) if found_person else []
    problems += [
        Problem(f"{subject}.{name}", value, expected, fix, ERROR, row.where) for name, value, expected, fix in faults
    ]
    if found_person is None or faults:
        return None
    if reason := unusual_user(found["login"]):
        problems.append(Problem(f"{subject}.login", shown(login), reason, "check the spelling", WARNING, row.where))
    return found_person


def account_faults(person: Person) -> list[tuple[str, str, str, str]]:
    """Return (column, value, expected, fix) for everything that would stop the account from being made."""
    plain = {"name": person.login, "comment": person.name, "ssh_keys": person.keys, "uid": person.uid}
    columns = {"name": "login", "comment": "name", "ssh_keys": "keys"}
    faults = []
    for problem in parse_people([plain])[1]:
        column = problem.path.rpartition(".")[2].partition("[")[0]
        faults.append((columns.get(column, column), problem.value, problem.expected, problem.fix))
    return faults


def _keys(value: Any, base: Path) -> tuple[str, ...]:
    """Return the SSH public keys named by a cell or list. Raises BadValue."""
    entries = value.split(";") if isinstance(value, str) else value or []
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise BadValue("SSH public keys or names of key files", "write them as text")
    keys: list[str] = []
    for entry in filter(None, map(str.strip, entries)):
        lines = [entry] if " " in entry else _key_file(base / entry, entry)
        for line in lines:
            if "PRIVATE KEY" in line:
                raise BadValue("SSH public keys", "this is a private key: use the .pub file and replace the key pair")
        keys.extend(lines)
    return tuple(dict.fromkeys(keys))


def _key_file(path: Path, name: str) -> list[str]:
    try:
        text = read_text(path, name=name)
    except PolicyError as error:
        problem = error.problems[0]
        raise BadValue("an SSH public key or a readable key file", f"{name}: {problem.value}") from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
