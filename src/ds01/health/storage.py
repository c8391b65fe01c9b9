"""Do the mount flags and the shared directories hold?"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Check, failed, ok

if TYPE_CHECKING:
    from ..policy import Policy

_FLAGS = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev"}
_FIX = "Run site.yml again with --tags storage."


def check_mounts(policy: Policy) -> Check:
    """Homes and scratch are mounted so that no setuid program and no device node works in them."""
    places = (policy.storage.home_root, policy.storage.scratch_root)
    if not policy.storage.nosuid_nodev:
        return ok("mounts", "the policy asks for no flags on homes and scratch")
    wrong = []
    for place in places:
        try:
            flags = os.statvfs(place).f_flag
        except OSError as error:
            wrong.append(f"{place}: {error.strerror}")
            continue
        wrong += [f"{place}: not {word}" for flag, word in _FLAGS.items() if not flags & flag]
    if wrong:
        return failed("mounts", "; ".join(wrong), _FIX)
    return ok("mounts", f"{' and '.join(places)} are nosuid and nodev")


def check_directories(policy: Policy) -> Check:
    """The shared directories have the owner, group and mode of the policy."""
    wrong = []
    for name, wanted in policy.storage.directories.items():
        try:
            place = Path(name)
            # With an ACL the group's bits show the mask of all entries, not the rights of the group.
            shown = ~stat.S_IRWXG if wanted.acl else ~0
            found = (place.owner(), place.group(), stat.S_IMODE(place.stat().st_mode) & shown)
        except (OSError, KeyError) as error:
            wrong.append(f"{name}: {error}")
            continue
        shall = (wanted.owner, wanted.group, wanted.mode & shown)
        if found != shall:
            wrong.append("{}: {}:{} {:o}, not {}:{} {:o}".format(name, *found, *shall))
    if wrong:
        return failed("directories", "; ".join(wrong), _FIX)
    return ok("directories", f"{len(policy.storage.directories)} shared directories as the policy says")
