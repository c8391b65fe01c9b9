"""What systemd and a predecessor hand over, and what they are told: sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from ds01.host.supervisor import notify

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START."""
HANDED_OVER: Final = "DS01_GATEWAY_SOCKETS"
"""Sockets from the predecessor: `number=name` separated by blanks."""
READY_FD: Final = "DS01_GATEWAY_READY_FD"
"""Where a successor tells its predecessor that it serves."""


def take_sockets(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """Return the listening sockets that this process was given, by name, and remove them from the environment."""
    numbers: dict[str, int] = {}
    if (given := environment.pop(HANDED_OVER, None)) is not None:
        for entry in given.split():
            number, _, name = entry.partition("=")
            numbers[name] = int(number)
    elif environment.get("LISTEN_PID") == str(os.getpid()):
        names = environment.get("LISTEN_FDNAMES", "").split(":")
        for index in range(int(environment.get("LISTEN_FDS", "0"))):
            numbers[names[index] if index < len(names) and names[index] else f"socket{index}"] = FIRST_FD + index
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    for descriptor in numbers.values():
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the only argument there is
    return {name: socket.socket(fileno=descriptor) for name, descriptor in numbers.items()}


def reloading() -> None:
    """Say that a successor is being started."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def tell_predecessor(environment: MutableMapping[str, str]) -> None:
    """Say that this process serves, so that the one before it stops accepting."""
    if (number := environment.pop(READY_FD, None)) is not None:
        with contextlib.suppress(OSError):
            os.write(int(number), b"1")
        os.close(int(number))
