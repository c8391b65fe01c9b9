"""Read a secret from a file of root's. It goes to whom it is for, and nowhere else."""

from __future__ import annotations

import os
import stat
from typing import Final

from ds01.notify.message import UnreachableError

_MOST: Final = 4096
"""Bytes: addresses of Teams workflows have some hundred."""


def read(path: str) -> str:
    """Return the one line of a file that only its owner, who runs this, can read.

    Raises:
        UnreachableError: It is missing, empty, or not safe. The text names the file and the fix, never what is in it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnreachableError(f"{path}: {error.strerror}: write the secret into it, root's, mode 0600") from None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise UnreachableError(f"{path}: others could read or change it: chown root {path}; chmod 600 {path}")
        text = stream.read(_MOST + 1).decode("utf-8", "replace").strip()
    if not text or len(text) > _MOST or not text.isprintable():
        raise UnreachableError(f"{path}: expected one line of text: write only the secret into it")
    return text
