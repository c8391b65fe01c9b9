"""A person at a terminal of 80 columns: what a test types, and waits to see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time


class Terminal:
    """Somebody who types at a command."""

    def __init__(self, *argv: str) -> None:
        """Start the command."""
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(argv, stdin=there, stdout=there, stderr=there, start_new_session=True)
        os.close(there)
        self._terminal = here
        self.seen = ""

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C until the command says that it stopped.

        Python takes no notice of one that comes between the writing of a prompt and the first look at the keyboard;
        nobody's fingers are that fast.
        """
        for _ in range(12):
            self.type("\x03")
            try:
                self.see("stopped", within_s=5)
            except AssertionError:
                continue
            return
        self.see("stopped")

    def see(self, expected: str, within_s: float = 120) -> str:
        """Wait until a pattern is there, and return everything up to its end; what is after it is seen later."""
        until = time.monotonic() + within_s
        while (match := re.search(expected, self.seen)) is None:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
                raise AssertionError(f"{expected!r} does not come: {self.seen!r}")
            try:
                piece = os.read(self._terminal, 1 << 16)
            except OSError as error:
                raise AssertionError(f"{expected!r} did not come: {self.seen!r}") from error
            self.seen += piece.decode(errors="replace")
        before, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return before

    def close(self) -> int:
        """Wait for the end and return the exit status."""
        try:
            return self._process.wait(timeout=120)
        finally:
            self._process.kill()
            os.close(self._terminal)
