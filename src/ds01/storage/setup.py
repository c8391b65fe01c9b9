"""The whole storage of a host in one go: what `library/ds01_storage.py` and the tests call."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Any, Final

from ..files import atomic_write, read_exactly, remove_file
from ..problems import ApplyError, Problem, RefusedError
from ..users import quota, quotaplan
from ..users.bulk import one_run, text_of
from ..users.groups import GroupPlan
from ..users.model import Change
from ..users.quota import Support
from . import directories, mounts
from .directories import Directory

SCRATCH_MODE: Final = 0o711
"""People reach their own directory by name and cannot list the others."""
QUOTA_UNIT: Final = mounts.UNITS / "ds01-quota.service"
_QUOTA_HEADER: Final = "# Written by DS01 from the policy (storage.quotas); change it there."


def run(config: Mapping[str, Any], *, check: bool) -> dict[str, Any]:
    """Bring directories, mounts and quotas in line with the policy.

    Args:
        config: `directories` (path -> owner, group, mode, acl), `home_root`, `scratch_root`, `nosuid_nodev`, `quotas`
            (auto, required, off).
        check: Only say what would be done.

    Returns:
        changed, changes, quota (by home and scratch), warnings, diff.

    Raises:
        RefusedError: The policy does not fit the host; nothing was changed. Holds all problems.
        ApplyError: The host refused a step.
        OSError: A file could not be written.
    """
    home, scratch = str(config.get("home_root") or "/home"), str(config.get("scratch_root") or "/scratch")
    wanted = [Directory(scratch, mode=SCRATCH_MODE)]
    wanted += [_directory(path, entry) for path, entry in (config.get("directories") or {}).items()]
    groups = GroupPlan()
    found = directories.plan(wanted, groups.gids)
    protect = mounts.plan([home, scratch] if config.get("nosuid_nodev", True) else [])
    mode = str(config.get("quotas") or "auto")
    support, switch_on, problems = _quotas(home, scratch, mode)
    problems += [*found.problems, *protect.problems]
    if problems:
        raise RefusedError(problems)
    unit = _quota_unit(switch_on)
    changes = [*groups.changes, *found.changes, *protect.changes]
    changes += [
        Change("", f"project quotas on {mount}", "off", "on") for mount in switch_on if not _enforced(support, mount)
    ]
    if unit is not None and read_exactly(QUOTA_UNIT) != unit:
        changes.append(Change("", str(QUOTA_UNIT), "absent", "service"))
    if changes and not check:
        with one_run():
            groups.commit()
            directories.apply(found.wanted)
            mounts.apply(protect)
            if unit is not None and read_exactly(QUOTA_UNIT) != unit:
                atomic_write(QUOTA_UNIT, unit, mode=0o644, uid=0, gid=0)
                _systemctl("daemon-reload")
                _systemctl("enable", "--now", QUOTA_UNIT.name)
    working = {kind: item.supported or item.mount in switch_on for kind, item in support.items()}
    warnings = list(protect.warnings)
    warnings += [f"{kind}: {item.reason}: {item.fix}" for kind, item in support.items() if not working[kind]]
    return {
        "changed": bool(changes),
        "changes": [{"what": change.what, "before": change.before, "after": change.after} for change in changes],
        "quota": {
            kind: {"supported": True, "mount": item.mount, "reason": "", "fix": ""}
            if working[kind]
            else {"supported": False, "mount": item.mount, "reason": item.reason, "fix": item.fix}
            for kind, item in support.items()
        },
        "warnings": warnings,
        "diff": {"before": text_of(changes, before=True), "after": text_of(changes, before=False)},
    }


def undo(*, check: bool) -> dict[str, Any]:
    """Take limits, units, mounts and access control lists of ours away; people's data stays.

    Raises:
        ApplyError: systemd or umount refused.
        OSError: A file could not be removed.
    """
    # While they are still enforced: afterwards the tools would not reach them.
    changes, warnings = quotaplan.undo(check=check)
    unmounted, still_mounted = mounts.undo(check=check)
    changes += [*unmounted, *directories.undo(check=check)]
    if QUOTA_UNIT.exists():
        changes.append(Change("", str(QUOTA_UNIT), "service", "absent"))
        if not check:
            _systemctl("disable", "--now", QUOTA_UNIT.name)
            remove_file(QUOTA_UNIT)
            _systemctl("daemon-reload")
    return {
        "changed": bool(changes),
        "changes": [{"what": change.what, "before": change.before, "after": change.after} for change in changes],
        "warnings": [*warnings, *still_mounted],
        "diff": {"before": text_of(changes, before=True), "after": text_of(changes, before=False)},
    }


def _directory(path: str, entry: Mapping[str, Any]) -> Directory:
    mode = entry.get("mode", 0o2770)
    return Directory(
        path=path,
        owner=str(entry.get("owner") or "root"),
        group=str(entry.get("group") or "ds01-users"),
        mode=int(mode, 8) if isinstance(mode, str) else int(mode),
        acl=tuple(str(item) for item in entry.get("acl") or ()),
    )


def _quotas(home: str, scratch: str, mode: str) -> tuple[dict[str, Support], list[str], list[Problem]]:
    """Return support by kind, the mounts whose limits this host has to switch on itself, and problems."""
    if mode == "off":
        return {}, [], []
    support = {"home": quota.support(home), "scratch": quota.support(scratch)}
    switch_on: list[str] = []
    problems: list[Problem] = []
    for kind, item in support.items():
        if item.kind == "ext4" and quota.can_switch_on(item.mount):
            switch_on.append(item.mount)
        elif not item.supported and mode == "required":
            problems.append(
                Problem("storage.quotas", f"{kind} on {item.mount}", f"project quotas ({item.reason})", item.fix)
            )
    return support, sorted(set(switch_on)), problems


def _enforced(support: Mapping[str, Support], mount: str) -> bool:
    return any(item.mount == mount and item.supported for item in support.values())


def _quota_unit(mount_points: list[str]) -> str | None:
    if not mount_points:
        return None
    names = " ".join(mount_points)
    return (
        f"{_QUOTA_HEADER}\n[Unit]\nDescription=Enforce disk quotas by directory\nDefaultDependencies=no\n"
        f"RequiresMountsFor={names}\nAfter=local-fs.target\nBefore=sysinit.target\nConflicts=shutdown.target\n\n"
        "[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        # Already on is no fault: then the mount options did it.
        f"ExecStart=-/usr/sbin/quotaon -P {names}\nExecStop=-/usr/sbin/quotaoff -P {names}\n\n"
        "[Install]\nWantedBy=sysinit.target\n"
    )


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ApplyError(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")
