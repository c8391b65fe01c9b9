"""The policy while it is read: plain data, where each value came from, and the findings so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01.policy.problems import dotted
from ds01.problems import ERROR, WARNING, Problem, shown

if TYPE_CHECKING:
    from pathlib import Path

    from ds01.policy.source import Document, Steps


class Draft:
    """Plain data of the whole policy, put together from several files."""

    def __init__(self, document: Document) -> None:
        """Start from the main file."""
        self.name = document.name
        self.data: dict[str, Any] = {}
        self.problems: list[Problem] = list(document.problems)
        self._places: dict[Steps, str] = {}
        # Today's path of a value -> the path as it stands in the file.
        self._written: dict[Steps, Steps] = {}
        # List -> places of entries that were left out because they are wrong.
        self._dropped: dict[Steps, list[int]] = {}
        self._moves: list[tuple[Steps, Any, Steps]] = []
        # Every file that decides about the result, also those that could be there and are not; patterns with matches.
        self.sources: list[Path] = []
        self.globs: dict[str, list[str]] = {}
        self.learn(document, ())

    def learn(self, document: Document, below: Steps, skip: int = 0) -> None:
        """Remember the lines of a document whose content, `skip` steps down, belongs at `below`."""
        for path, line in document.lines.items():
            place = f"{document.name}:{line}"
            if len(path) > skip:
                self._places[(*below, *path[skip:])] = place
            elif len(path) == skip:
                # The section itself may have begun in the main file.
                self._places.setdefault(below, place)

    def place(self, path: Steps, where: str) -> None:
        """Remember where one value came from."""
        self._places[path] = where

    def renamed(self, new: Steps, written: Steps) -> None:
        """Remember that a value is at `new` although the file has it at `written`."""
        self._written[new] = written

    def dropped(self, path: Steps) -> None:
        """Remember that a list entry was left out, so that those after it keep their places in messages."""
        if isinstance(path[-1], int):
            self._dropped.setdefault(path[:-1], []).append(path[-1])

    def incomplete(self, path: Steps) -> bool:
        """Tell whether entries of the list at `path` were left out."""
        return self._original(path) in self._dropped

    def _original(self, path: Steps) -> Steps:
        """Return the path as it was before entries were left out."""
        full: list[str | int] = []
        for step in path:
            place = step
            for index in sorted(self._dropped.get(tuple(full), ())):
                if isinstance(place, int) and index <= place:
                    place += 1
            full.append(place)
        return tuple(full)

    def written(self, path: Steps) -> Steps:
        """Return the path as the file spells it."""
        path = self._original(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self._written:
                return (*self._written[path[:length]], *path[length:])
        return path

    def where(self, path: Steps) -> str:
        """Return `file:line` of a value or of its nearest known ancestor."""
        return self._place(self.written(path))

    def _place(self, path: Steps) -> str:
        for length in range(len(path), -1, -1):
            if path[:length] in self._places:
                return self._places[path[:length]]
        return self.name

    def move(self, written: Steps, value: Any, target: Steps) -> None:
        """Note that a value belongs elsewhere: from the top, or from the parent section when it starts with ".."."""
        path = (*written[:-2], *target[1:]) if target[0] == ".." else target
        self._moves.append((path, value, written))

    def apply_moves(self) -> None:
        """Put moved values to their places. A different value that is there already is an error."""
        for path, value, written in self._moves:
            section: Any = self.data
            for step in path[:-1]:
                section = section.setdefault(step, {}) if isinstance(section, dict) else None
            if not isinstance(section, dict):
                continue  # Its parent is wrong and reported as such.
            name = path[-1]
            if path[0] == "admins":
                self._add_names(section, name, value)
            elif name not in section:
                section[name] = value
                self.renamed(path, written)
            elif section[name] != value:
                self.error(written, value, f"the same value as {dotted(path)}", f"keep {dotted(path)}, remove this one")

    def _add_names(self, section: dict[str, Any], name: Any, value: Any) -> None:
        """Add one name or several to a list. Nothing names nobody."""
        present = section.get(name)
        if isinstance(present, list) or present is None:
            added = [value] if value is not None and not isinstance(value, list) else value or []
            names = [*(present or []), *added]
            section[name] = [item for index, item in enumerate(names) if item not in names[:index]]

    def error(self, path: Steps, value: Any, expected: str, fix: str, *, as_written: bool = False) -> None:
        """Add an error about a value. `as_written`: the path is the file's, not today's."""
        self._add(path if as_written else self.written(path), value, expected, fix, ERROR)

    def warn(self, path: Steps, value: Any, expected: str, fix: str) -> None:
        """Add a warning about a value."""
        self._add(self.written(path), value, expected, fix, WARNING)

    def _add(self, path: Steps, value: Any, expected: str, fix: str, severity: str) -> None:
        self.problems.append(Problem(dotted(path), shown(value), expected, fix, severity, self._place(path)))
