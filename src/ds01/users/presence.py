"""Where a person still is: sessions, processes, containers. Only looked at, never ended."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ..engine.api import ENGINE_SOCKETS, Engine, EngineUnavailableError
from ..mountinfo import mounts

_OWNER_LABELS: Final = ("ds01.user", "aime.mlc.USER")


class UnknownError(Exception):
    """The engine is there and does not answer: whether containers run is not known."""


def sessions(uid: int) -> list[str]:
    """Return the login sessions of a uid, as systemd-logind keeps them."""
    found: list[str] = []
    directory = Path("/run/systemd/sessions")
    for path in sorted(directory.glob("*")) if directory.is_dir() else []:
        # Beside them may be a pipe for each: to read that would be to wait for the end of the session.
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        values = dict(line.partition("=")[::2] for line in text.splitlines())
        if values.get("UID") == str(uid) and values.get("CLASS") != "manager":
            where = values.get("TTY") or values.get("REMOTE_HOST") or values.get("SERVICE") or "?"
            found.append(f"session {path.name} ({where})")
    return found


def processes(uid: int) -> int:
    """Return how many processes of the host run as a uid, those in containers included."""
    count = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                count += entry.stat().st_uid == uid
            except FileNotFoundError:
                continue
    return count


def mounts_below(directories: Iterable[str]) -> list[str]:
    """Return the mount points within directories: what is mounted there is not the person's to remove."""
    below = tuple(directory.rstrip("/") + "/" for directory in directories)
    return [mount.place for mount in mounts() if mount.place.startswith(below)]


def containers() -> list[dict[str, Any]]:
    """Return every container of the engine, as its API lists them; none where there is no engine.

    Raises:
        UnknownError: There is an engine and it does not answer.
    """
    if not any(path.is_socket() for path in ENGINE_SOCKETS):
        return []
    try:
        return list(Engine().get("/containers/json?all=1"))
    except EngineUnavailableError as error:
        raise UnknownError(str(error)) from error


def owned(
    everything: Iterable[dict[str, Any]], login: str, uid: int, directories: Iterable[str]
) -> list[tuple[str, bool]]:
    """Return the person's containers by name, and whether each runs.

    A container is the person's by label, by the uid or the name at the end of its name, or because it has one of the
    person's directories inside.
    """
    below = tuple(directory.rstrip("/") for directory in directories)
    result: list[tuple[str, bool]] = []
    for container in everything:
        names = [str(name).lstrip("/") for name in container.get("Names") or []]
        labels = container.get("Labels") or {}
        sources = [str(mount.get("Source") or "") for mount in container.get("Mounts") or []]
        by_label = labels.get("ds01.uid") == str(uid) or any(labels.get(label) == login for label in _OWNER_LABELS)
        by_name = any(name.endswith((f"._.{uid}", f"._.{login}")) for name in names)
        by_mount = any(source == place or source.startswith(place + "/") for source in sources for place in below)
        if by_label or by_name or by_mount:
            runs = container.get("State") in {"running", "paused", "restarting"}
            result.append((names[0] if names else str(container.get("Id"))[:12], runs))
    return result
