"""What all sections of the policy share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

from ds01.policy.fields import Duration, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import GetJsonSchemaHandler
    from pydantic.fields import FieldInfo
    from pydantic_core import CoreSchema

SUFFIXES = {"_s": "s", "_m": "m", "_h": "h", "_d": "d"}


class Old(NamedTuple):
    """What became of a key of earlier policy files.

    `to` is the key in the same section that took its place (dotted: in a section below it); `moved` the place from
    the top of the file, or from the parent when it starts with ".."; neither means that the key has no effect, and
    `note` says why. `convert` turns an old value into the new form and leaves alone what it does not know.
    """

    to: str = ""
    moved: tuple[str, ...] = ()
    note: str = ""
    convert: Callable[[Any], Any] | None = None

    @property
    def now(self) -> str:
        """Where the value belongs today; empty when it has no effect."""
        return self.to or ".".join(step for step in self.moved if step != "..")


class Derived(NamedTuple):
    """Marks a limit whose default is computed from other limits; `rule` says how."""

    rule: str


class Section(BaseModel):
    """A mapping of the policy file: unknown keys are errors, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    old_names: ClassVar[dict[str, Old]] = {}

    @classmethod
    def kinds(cls) -> Iterator[tuple[str, FieldInfo, Kind | None]]:
        """Yield each field with its kind; None for sections and lists."""
        for name, field in cls.model_fields.items():
            yield name, field, next((item for item in field.metadata if isinstance(item, Kind)), None)

    @classmethod
    def suffixed(cls) -> dict[str, tuple[str, str]]:
        """Return the numeric spellings of durations: {"max_runtime_h": ("max_runtime", "h")}."""
        return {
            name + suffix: (name, unit)
            for name, _, kind in cls.kinds()
            if isinstance(kind, Duration)
            for suffix, unit in SUFFIXES.items()
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Let editors accept the other spellings, old ones struck through."""
        schema = handler.resolve_ref_schema(handler(core))
        properties = schema.setdefault("properties", {})
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        for spelling, (name, unit) in cls.suffixed().items():
            text = f"{name} as a number of {units[unit]}."
            properties[spelling] = {"type": ["number", "null"], "minimum": 0, "description": text}
        for name, old in cls.old_names.items():
            text = f"Old name of {old.now}." if old.now else f"No effect: {old.note}."
            properties[name] = {"deprecated": True, "description": text}
        for name, field, _ in cls.kinds():
            if not field.is_required():
                properties[name].pop("default", None)
        return schema
