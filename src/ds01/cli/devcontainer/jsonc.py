"""JSON as editors write it: with comments, and commas after the last entry."""

from __future__ import annotations

import json
import re
from typing import Any, Final

_TOKEN: Final = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)


def parse(text: str) -> Any:
    """Return what a text says. Raises ValueError, with the line."""
    # A comma is the last one only when the comments behind it are gone.
    return json.loads(_cleaned(_cleaned(text)))


def _cleaned(text: str) -> str:
    # Lines stay, so that a fault is where it is said to be.
    return _TOKEN.sub(lambda match: match[1] or "\n" * match[0].count("\n"), text)
