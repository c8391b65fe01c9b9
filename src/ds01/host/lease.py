"""One deployment at a time on a host.

A deployment lasts over many connections, so no process could hold a lock for it. A small file says who is at it. A run
that died is recognised at once by the controller it came from, and from any other after a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

from .. import files

LEASE: Final = Path("/run/ds01-deployment.json")
_LOCK: Final = Path("/root")
"""A directory, for a lock file would have to stay; which only root can open, so that nobody else can hold the lock."""
STALE_S: Final = 3600
"""Seconds after which a run from another controller no longer counts: several times what a first deployment takes."""


class Holder(TypedDict):
    """A deployment: the machine it runs from (in this boot), its process there, who started it, and when (epoch)."""

    machine: str
    process: str
    user: str
    since: float


def other(me: Holder, alive: Collection[str], path: Path = LEASE, now: float | None = None) -> Holder | None:
    """Return the deployment that is under way, or None if there is none but ours.

    Args:
        me: This deployment.
        alive: The deployments that run on the same machine as this one.
        path: The lease.
        now: Epoch seconds.
    """
    holder = _load(path)
    if holder is None or (holder["machine"], holder["process"]) == (me["machine"], me["process"]):
        return None
    if holder["machine"] == me["machine"]:
        return holder if holder["process"] in alive else None
    return holder if (time.time() if now is None else now) - holder["since"] < STALE_S else None


@contextlib.contextmanager
def undisturbed(lock: Path = _LOCK) -> Iterator[None]:
    """Let no other deployment look and take between our look and our taking."""
    directory = os.open(lock, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def take(me: Holder, path: Path = LEASE) -> None:
    """Note that this deployment is at it, replacing whatever is noted."""
    files.atomic_write(path, json.dumps(me) + "\n", mode=0o644)


def release(me: Holder, path: Path = LEASE) -> bool:
    """Give it up; another one's stays. Returns whether there was anything to give up."""
    holder = _load(path)
    if holder is None or (holder["machine"], holder["process"]) != (me["machine"], me["process"]):
        return False
    return files.remove_file(path)


def _load(path: Path) -> Holder | None:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return Holder(
            machine=str(found["machine"]),
            process=str(found["process"]),
            user=str(found["user"]),
            since=float(found["since"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        # A damaged lease is nobody's.
        return None
