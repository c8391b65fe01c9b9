"""The JSON Schema of the policy file, for editors. Kept beside this module and compared by a test."""

from __future__ import annotations

import json
from pathlib import Path

from ds01.policy.models import Policy

SCHEMA_FILE = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Return the JSON Schema as it is kept in `schema.json`."""
    schema = Policy.model_json_schema()
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "DS01 resource-limits.yaml"}
    return json.dumps({**schema, **about}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
