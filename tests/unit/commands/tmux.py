"""A terminal that tests type at and look at."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from lab.packages import install


class Tmux:
    """A terminal of 80 columns and 24 lines, with a shell in it."""

    def __init__(self, place: Path, **environment: str) -> None:
        """Open it, with a socket in a directory."""
        if not shutil.which("tmux"):
            install("tmux")
        self._base = ["tmux", "-S", str(place / "tmux"), "-f", "/dev/null"]
        known = {**os.environ, "TERM": "xterm", **environment}
        self._call("new-session", "-d", "-x", "80", "-y", "24", "sh", environment=known)
        self.keys("echo be''gun", "Enter")
        self.see("begun")

    def _call(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        done = subprocess.run([*self._base, *arguments], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names of them; other words are typed."""
        self._call("send-keys", *keys)

    def resize(self, columns: int, lines: int) -> None:
        """Make it larger or smaller."""
        self._call("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self) -> str:
        """What is on it now."""
        return self._call("capture-pane", "-p")

    def see(self, text: str, *, gone: bool = False) -> str:
        """Wait until something is there, or not any more; returns the screen."""
        return self.until(lambda shown: (text in shown) is not gone, f"{text!r} {'stays' if gone else 'does not come'}")

    def until(self, seen: Callable[[str], bool], what: str = "it does not come") -> str:
        """Wait until the screen is as somebody wants it; returns it."""
        until = time.monotonic() + 90
        while not seen(shown := self.screen()):
            assert time.monotonic() < until, f"{what}:\n{shown}"
            time.sleep(0.05)
        return shown

    def close(self) -> None:
        """End it."""
        self._call("kill-server")
