"""The kinds of values in a policy: what each accepts, how it is written back, how it is described.

A kind is put into an annotation: `memory: Annotated[int | None, Size(nullable=True)]`. It checks strictly (no guessing
of types) and explains what it expected in words for an administrator.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError, core_schema

from ds01.policy import units
from ds01.policy.problems import BadValue, closest

if TYPE_CHECKING:
    from collections.abc import Callable

_TRUE = frozenset({"yes", "on", "true"})
_FALSE = frozenset({"no", "off", "false"})


class Kind:
    """Base of all kinds: null handling, pydantic and JSON Schema glue."""

    name = "text"
    # What the reference says belongs here.
    describe = "text"
    null_fix = "remove the line, or write a value"

    def __init__(self, *, nullable: bool = False, null_means: str = "unlimited", unlimited: bool = False) -> None:
        """Accept null when `nullable`, which then means `null_means`; also the word "unlimited" if asked."""
        self.nullable = nullable
        self.null_means = null_means
        self.unlimited = unlimited

    def parse(self, value: Any) -> Any:
        """Return the value in internal units. Raises BadValue."""
        raise NotImplementedError

    def dump(self, value: Any) -> Any:
        """Return the canonical YAML form of an internal value."""
        return value

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a non-null value."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """Return the internal value, null and "unlimited" included. Raises BadValue."""
        if value is None or (self.unlimited and value == "unlimited"):
            if self.nullable:
                return None
            raise BadValue(self.describe, self.null_fix)
        return self.parse(value)

    def written(self, value: Any) -> Any:
        """Return the canonical YAML form of an internal value or of null."""
        return None if value is None else self.dump(value)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> core_schema.CoreSchema:
        def validate(value: Any) -> Any:
            try:
                return self.check(value)
            except BadValue as error:
                context = {"expected": error.expected, "fix": error.fix}
                raise PydanticCustomError("bad_value", "{expected}: {fix}", context) from error

        return core_schema.no_info_plain_validator_function(
            validate,
            serialization=core_schema.plain_serializer_function_ser_schema(self.written),
            metadata={"pydantic_js_functions": [self._schema_hook]},
        )

    def _schema_hook(self, _schema: Any, _handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        schema = self.json_schema()
        if self.unlimited:
            schema = {"anyOf": [schema, {"const": "unlimited"}]}
        return {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]} if self.nullable else schema


class Whole(Kind):
    """A whole number within bounds."""

    name = "number"

    def __init__(self, ge: int, le: int = 2**31 - 1, **options: Any) -> None:
        """Accept ge..le."""
        super().__init__(**options)
        self.ge, self.le = ge, le
        self.describe = f"a whole number from {ge} to {le}" if le < 2**31 - 1 else f"a whole number, at least {ge}"

    def parse(self, value: Any) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int):
            if isinstance(value, float) and math.isfinite(value) and value == int(value):
                return self.parse(int(value))
            raise BadValue(self.describe, number_hint(value, self))
        if not self.ge <= value <= self.le:
            raise BadValue(self.describe, "choose a number in this range")
        return value

    def json_schema(self) -> dict[str, Any]:
        """Return an integer with bounds."""
        return {"type": "integer", "minimum": self.ge, "maximum": self.le}


class Number(Kind):
    """A number, with a fraction allowed."""

    name = "number"

    def __init__(self, ge: float, le: float, **options: Any) -> None:
        """Accept ge..le."""
        super().__init__(**options)
        self.ge, self.le = ge, le
        self.describe = f"a number from {units.format_number(ge)} to {units.format_number(le)}"

    def parse(self, value: Any) -> float:
        """Return the number as float."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadValue(self.describe, number_hint(value, self))
        if not math.isfinite(value) or not self.ge <= value <= self.le:
            fix = f"choose a number from {units.format_number(self.ge)} to {units.format_number(self.le)}"
            raise BadValue(self.describe, fix + (f"; null means {self.null_means}" if self.nullable else ""))
        return float(value)

    def dump(self, value: Any) -> Any:
        """Return 32.0 as 32."""
        return int(value) if value == int(value) else value

    def json_schema(self) -> dict[str, Any]:
        """Return a number with bounds."""
        return {"type": "number", "minimum": self.ge, "maximum": self.le}


def number_hint(value: Any, kind: Kind) -> str:
    """Return how to turn a wrong value into a number."""
    if isinstance(value, str):
        if re.fullmatch(r"0[0-9]+", value):
            return f"leading zeros look octal: write {value.lstrip('0') or '0'}"
        if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value):
            return f"remove the quotes: {value}"
        if value.lower() in {"unlimited", "none", "never"} and kind.nullable:
            return f"write null, which means {kind.null_means}"
        if value.lower() in _TRUE | _FALSE:
            return "yes and no are not numbers"
    if isinstance(value, bool):
        return "true and false are not numbers"
    return "write a plain number"


