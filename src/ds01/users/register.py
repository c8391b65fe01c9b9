"""What is remembered about people who left: one small file each, so that every step can be taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from ..files import atomic_write, ensure_directory

STATE: Final = Path("/var/lib/ds01/offboard")
ARCHIVE: Final = Path("/var/lib/ds01/archive")
PRIVATE: Final = 0o700

Stage = Literal["begun", "disabled", "archived", "removed", "returned"]


@dataclass(slots=True)
class Leaver:
    """One person who left, and how far it has come."""

    login: str
    uid: int
    gid: int
    home: str
    scratch: str | None
    shell: str
    local: bool
    stage: Stage = "begun"
    groups: list[str] = field(default_factory=list)
    disabled_on: str | None = None
    """UTC date. The period of grace counts from here."""
    archive: str | None = None
    archive_sha256: str | None = None
    """Of the tar stream within the archive."""
    archived_at: float | None = None
    """Seconds since the epoch, when reading began: what changed later is not in the archive."""
    removed_on: str | None = None
    former_uids: list[int] = field(default_factory=list)
    """Of accounts of this login that were removed before."""

    def save(self, state: Path = STATE) -> None:
        """Write the record; a crash leaves the old one or the new one.

        Raises:
            OSError: It could not be written.
        """
        ensure_directory(state, mode=PRIVATE)
        atomic_write(path_of(self.login, state), json.dumps(asdict(self), indent=1) + "\n", mode=0o600)


def path_of(login: str, state: Path = STATE) -> Path:
    """Return the file of one person; the name is quoted so that no login can name another file."""
    return state / f"{quote(login, safe='@')}.json"


def load_all(state: Path = STATE) -> Iterator[Leaver]:
    """Yield everybody who ever left.

    Raises:
        ValueError: A record cannot be read; nobody may be removed on half the facts.
    """
    try:
        names = sorted(path.name for path in state.iterdir() if path.name.endswith(".json"))
    except FileNotFoundError:
        return
    for name in names:
        path = state / name
        try:
            yield Leaver(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}: {error}: a record of off-boarding: restore it from a backup, or remove it"
            ) from error


def disabled(state: Path = STATE) -> dict[str, str]:
    """Return login -> shell of those who left and whose account is still there."""
    return {
        leaver.login: leaver.shell for leaver in load_all(state) if leaver.stage in {"begun", "disabled", "archived"}
    }


def reserved_uids(state: Path = STATE) -> tuple[int, ...]:
    """Return the uids of removed accounts: their archives, volumes and files elsewhere must never get a new owner."""
    uids: list[int] = []
    for leaver in load_all(state):
        uids += leaver.former_uids
        if leaver.stage == "removed" and leaver.local:
            uids.append(leaver.uid)
    return tuple(uids)
