"""The reference of the policy file in Markdown, written from the models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ds01.policy.compat import shape_of
from ds01.policy.models import Policy
from ds01.policy.models.base import Derived, Section
from ds01.policy.models.limits import Limits
from ds01.policy.models.policy import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from ds01.policy.fields import Kind

_INTRODUCTION = """\
# Policy reference

Written from the models by `ds01 policy docs`; do not edit.

The policy is one YAML file, by default `inventory/resource-limits.yaml`. Check it with `ds01 policy check FILE`.

- Sizes are binary like Docker's: `1g` = 1024m. A size without a unit is an error, except where bytes are allowed.
- Durations have units: `90s`, `30m`, `48h`, `1h30m`, `7d`, `1w`. Each duration can also be a number with the unit in
  the key: `max_runtime_h: 48` (`_s`, `_m`, `_h`, `_d`).
- `null` means unlimited or switched off, as said for each key; GPU quotas also take `unlimited`.
- Times and dates are UTC. The day in `expires` is the last one that counts.
- `yes`, `no`, `on`, `off` are read as true and false only where a flag belongs; `010` is not a number.
- A key that "takes effect with ..." something is checked and shown; nothing acts on it until that part is there.
- A key that is not listed here is an error. Old keys still work where it says so, with a warning.
- The file is readable by everybody on the host. Keep secrets out of it.

A whole policy can be as short as this; what is not written has the default listed below:

```yaml
default_group: student         # people who are in no list
defaults:
  max_gpu_equivalents: 1       # for everybody, unless a group says otherwise
  memory: 16g
groups:
  student: {}                  # nobody by name, nothing different
  researcher:
    members: [alice, bob]
    memory: 64g                # the rest is as in defaults
user_overrides:
  bob:                         # still a researcher, with more CPUs until the end of March
    max_cpus: 32
    reason: Deadline of the project
    expires: "2027-03-31"
```

`ds01 limits bob --policy FILE --explain` shows what comes out and which part of the file set it.
"""


def reference_text() -> str:
    """Return the whole page."""
    parts = [_INTRODUCTION, *_section("The file", "", Policy)]
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, path: str, model: type[Section], defaults: Section | None = None) -> Iterator[str]:
    """Describe a section; `defaults` holds its values where it is not written, if they are not the model's."""
    level = "##" if path.count(".") == 0 else "###"
    yield f"{level} {title}\n"
    yield f"{_clean(model.__doc__)}\n"
    fields = [entry for entry in model.kinds() if model is Limits or entry[0] not in _inherited(model)]
    yield "| Key | Value | Default | Meaning |\n|---|---|---|---|"
    for name, field, kind in fields:
        default = _default(name, field, kind, defaults)
        yield f"| `{name}` | {_value(field, kind)} | {default} | {_clean(field.description)} |"
    if _inherited(model):
        yield "\nand all keys of `defaults`."
    yield from _old_names(model)
    yield ""
    for name, field, _ in fields:
        shape, inner = shape_of(field.annotation)
        below = f"{path}.{name}" if path else name
        while shape in {"map", "list"}:
            below += ".<name>" if shape == "map" else "[]"
            shape, inner = shape_of(inner)
        if shape == "section" and inner.model_fields:
            default = field.get_default(call_default_factory=True)
            yield from _section(f"`{below}`", below, inner, default if isinstance(default, inner) else None)


def _inherited(model: type[Section]) -> set[str]:
    """Return the keys that are explained at `defaults` already."""
    return set(Limits.model_fields) if issubclass(model, Limits) and model is not Limits else set()


def _clean(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _value(field: FieldInfo, kind: Kind | None) -> str:
    if kind is None:
        shape, inner = shape_of(field.annotation)
        plain = {"section": "section, see below", "map": "section with one entry per name", "list": "list"}[shape]
        element = _element(inner) if shape != "section" else None
        return f"{plain} of {element.describe}" if element and shape == "list" else plain
    text = kind.describe + (", or `unlimited`" if kind.unlimited else "")
    return _clean(f"{text}; null: {kind.null_means}" if kind.nullable and kind.null_means != MISSING else text)


def _element(inner: Any) -> Kind | None:
    return next((item for item in getattr(inner, "__metadata__", ()) if hasattr(item, "describe")), None)


def _default(name: str, field: FieldInfo, kind: Kind | None, defaults: Section | None) -> str:
    if field.is_required() or (kind and kind.null_means == MISSING):
        return "required"
    if derived := next((item for item in field.metadata if isinstance(item, Derived)), None):
        return f"= {_clean(derived.rule)}"
    value = getattr(defaults, name) if defaults else field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return ""
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value)
    shown = kind.written(value) if kind else list(value)
    if shown is None or shown == []:
        return "null" if kind else "none"
    return f"`{shown}`" if isinstance(shown, str) else f"`{json.dumps(shown)}`"


def _old_names(model: type[Section]) -> Iterator[str]:
    own = {name: old for name, old in model.old_names.items() if model is Limits or name not in Limits.old_names}
    if own:
        yield (
            "\nOld keys, accepted with a warning: "
            + "; ".join(
                f"`{name}` (now `{old.now}`)" if old.now else f"`{name}` (no effect: {old.note})"
                for name, old in own.items()
            )
            + "."
        )