class Cpus(Number):
    """A number of CPUs; also systemd's percentage."""

    name = "cpus"

    def __init__(self, **options: Any) -> None:
        """Docker refuses less than 0.01 CPUs; no machine has 65,536."""
        super().__init__(0.01, 65_536, **options)
        self.describe = 'a number of CPUs, like 4 or 0.5 (or "400%")'

    def parse(self, value: Any) -> float:
        """Return the number of CPUs."""
        if isinstance(value, str) and value.strip().endswith("%"):
            value = units.parse_cpu_percent(value)
        return super().parse(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a number or a percentage."""
        return {"anyOf": [super().json_schema(), {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*%$"}]}


class Flag(Kind):
    """true or false; yes/no and on/off are read as people mean them."""

    name = "flag"
    describe = "true or false"

    def parse(self, value: Any) -> bool:
        """Return the truth value."""
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise BadValue(self.describe, "write true or false")

    def json_schema(self) -> dict[str, Any]:
        """Return a boolean."""
        return {"type": "boolean"}


class Size(Kind):
    """A size in bytes, written with a binary unit."""

    name = "size"
    # A bare number from here on was meant as bytes.
    least_bytes = 2**20

    def __init__(self, *, least: int = 1, plain: bool = False, **options: Any) -> None:
        """Refuse less than `least` bytes; accept a bare number of bytes only when `plain`."""
        super().__init__(**options)
        self.least, self.plain = least, plain
        self.describe = 'a size like "512m" or "32g" (1g = 1024m)' + (", or a number of bytes" if plain else "")

    def parse(self, value: Any) -> int:
        """Return bytes."""
        if self.plain and isinstance(value, int) and not isinstance(value, bool):
            size = value
        elif isinstance(value, str):
            size = units.parse_size(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value):
            number = units.format_number(value)
            fix = f'"{number}g" or "{number}m"' if value < self.least_bytes else f'"{units.format_size(int(value))}"'
            raise BadValue(self.describe, f"add the unit: {fix}")
        else:
            raise BadValue(self.describe, 'write it like "32g"; null means unlimited')
        if size > units.SIZE_MAX:
            raise BadValue("a size below 8 EiB", "check the unit")
        if size < self.least:
            raise BadValue(f"a size of at least {units.format_size(self.least)}", "write a larger size")
        return size

    def dump(self, value: Any) -> str:
        """Return "32g"."""
        return units.format_size(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a string with a unit, or also an integer."""
        text = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*[bkmgtpBKMGTP]([iI]?[bB])?\s*$"}
        return {"anyOf": [text, {"type": "integer", "minimum": self.least}]} if self.plain else text


class Duration(Kind):
    """A time span in seconds, written with units."""

    name = "duration"
    describe = 'a duration like "30m", "48h", "1h30m" or "7d"'

    def __init__(self, *, least: int = 0, **options: Any) -> None:
        """Refuse less than `least` seconds."""
        super().__init__(**{"null_means": "no limit", **options})
        self.least = least

    def parse(self, value: Any) -> int:
        """Return seconds."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value) or value < 0:
                raise BadValue(self.describe, "a duration is not negative; null switches it off")
            number = units.format_number(value)
            raise BadValue(self.describe, f'a bare number has no unit: write "{number}h" or "{number}m"')
        if not isinstance(value, str):
            raise BadValue(self.describe, 'write it like "48h"')
        seconds = units.parse_duration(value)
        if seconds < self.least:
            fix = "write a longer time" + (f"; null means {self.null_means}" if self.nullable else "")
            raise BadValue(f"a duration of at least {units.format_duration(self.least)}", fix)
        return seconds

    def dump(self, value: Any) -> str:
        """Return "48h"."""
        return units.format_duration(value)

    def json_schema(self) -> dict[str, Any]:
        """Return a string of numbers with units."""
        return {"type": "string", "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[wdhmsWDHMS]\s*)+$"}


class Choice(Kind):
    """One of a few words."""

    name = "choice"

    def __init__(self, *words: str, **options: Any) -> None:
        """Accept exactly these words."""
        super().__init__(**options)
        self.words = words
        self.describe = "one of " + ", ".join(words)

    def parse(self, value: Any) -> str:
        """Return the word."""
        if isinstance(value, str) and value in self.words:
            return value
        near = closest(value, self.words) if isinstance(value, str) else None
        raise BadValue(self.describe, f"did you mean {near}?" if near else f"write {self.words[0]}")

    def json_schema(self) -> dict[str, Any]:
        """Return an enumeration."""
        return {"enum": list(self.words)}
