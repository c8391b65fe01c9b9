"""Shapes of JSON: what an object of the API may hold. What no shape names is refused, by its path.

A shape takes a value and where it stands and returns the value to send, or raises Refused. `null` stands for a value
that is not given, as it does for the engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ds01.gateway.refusals import Refused

Shape = Callable[[Any, str], Any]

_TEXT_MAX: Final = 64 << 10
_ITEMS_MAX: Final = 4_096
_DECIMAL: Final = re.compile(r"[0-9]{1,19}")


def wrong(path: str, expected: str) -> Refused:
    """A value that cannot be what the API says."""
    return Refused(400, f"{path}: expected {expected}", "api.field")


def decimal(written: str) -> int | None:
    """The number that a text is in plain digits, or None: `int` takes those of other scripts, and not too many."""
    return int(written) if _DECIMAL.fullmatch(written) else None


def text(value: Any, path: str) -> str | None:
    """A text without control characters that would end it early elsewhere."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "\0" in value:
        raise wrong(path, "a text")
    return value


def flag(value: Any, path: str) -> bool | None:
    """True or false."""
    if value is not None and not isinstance(value, bool):
        raise wrong(path, "true or false")
    return value


def whole(least: int = -(1 << 63), most: int = (1 << 63) - 1) -> Shape:
    """A whole number within bounds."""

    def check(value: Any, path: str) -> int | None:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(path, f"a whole number from {least} to {most}")
        return value

    return check


def items(shape: Shape, most: int = _ITEMS_MAX) -> Shape:
    """A list of at most so many."""

    def check(value: Any, path: str) -> list[Any] | None:
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > most:
            raise wrong(path, f"a list of at most {most}")
        return [shape(item, f"{path}[{index}]") for index, item in enumerate(value)]

    return check


def table(shape: Shape, most: int = _ITEMS_MAX) -> Shape:
    """An object of at most so many names, which are free."""

    def check(value: Any, path: str) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict) or len(value) > most:
            raise wrong(path, f"an object of at most {most}")
        return {name: shape(item, f"{path}[{name[:64]!r}]") for name, item in value.items()}

    return check


def words(value: Any, path: str) -> list[str] | None:
    """A command: a list of texts; the engine also takes one text for a list of it."""
    if isinstance(value, str):
        value = [value]
    found: list[str] | None = items(required(text))(value, path)
    return found


def required(shape: Shape) -> Shape:
    """A value that may not be null."""

    def check(value: Any, path: str) -> Any:
        if value is None:
            raise wrong(path, "a value, not null")
        return shape(value, path)

    return check


def empty(value: Any, path: str) -> None:
    """An object without content, as in sets."""
    if value not in (None, {}):
        raise wrong(path, "{}")


def record(fields: Mapping[str, Shape]) -> Shape:
    """An object with these names, spelled exactly so; those that are null or absent are left out."""

    def check(value: Any, path: str) -> dict[str, Any] | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise wrong(path or "the body", "an object")
        for name in value:
            if name not in fields:
                raise unknown(path, name)
        prefix = f"{path}." if path else ""
        cleaned = {name: fields[name](item, prefix + name) for name, item in value.items() if item is not None}
        return {name: item for name, item in cleaned.items() if item is not None}

    return check


def only(fields: Mapping[str, Shape]) -> Shape:
    """An object of which these names are taken, and others left out that the engine would not read as one of them."""
    known = record(fields)
    folded = {name.casefold() for name in fields}

    def check(value: Any, path: str) -> dict[str, Any] | None:
        if isinstance(value, dict):
            value = {
                name: item
                for name, item in value.items()
                if name in fields or not name.isascii() or name.casefold() in folded
            }
        found: dict[str, Any] | None = known(value, path)
        return found

    return check


def unknown(path: str, name: str) -> Refused:
    """A name that no table has."""
    where = f"{path}.{name[:64]}" if path else name[:64]
    return Refused(
        400,
        f"{where}: not a field that this server accepts",
        "api.unknown-field",
        "leave it out, or write it exactly as the Docker API does",
    )
