"""Write to the terminals of people who are logged in, as write(1) does: only where `mesg` allows it, never waiting.

A terminal is found by its device, which belongs to who is logged in there: that also finds tmux and VS Code, and the
list of logins (utmp) is gone from Debian 13.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from ds01.notify.message import Message

DEVICES: Final = "/dev/pts"
_PTY_MAJORS: Final = range(136, 144)
"""Devices of pseudo terminals (Documentation/admin-guide/devices.txt of Linux)."""
_MOST: Final = 64
"""Terminals that one message is written to."""


def text_of(message: Message) -> bytes:
    """Return a message as a terminal shows it whatever runs there: a full screen program needs both line ends."""
    lines = [f"Message from DS01 on {message.host}:", *message.lines, "(ds01 notices shows this again)"]
    return ("\r\n\a" + "".join(f"{line}\r\n" for line in lines)).encode("utf-8", "replace")


def write(message: Message, is_meant: Callable[[int], bool], devices: str = DEVICES) -> int:
    """Write a message to all terminals of some people. Returns to how many; never blocks.

    Args:
        message: The message.
        is_meant: Whether somebody, by uid, is to read it.
        devices: Where the terminals are.
    """
    text = text_of(message)
    with _directory(devices) as folder:
        return 0 if folder is None else write_in(folder, text, is_meant)


def write_in(folder: int, text: bytes, is_meant: Callable[[int], bool]) -> int:
    """Write to the terminals in an open directory, which may be anybody's: nothing but a pseudo terminal is opened."""
    reached = 0
    for name in sorted(filter(str.isdecimal, os.listdir(folder)), key=int):
        if reached < _MOST and _write(folder, name, text, is_meant):
            reached += 1
    return reached


def _write(folder: int, name: str, text: bytes, is_meant: Callable[[int], bool]) -> bool:
    with suppress(OSError), _opened(name, os.O_PATH | os.O_NOFOLLOW, folder) as place:
        found = os.fstat(place)
        ours = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) in _PTY_MAJORS
        # The bit that `mesg n` takes away, and the owner of this very terminal: the number may be another's by now.
        if not (ours and found.st_mode & stat.S_IWGRP and is_meant(found.st_uid)):
            return False
        with _opened(f"/proc/self/fd/{place}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK) as terminal:
            # A terminal that somebody stopped takes nothing, or less: what it does not take at once is lost.
            return os.write(terminal, text) > 0
    return False


@contextmanager
def _opened(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _directory(path: str) -> Iterator[int | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
