"""Run a program in a running container of one's own, as oneself, without a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Final

from ds01.cli.container.person import myself

_ANSWER_S: Final = 60


def told(
    container: str, *command: str, secrets: Mapping[str, str] | None = None, detached: bool = False
) -> subprocess.CompletedProcess[str] | None:
    """Run a program and return what it did.

    Args:
        container: Where.
        command: The program and its arguments.
        secrets: Variables for it; others on this server do not see them.
        detached: Do not wait for it.

    Returns:
        How it ended, None where nobody can say in time.
    """
    program = shutil.which("docker")
    if program is None:
        return None
    person, secrets = myself(), secrets or {}
    argv = [program, "exec", *(["--detach"] if detached else []), "--user", f"{person.uid}:{person.gid}"]
    # Without a value the client takes it from its own environment; arguments are for everybody to see.
    argv += [word for name in secrets for word in ("--env", name)]
    try:
        return subprocess.run(
            [*argv, container, *command], env={**os.environ, **secrets}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_ANSWER_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
