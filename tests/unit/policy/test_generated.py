"""What is written from the models is what the repository holds, and the examples are right by it."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from ds01.policy import load_policy
from ds01.policy.models import Policy
from ds01.policy.models.base import Section
from ds01.policy.reference import reference_text
from ds01.policy.schema import SCHEMA_FILE, schema_text

from .conftest import NOW

ROOT = Path(__file__).parents[3]
EXAMPLES = [
    ROOT / "inventory/resource-limits.yaml",
    ROOT / "lab/resource-limits.yaml",
    Path(__file__).parent / "data/existing.yaml",
]


def test_the_schema_for_editors_is_up_to_date():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), (
        "run: ds01 policy schema > src/ds01/policy/schema.json"
    )


def test_the_reference_is_up_to_date():
    kept = (ROOT / "docs/policy-reference.md").read_text(encoding="utf-8")
    assert kept == reference_text(), "run: ds01 policy docs > docs/policy-reference.md"


def test_the_reference_shows_the_defaults_of_each_type_of_container():
    section = reference_text().partition("### `container_types.devcontainer`")[2].partition("###")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in section.splitlines() if line.startswith("| `")]
    assert [(key, default) for key, _, default in rows] == [
        ("`idle_timeout`", "null"),
        ("`max_runtime`", "`7d`"),
        ("`sigterm_grace`", "`30s`"),
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_examples_load_and_editors_agree(path):
    load_policy(path, now=NOW)
    # Editors read JSON's types: keys are text, dates are text.
    data = _plain(yaml.safe_load(path.read_text(encoding="utf-8")))
    jsonschema.Draft202012Validator(Policy.model_json_schema()).validate(data)


def test_the_example_policy_has_no_warnings():
    assert load_policy(EXAMPLES[0], now=NOW).warnings == ()


def _plain(value):
    if isinstance(value, dict):
        # A section without content is a warning, not an error, and editors underline it.
        return {str(key): _plain(item) for key, item in value.items() if not (item is None and key == "gpu_allocation")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def test_every_key_is_explained():
    seen: set[type[Section]] = set()

    def walk(model: type[Section]) -> None:
        if model in seen:
            return
        seen.add(model)
        for name, field, _ in model.kinds():
            assert field.description, f"{model.__name__}.{name}"
        for sub in Section.__subclasses__():
            walk(sub)

    walk(Policy)
    assert len(seen) > 10
