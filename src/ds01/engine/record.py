"""What was there before, so that it can be put back; and what an interrupted run still owes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from .. import files

STATE: Final = Path("/var/lib/ds01/engine")
_BEFORE: Final = "before.json"
_PENDING: Final = "restart-pending"
_ADOPTED: Final = "adopted.json"


class Record:
    """Root-only files in one directory."""

    def __init__(self, directory: Path = STATE) -> None:
        """Use this directory; it is made when something is first written."""
        self.directory = directory

    def before(self) -> dict[str, Any] | None:
        """Return what the host was like before the first change, or None if it was never changed."""
        return self._load(_BEFORE)

    def keep_before(self, state: dict[str, Any]) -> None:
        """Remember this as the state to go back to."""
        self._store(_BEFORE, state)

    def adopted(self) -> dict[str, Any] | None:
        """Return the containers that were there first, or None if nobody has looked yet."""
        return self._load(_ADOPTED)

    def keep_adopted(self, state: dict[str, Any]) -> None:
        """Remember the containers that were there first."""
        self._store(_ADOPTED, state)

    @property
    def pending(self) -> bool:
        """Whether the engine still has to be restarted for settings that are already in place."""
        return (self.directory / _PENDING).exists()

    def owe_restart(self) -> None:
        """Note, before anything is changed, that a restart must follow: an interrupted run is then completed."""
        self._directory()
        files.atomic_write(self.directory / _PENDING, "", mode=0o600)

    def restarted(self) -> None:
        """Note that it has."""
        files.remove_file(self.directory / _PENDING)

    def forget(self) -> None:
        """Remove everything, and the directory."""
        for name in (_PENDING, _ADOPTED, _BEFORE):
            files.remove_file(self.directory / name)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _directory(self) -> None:
        files.ensure_directory(self.directory, mode=0o700)

    def _load(self, name: str) -> dict[str, Any] | None:
        try:
            text = (self.directory / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def _store(self, name: str, state: dict[str, Any]) -> None:
        self._directory()
        files.atomic_write(self.directory / name, json.dumps(state, indent=2, sort_keys=True) + "\n", mode=0o600)
