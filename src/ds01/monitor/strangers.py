"""Containers that run and whose owner has no account now: no limit of time is applied to them, so people must look."""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from typing import Final

from ds01.monitor.model import Sample

_NAMED: Final = 5
FIX: Final = (
    "While a directory service is away, wait for it. If they have left: `docker stop NAME` as an administrator, and "
    "`docker rm NAME` once nobody needs what is in it."
)


def strangers(sample: Sample | None) -> list[str]:
    """Return the names of these containers, with the number of each one's owner; none where nothing was looked at."""
    if sample is None:
        return []
    return sorted(
        f"{one.name} (uid {one.uid})"
        for one in sample.containers or ()
        if one.running and one.uid is not None and not _has_account(one.uid)
    )


def sentence(names: Sequence[str]) -> str:
    """Say it, of at least one."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"no account here has the owner's number, so no limit of time ends: {', '.join(names[:_NAMED])}{more}"


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
