"""Reading YAML as the policy needs it: every value with its line, nothing guessed.

PyYAML's own construction turns `yes` into true, `010` into 8 and `1:30` into 90, and lets a repeated key win in
silence. Here the tree is built from the parser's events: plain numbers, true, false and null keep their meaning,
every other plain word stays text, a repeated key is an error, and size, depth and aliases are bounded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from ds01.policy.problems import PolicyError, dotted
from ds01.policy.reading import open_regular
from ds01.problems import WARNING, Problem, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Steps = tuple[str | int, ...]

# A policy for 1,000 people is below 200 KiB and 10,000 values; these only stop files that are no policies.
MAX_BYTES = 4 * 2**20
MAX_VALUES = 200_000
MAX_DEPTH = 40
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"-?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_SPECIAL_FLOATS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_STANDARD_TAG = "tag:yaml.org,2002:"


class Document:
    """A YAML file as plain data, with the line of every value and the findings on the way."""

    def __init__(self, name: str) -> None:
        """Start an empty document called `name` in messages."""
        self.name = name
        self.data: Any = None
        self.lines: dict[Steps, int] = {}
        self.problems: list[Problem] = []

    def where(self, path: Steps) -> str:
        """Return `file:line` of the nearest known ancestor of `path`."""
        for length in range(len(path), -1, -1):
            if line := self.lines.get(path[:length]):
                return f"{self.name}:{line}"
        return self.name


def read_text(path: Path, *, name: str | None = None) -> str:
    """Return the text of a file. Raises PolicyError when it is missing, unreadable, too big or not UTF-8."""
    name = name or str(path)
    try:
        with open_regular(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PolicyError([Problem(name, reason, "a readable file", "check the path and its permissions")]) from error
    if len(raw) > MAX_BYTES:
        expected = f"a file of at most {MAX_BYTES >> 20} MiB"
        raise PolicyError([Problem(name, "larger", expected, "check that this is the right file")])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{raw[error.start]:02x}"
        fix = "save the file as UTF-8 in the editor"
        raise PolicyError([Problem(name, found, "text in UTF-8", fix, where=f"{name}:{line}")]) from error


def read_yaml(path: Path, *, name: str | None = None) -> Document:
    """Read one YAML file. Raises PolicyError on what makes the rest unreadable; lesser findings stay in the result."""
    name = name or str(path)
    return parse_yaml(read_text(path, name=name), name)


def parse_yaml(text: str, name: str) -> Document:
    """Parse YAML text into a Document. Raises PolicyError on syntax errors and exceeded bounds."""
    document = Document(name)
    try:
        _Builder(yaml.parse(text, Loader=_Loader), document).build()
    except yaml.YAMLError as error:
        raise PolicyError([*document.problems, _syntax_problem(error, text, name)]) from error
    except RecursionError as error:
        raise PolicyError([_bound(name, "values nested without end")]) from error
    return document


def _bound(name: str, found: str) -> Problem:
    return Problem(name, found, "a policy of ordinary size", "check that this is the right file")


def _syntax_problem(error: yaml.YAMLError, text: str, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    if mark is None:
        if position := getattr(error, "position", None):
            line = text.count("\n", 0, position) + 1
            return Problem(name, str(what), "text without control characters", f"look at line {line}", where=name)
        return Problem(name, str(what), "valid YAML", "remove characters that are not text")
    line, lines = mark.line + 1, text.splitlines()
    content = lines[mark.line] if mark.line < len(lines) else ""
    fix = "check indentation, colons and quotes on this line and the one before"
    if "\t" in content[: mark.column + 1]:
        fix = "indent with spaces; YAML does not allow tabs"
    elif _CONTROL.search(content):
        fix = "remove the control character"
    return Problem(name, shown(content.strip()), f"valid YAML ({what})", fix, where=f"{name}:{line}")


class _Builder:
    """Builds plain data from parser events, iteratively bounded in depth and number."""

    def __init__(self, events: Iterator[Any], document: Document) -> None:
        self._events = events
        self._document = document
        # Anchor name -> (data, number of values in it).
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0

    def build(self) -> None:
        """Fill the document from the first YAML document; a second one is an error."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if self._document.lines:
                    fix = "keep one and remove the line ---"
                    self._problem((), event, "---", expected="one YAML document in the file", fix=fix)
                    return
                self._document.data = self._value(next(self._events), (), 0)

    def _problem(self, path: Steps, event: Any, value: str, *, expected: str, fix: str) -> None:
        where = f"{self._document.name}:{event.start_mark.line + 1}"
        self._document.problems.append(Problem(dotted(path), value, expected, fix, where=where))

    def _value(self, event: Any, path: Steps, depth: int) -> Any:
        self._document.lines[path] = event.start_mark.line + 1
        before = self._count
        self._spend(1)
        if depth > MAX_DEPTH:
            raise PolicyError([_bound(self._document.name, f"values nested deeper than {MAX_DEPTH}")])
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path)
        self._check_tag(event, path)
        if isinstance(event, yaml.ScalarEvent):
            data = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = self._sequence(path, depth)
        else:
            data = self._mapping(path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (data, self._count - before)
        return data

    def _spend(self, values: int) -> None:
        self._count += values
        if self._count > MAX_VALUES:
            raise PolicyError([_bound(self._document.name, f"more than {MAX_VALUES} values, aliases expanded")])

    def _alias(self, event: Any, path: Steps) -> Any:
        if event.anchor not in self._anchors:
            expected = "an alias of an anchor above"
            self._problem(path, event, f"*{event.anchor}", expected=expected, fix="repeat the value instead")
            return None
        data, size = self._anchors[event.anchor]
        self._spend(size)
        return data

    def _check_tag(self, event: Any, path: Steps) -> None:
        if event.tag and event.tag != "!":
            tag = event.tag.replace(_STANDARD_TAG, "!!")
            fix = "remove the tag; secrets do not belong in the policy" if tag == "!vault" else f"remove {shown(tag)}"
            self._problem(path, event, shown(tag), expected="a value without a YAML tag", fix=fix)

    def _scalar(self, event: Any, path: Steps) -> Any:
        text: str = event.value
        if found := _CONTROL.search(text):
            fix = "remove the invisible character"
            self._problem(path, event, repr(found[0]), expected="text without control characters", fix=fix)
        return plain_scalar(text) if event.implicit[0] else text

    def _sequence(self, path: Steps, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Steps, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, is_merge = self._key(event, path, depth)
            repeated = key in mapping and not is_merge
            line = self._document.lines.get((*path, key))
            value = self._value(next(self._events), (*path, key), depth + 1)
            if is_merge:
                merged.append((event, value))
            elif repeated:
                # The first one stays, with its line, so that one finding is one message.
                self._document.lines[(*path, key)] = line or 0
                fix = f"remove one; the first is on line {line}"
                self._problem((*path, key), event, shown(value), expected="each key once", fix=fix)
            else:
                self._document.lines[(*path, key)] = event.start_mark.line + 1
                mapping[key] = value
        for event, value in merged:
            self._merge(mapping, value, event, path)
        return mapping

    def _key(self, event: Any, path: Steps, depth: int) -> tuple[str, bool]:
        if isinstance(event, yaml.ScalarEvent):
            if _CONTROL.search(event.value):
                fix = "remove the invisible character"
                self._problem(path, event, repr(event.value), expected="a key without control characters", fix=fix)
            return event.value, event.implicit[0] and event.value == "<<"
        self._value(event, (*path, "?"), depth + 1)
        found = "a list or mapping as key"
        self._problem(path, event, found, expected="a plain word as key", fix="put the key in quotes")
        return "?", False

    def _merge(self, mapping: dict[str, Any], value: Any, event: Any, path: Steps) -> None:
        for source in value if isinstance(value, list) else [value]:
            if not isinstance(source, dict):
                fix = "write <<: *anchor of a mapping"
                self._problem(path, event, shown(source), expected="a mapping after <<", fix=fix)
                continue
            for key, inherited in source.items():
                mapping.setdefault(key, inherited)


def plain_scalar(text: str) -> Any:
    """Return the value of an unquoted YAML word: null, true, false, a number, or the text itself."""
    if text in {"", "~", "null", "Null", "NULL"}:
        return None
    if text in {"true", "True", "TRUE"}:
        return True
    if text in {"false", "False", "FALSE"}:
        return False
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _SPECIAL_FLOATS:
        return float(_SPECIAL_FLOATS[text.lower()])
    return text


def empty_problem(name: str, fix: str, severity: str = WARNING) -> Problem:
    """Return the finding for a file without content."""
    return Problem(name, "empty", "some content", fix, severity, name)
