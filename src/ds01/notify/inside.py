"""Write to the terminals inside somebody's containers: those of `docker exec`, VS Code and Jupyter.

From outside: nothing of a container's is executed. Its root directory is its owner's to arrange, so no link in there is
followed, and what is written to must be a pseudo terminal of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Final

from ds01.engine.api import Engine, EngineUnavailableError, NoSuchObjectError
from ds01.notify.message import Message, UnreachableError
from ds01.notify.terminal import DEVICES, text_of, write_in

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CGROUP_MAX: Final = 1 << 16


def write(engine: Engine, containers: Iterable[str], message: Message) -> int:
    """Write a message to all terminals in these containers, by their full ids. Returns to how many; never blocks.

    Raises:
        UnreachableError: The engine does not answer.
    """
    text, reached = text_of(message), 0
    for container in containers:
        try:
            pid = engine.get(f"/containers/{container}/json").get("State", {}).get("Pid")
        except NoSuchObjectError:
            continue
        except EngineUnavailableError as error:
            raise UnreachableError(str(error)) from error
        if isinstance(pid, int) and pid > 0:
            # It may end at any moment.
            with suppress(OSError):
                reached += _write(container, pid, text)
    return reached


def _write(container: str, pid: int, text: bytes) -> int:
    with ExitStack() as stack:

        def enter(path: str, folder: int | None, flags: int = _FOLDER) -> int:
            descriptor = os.open(path, flags, dir_fd=folder)
            stack.callback(os.close, descriptor)
            return descriptor

        process = enter(f"/proc/{pid}", None)
        # By now the number may be another process's, whose root would be the host's.
        groups = os.read(enter("cgroup", process, os.O_RDONLY | os.O_CLOEXEC), _CGROUP_MAX)
        if container.encode("ascii") not in groups:
            return 0
        root = enter("root", process, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        terminals = enter("pts", enter("dev", root))
        # Bound into the container by somebody, they would still be the host's.
        if os.fstat(terminals).st_dev == os.stat(DEVICES).st_dev:  # noqa: PTH116 - its twin is a descriptor
            return 0
        return write_in(terminals, text, lambda _: True)
