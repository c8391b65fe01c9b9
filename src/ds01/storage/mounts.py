"""Homes and scratch without setuid programs and device files, now and after every boot, whatever they lie on.

A directory that is no file system of its own gets a mount unit that binds it onto itself; one that is gets a drop-in
for the unit that mounts it. Sessions keep running: what they have open stays open, what they open next is protected.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..files import atomic_write, ensure_directory, read_exactly, remove_file
from ..mountinfo import mounts, topmost
from ..problems import ApplyError, Problem
from ..slices.names import escape
from ..users.model import Change

UNITS: Final = Path("/etc/systemd/system")
HEADER: Final = "# Written by DS01 from the policy (storage.nosuid_nodev); change it there."
FLAGS: Final = ("nosuid", "nodev")
_DROPIN: Final = "50-ds01.conf"
_WANTS: Final = UNITS / "local-fs.target.wants"


@dataclass(slots=True)
class MountPlan:
    """What differs."""

    changes: list[Change] = field(default_factory=list)
    files: dict[Path, str] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    """Units to be enabled."""
    start: list[str] = field(default_factory=list)
    remount: dict[str, str] = field(default_factory=dict)
    """Mount point -> options."""
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def unit_name(path: str) -> str:
    """Return the name systemd gives to the mount unit of a path."""
    return escape(path.strip("/")) + ".mount"


def plan(paths: Sequence[str]) -> MountPlan:
    """Find out what the directories lack."""
    result = MountPlan()
    table = {place: mount.flags for place, mount in topmost().items()}
    for path in paths:
        if Path(path).is_symlink():
            real = os.path.realpath(path)
            result.warnings.append(
                f"{path}: a link to {real}: not protected by nosuid,nodev: name {real} in the policy (storage)"
            )
            continue
        unit = UNITS / unit_name(path)
        live = table.get(path)
        if live is None and not _ours(unit) and _fragment_options(unit.name) is not None:
            # A unit of ours would hide the one of /etc/fstab: after the next boot everybody's files would seem gone.
            fix = f"mount it (systemctl start {unit.name}), or take it out of /etc/fstab"
            result.problems.append(Problem("storage", f"{path} is not mounted", f"what {unit.name} mounts there", fix))
        elif live is None or _ours(unit):
            _self_bind(result, path, unit, live)
        else:
            _own_file_system(result, path, unit.name, live)
    return result


def apply(todo: MountPlan) -> None:
    """Write the units, tell systemd, and put the flags in force.

    Raises:
        OSError: A unit could not be written.
        ApplyError: systemd or mount refused.
    """
    for path, text in todo.files.items():
        ensure_directory(path.parent, mode=0o755)
        atomic_write(path, text, mode=0o644, uid=0, gid=0)
    for name in todo.links:
        ensure_directory(_WANTS, mode=0o755)
        if not os.path.lexists(_WANTS / name):
            (_WANTS / name).symlink_to(UNITS / name)
    if todo.files or todo.links:
        _run("systemctl", "daemon-reload")
    for name in todo.start:
        _run("systemctl", "start", name)
    for place, options in todo.remount.items():
        _run("mount", "-o", f"remount,bind,{options}", place)


def undo(*, check: bool) -> tuple[list[Change], list[str]]:
    """Take our units and their mounts away; directories and what is in them stay, open files stay open.

    Returns:
        What changes, and what stays until the next boot.

    Raises:
        ApplyError: systemd or umount refused.
    """
    changes: list[Change] = []
    warnings: list[str] = []
    for unit in sorted(UNITS.glob("*.mount")):
        if _ours(unit):
            where = next(
                line.partition("=")[2] for line in (read_exactly(unit) or "").splitlines() if line.startswith("Where=")
            )
            changes.append(Change("", f"{where} nosuid,nodev", "on", "off"))
            if not check:
                remove_file(_WANTS / unit.name)
                remove_file(unit)
            if bound_to_itself(where):
                # Lazily: sessions inside keep what they have open.
                if not check:
                    _run("umount", "--lazy", where)
            elif where in topmost():
                warnings.append(
                    f"{where}: something else is mounted over it: nosuid,nodev stay below until the next boot"
                )
    for dropin in sorted(UNITS.glob(f"*.mount.d/{_DROPIN}")):
        mounted_by = dropin.parent.name.removesuffix(".d")
        changes.append(Change("", f"{mounted_by} nosuid,nodev", "on", "off"))
        if not check:
            remove_file(dropin)
            if not any(dropin.parent.iterdir()):
                dropin.parent.rmdir()
            _give_back(mounted_by)
    if changes and not check:
        if _WANTS.is_dir() and not any(_WANTS.iterdir()):
            _WANTS.rmdir()
        _run("systemctl", "daemon-reload")
    return changes, warnings


def bound_to_itself(path: str) -> bool:
    """Tell whether the topmost mount at a path shows what would be there without it, as our units have it."""
    found = topmost().get(path)
    below = next((mount for mount in mounts() if found is not None and mount.number == found.parent), None)
    if found is None or below is None:
        return False
    inside = os.path.relpath(path, below.place)
    return (found.device, found.root) == (below.device, str(Path(below.root, inside)))


def _self_bind(result: MountPlan, path: str, unit: Path, live: frozenset[str] | None) -> None:
    text = (
        f"{HEADER}\n[Unit]\nDescription=No setuid programs and no device files below {path}\n\n"
        f"[Mount]\nWhat={path}\nWhere={path}\nType=none\nOptions=bind,{','.join(FLAGS)}\n\n[Install]\nWantedBy=local-fs.target\n"
    )
    if read_exactly(unit) != text:
        result.files[unit] = text
        result.changes.append(Change("", str(unit), "absent", "mount unit"))
    if not os.path.lexists(_WANTS / unit.name):
        result.links.append(unit.name)
        result.changes.append(Change("", f"{unit.name} at boot", "off", "on"))
    if live is None:
        result.start.append(unit.name)
        result.changes.append(Change("", f"{path} nosuid,nodev", "off", "on"))
    elif not live.issuperset(FLAGS):
        result.remount[path] = _with_flags(live)
        result.changes.append(Change("", f"{path} nosuid,nodev", "off", "on"))


def _own_file_system(result: MountPlan, path: str, unit: str, live: frozenset[str]) -> None:
    if not live.issuperset(FLAGS):
        result.remount[path] = _with_flags(live)
        result.changes.append(Change("", f"{path} nosuid,nodev", "off", "on"))
    options = _fragment_options(unit)
    if options is None:
        result.warnings.append(
            f"{path}: mounted by no unit of systemd: nosuid,nodev may be lost at a reboot: list it in /etc/fstab"
        )
        return
    dropin = UNITS / f"{unit}.d" / _DROPIN
    if set(FLAGS) <= set(options):
        return
    kept = [item for item in options if item not in {"suid", "dev", *FLAGS}]
    text = f"{HEADER}\n[Mount]\nOptions={','.join([*kept, *FLAGS])}\n"
    if read_exactly(dropin) != text:
        result.files[dropin] = text
        result.changes.append(Change("", str(dropin), "absent", "drop-in"))


def _with_flags(live: frozenset[str]) -> str:
    # A remount forgets every flag it is not told.
    return ",".join([*sorted(live - {"rw"}), *FLAGS])


def _give_back(unit: str) -> None:
    options = _fragment_options(unit)
    where = subprocess.run(
        ["systemctl", "show", "-P", "Where", unit], capture_output=True, text=True, check=False
    ).stdout.strip()
    mounted = topmost().get(where)
    if options is None or mounted is None:
        return
    gone = {flag for flag in FLAGS if flag not in options}
    back = sorted(mounted.flags - gone - {"rw"})
    _run(
        "mount",
        "-o",
        ",".join(["remount", "bind", *back, *({"nosuid": "suid", "nodev": "dev"}[flag] for flag in gone)]),
        where,
    )


def _fragment_options(unit: str) -> list[str] | None:
    """Return the options of the unit's own file, without drop-ins: of ours there may be one."""
    shown = subprocess.run(
        ["systemctl", "show", "-P", "FragmentPath", unit], capture_output=True, text=True, check=False
    )
    path = Path(shown.stdout.strip() or "/nonexistent")
    try:
        text = read_exactly(path)
    except OSError:
        return None
    if text is None:
        return None
    lines = text.splitlines()
    values = [line.partition("=")[2] for line in lines if line.startswith("Options=")]
    return [item for value in values for item in value.split(",") if item] or ["defaults"]


def _ours(unit: Path) -> bool:
    try:
        return (read_exactly(unit) or "").startswith("# Written by DS01")
    except OSError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ApplyError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
