"""Brings every accepted spelling of the policy to today's names, and finds keys that mean nothing.

Driven by the models: their fields, their `old_names` and the suffixed spellings of their durations.
"""

from __future__ import annotations

import math
import re
import types
import typing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ds01.policy.fields import Duration
from ds01.policy.models.base import Old, Section
from ds01.policy.problems import closest, dotted

if TYPE_CHECKING:
    from ds01.policy.draft import Draft
    from ds01.policy.source import Steps

_ENDLESS = frozenset({"never", "none", "indefinite", "unlimited"})
_SHORT_LIST = 12


def normalise(annotation: Any, value: Any, path: Steps, draft: Draft) -> Any:
    """Return `value` with today's names, as the annotation of its field describes it. Findings go to the draft."""
    shape, inner = shape_of(annotation)
    if shape == "section" and isinstance(value, dict):
        return _Walk(inner, path, draft).section(value)
    if shape == "map" and isinstance(value, dict):
        return {key: _element(inner, item, (*path, key), draft) for key, item in value.items()}
    if shape == "list" and isinstance(value, list):
        return [normalise(inner, item, (*path, index), draft) for index, item in enumerate(value)]
    return value


def _element(inner: Any, value: Any, path: Steps, draft: Draft) -> Any:
    if value is None and shape_of(inner)[0] != "plain":
        draft.warn(path, None, "a section; nothing in it is read as empty", "write {} or remove the key")
        return {} if shape_of(inner)[0] == "section" else []
    return normalise(inner, value, path, draft)


def shape_of(annotation: Any) -> tuple[str, Any]:
    """Return how a field is built: ("section", model), ("map" or "list", inner annotation) or ("plain", None)."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return shape_of(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return "plain", None
    if origin is dict:
        return "map", arguments[1]
    if origin is tuple:
        return "list", arguments[0]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section", annotation
    return "plain", None


class _Walk:
    """One section on its way to today's names."""

    def __init__(self, model: type[Section], path: Steps, draft: Draft) -> None:
        self.model, self.path, self.draft = model, path, draft
        self.kinds = {name: kind for name, _, kind in model.kinds()}
        self.suffixed = model.suffixed()
        self.result: dict[str, Any] = {}

    def section(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the section with today's names only."""
        for key, value in data.items():
            if key in self.kinds:
                self._field(key, value, key)
            elif key in self.model.old_names:
                self._old(key, value, self.model.old_names[key])
            elif key in self.suffixed:
                self._suffixed(key, value)
            else:
                self._unknown(key, value)
        return self.result

    def _field(self, name: str, value: Any, written: str) -> None:
        if name in self.result:
            other = self.draft.written((*self.path, name))[-1]
            path, fix = (*self.path, written), f"remove {written} or {other}"
            self.draft.error(path, value, f"{name} once", fix, as_written=True)
            return
        path = (*self.path, name)
        if written != name:
            self.draft.renamed(path, (*self.path, written))
        annotation = self.model.model_fields[name].annotation
        if value is None and shape_of(annotation)[0] != "plain":
            self.draft.warn(path, None, "a section; nothing in it is read as empty", "remove the key")
            return
        kind = self.kinds[name]
        if isinstance(kind, Duration) and kind.nullable and isinstance(value, str) and value.lower() in _ENDLESS:
            self.draft.warn(path, value, f"null, which means {kind.null_means}", "write null")
            value = None
        self.result[name] = normalise(annotation, value, path, self.draft)

    def _old(self, key: str, value: Any, old: Old) -> None:
        path = (*self.path, key)
        if not old.now:
            self.draft.warn(path, value, f"no such key any more ({old.note})", "remove it; it has no effect")
            return
        fix = f"move it to {old.now}" if old.moved else f"call it {old.now}"
        self.draft.warn(path, value, "the key's current name", fix)
        value = old.convert(value) if old.convert else value
        if old.moved:
            self.draft.move(path, value, old.moved)
            return
        section, _, name = old.to.rpartition(".")
        if section:
            self.draft.move(path, value, (*self.path, section, name))
        else:
            self._field(old.to, value, key)

    def _suffixed(self, key: str, value: Any) -> None:
        name, unit = self.suffixed[key]
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                number = (
                    re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd]?)", value) if isinstance(value, str) else None
                )
                fix = f"write {key}: 24, or {name}: 24{unit}"
                if number:
                    fix = f"write {name}: {number[1]}{number[2] or unit}"
                self.draft.error(
                    (*self.path, key), value, f"a number, not negative; the unit is in the name {key}", fix
                )
                return
            value = f"{Decimal(repr(value)):f}{unit}"
        self._field(name, value, key)

    def _unknown(self, key: str, value: Any) -> None:
        known = [
            *self.kinds,
            *self.model.old_names,
            *(name for name, (_, unit) in self.suffixed.items() if unit == "h"),
        ]
        near = closest(key, known)
        fix = f"did you mean {near}?" if near else "remove it, or check the indentation"
        names = ", ".join(self.kinds) if len(self.kinds) <= _SHORT_LIST else "see the policy reference"
        section = dotted(self.path) if self.path else "the file"
        self.draft.error((*self.path, key), value, f"a key of {section} ({names})", fix)
