"""What has been reported already, so that a job that runs every few minutes says each thing once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ds01.files import atomic_write, ensure_directory

STATE_FILE = Path("/var/lib/ds01/enforce/reported.json")


def load() -> dict[str, Any]:
    """Return the state; an absent or damaged one is empty, so that things are said again rather than never."""
    try:
        data = json.loads(STATE_FILE.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def save(state: dict[str, Any]) -> None:
    """Keep the state. Raises OSError."""
    ensure_directory(STATE_FILE.parent, mode=0o700)
    atomic_write(STATE_FILE, json.dumps(state, indent=1, sort_keys=True) + "\n", mode=0o600)
