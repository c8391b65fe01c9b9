"""Containers that were there before DS01: whose they are, and in which slice they start next time.

A running container stays in its cgroup until its next start. The engine has no call that changes the cgroup parent of
an existing container, so its stored configuration is changed while the engine is down and the containers run on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import events, files
from ..slices.names import SliceNameError, user_slice
from ..slices.people import host_groups
from ..slices.spec import SliceSpec
from .owners import owner

SliceOf = Callable[[str], "tuple[str, str | None]"]
"""Returns the group and the slice of a login; no slice for a name that none can be made of."""


def placement(spec: SliceSpec) -> SliceOf:
    """Return the function that gives group and slice of a login under this policy.

    A list in the policy wins over a group of the directory service, that over the default group.
    """

    def slice_of(login: str) -> tuple[str, str | None]:
        group = spec.members.get(login) or host_groups(spec, [login]).get(login, spec.default_group)
        try:
            return group, user_slice(group, login)
        except SliceNameError:
            return group, None

    return slice_of


def survey(containers: Iterable[Mapping[str, Any]], slice_of: SliceOf) -> list[dict[str, Any]]:
    """Return one entry for each container: what it is, its owner, how that is known, and the slice for its next start.

    Args:
        containers: Inspected ones.
        slice_of: Gives group and slice of a login.
    """
    found = []
    for container in containers:
        person = owner(container)
        group, unit = slice_of(person.name) if person is not None else (None, None)
        found.append(
            {
                "id": container["Id"],
                "name": str(container.get("Name", "")).lstrip("/"),
                "state": (container.get("State") or {}).get("Status", "unknown"),
                "uid": person.uid if person else None,
                "owner": person.name if person else None,
                "how": person.how if person else None,
                "group": group,
                "slice": unit,
                "previous_parent": (container.get("HostConfig") or {}).get("CgroupParent") or "",
            }
        )
    return sorted(found, key=lambda entry: str(entry["name"]))


def move(entries: Iterable[Mapping[str, Any]], root: Path) -> list[str]:
    """Let each owned container that chose no cgroup parent start in its owner's slice. The engine must be stopped.

    Args:
        entries: What `survey` returned.
        root: The engine's data directory.

    Returns:
        The names of the containers that were changed.
    """
    wanted = [entry for entry in entries if entry["slice"] and not entry["previous_parent"]]
    return [str(entry["name"]) for entry in wanted if _set_parent(root, entry["id"], entry["slice"])]


def move_back(entries: Iterable[Mapping[str, Any]], root: Path) -> list[str]:
    """Undo `move` for the containers that still exist. The engine must be stopped."""
    moved = [entry for entry in entries if entry["slice"] and not entry["previous_parent"]]
    return [str(entry["name"]) for entry in moved if _set_parent(root, entry["id"], "")]


def announce(entries: Iterable[Mapping[str, Any]]) -> None:
    """Record one event for each container: it has an owner from now on, or is reported as nobody's."""
    for entry in entries:
        events.record(
            "container.adopt",
            subject={"kind": "container", "name": entry["name"], "id": entry["id"][:12]},
            decision="allowed" if entry["owner"] else "warned",
            rule="adoption",
            reason=f"belongs to {entry['owner']} ({entry['how']})"
            if entry["owner"]
            else "belongs to nobody that is known",
            fix=None if entry["owner"] else "only administrators can use it: remove it, or make it again as its user",
            details={key: entry[key] for key in ("uid", "group", "slice", "state")},
        )


def _set_parent(root: Path, identity: str, parent: str) -> bool:
    path = root / "containers" / identity / "hostconfig.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        # Removed since it was surveyed.
        return False
    if settings.get("CgroupParent", "") == parent:
        return False
    settings["CgroupParent"] = parent
    return files.atomic_write(path, json.dumps(settings, separators=(",", ":")), mode=mode)
