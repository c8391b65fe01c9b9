"""One at a time: a lock file, held while the process lives.

Standard library only: this module also travels to hosts inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from .problems import ApplyError

_POLL_S: Final = 0.05


@contextlib.contextmanager
def exclusive(path: Path, timeout_s: float, fix: str, take: Callable[[int, int], None] = fcntl.flock) -> Iterator[None]:
    """Hold a lock file alone; the kernel lets go of it however the process ends.

    Args:
        path: The file; made if it is missing, its directory must exist. A link is refused.
        timeout_s: How long to wait for another holder, in seconds.
        fix: What to do when it does not end.
        take: `fcntl.flock`, or `fcntl.lockf` where other programs lock the file that way.

    Raises:
        ApplyError: Another holder had it all the time; nothing was changed.
        OSError: The file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                take(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except (BlockingIOError, PermissionError):  # lockf(3) may say either
                if time.monotonic() >= deadline:
                    text = f"{path}: held by another program for {timeout_s:g} s: nothing was changed: {fix}"
                    raise ApplyError(text) from None
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)
