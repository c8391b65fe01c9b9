"""The dashboard on a terminal: it asks in the background, so that a slow answer never keeps a key waiting.

Python's own curses, because it gives the terminal back whatever happens and needs nothing to be installed: a screen of
tables is all there is to draw.
"""

from __future__ import annotations

import curses
import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ds01.cli.dashboard.data import collect
from ds01.cli.dashboard.screen import SHOWS, SORTS, View, body, following
from ds01.cli.output import colour, plain
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from ds01.cli.asking import Ask

_EVERY_S: Final = 3.0
_TICK_MS: Final = 100
_STYLE: Final = re.compile(r"\x1b\[([0-9]+)m")
_COLOURS: Final = {31: curses.COLOR_RED, 32: curses.COLOR_GREEN, 33: curses.COLOR_YELLOW, 36: curses.COLOR_CYAN}
_ESCAPE, _ENTER, _DELETE = 27, {10, 13, curses.KEY_ENTER}, {8, 127, curses.KEY_BACKSPACE}


class Feed:
    """What was answered last, and what is wrong since."""

    def __init__(self, ask: Ask) -> None:
        """Ask in a thread, from now until the program ends."""
        self._ask = ask
        self._wanted = threading.Event()
        self.data: dict[str, Any] | None = None
        self.problem = ""
        self.answers = 0
        # Nobody who quits waits for an answer.
        threading.Thread(target=self._follow, name="dashboard", daemon=True).start()

    def now(self) -> None:
        """Ask again at once."""
        self._wanted.set()

    def _follow(self) -> None:
        while True:
            self._wanted.clear()
            try:
                self.data, self.problem = collect(self._ask), ""
            except (ReportedError, OSError) as error:
                self.problem = plain(str(error))
            self.answers += 1
            self._wanted.wait(_EVERY_S)


class Screen:
    """Draws, and does what keys say."""

    def __init__(self, window: curses.window, feed: Feed) -> None:
        """Take the terminal."""
        self._window = window
        self._feed = feed
        self._view = View()
        self._top = 0
        self._typing = False
        self._pairs: dict[int, int] = {}
        window.timeout(_TICK_MS)
        with suppress(curses.error):
            # Some terminals cannot hide it.
            curses.curs_set(0)
        if colour() is not False and curses.has_colors():
            with suppress(curses.error):
                curses.use_default_colors()
                for number, (code, found) in enumerate(_COLOURS.items(), 1):
                    curses.init_pair(number, found, -1)
                    self._pairs[code] = curses.color_pair(number)

    def run(self) -> None:
        """Go on until somebody wants to end it."""
        drawn = -1
        while True:
            answers = self._feed.answers
            if answers != drawn:
                self._draw()
            # After a key it is drawn again: the size of the terminal is one, too.
            key = self._window.getch()
            drawn = answers if key == -1 else -1
            if self._typing:
                self._type(key)
            elif key == ord("q"):
                return
            else:
                self._do(key)

    def _do(self, key: int) -> None:
        view, page = self._view, max(1, self._window.getmaxyx()[0] - 2)
        moves = {curses.KEY_DOWN: 1, curses.KEY_UP: -1, curses.KEY_NPAGE: page, curses.KEY_PPAGE: -page}
        keys: dict[int, Callable[[], None]] = {
            ord("s"): lambda: setattr(view, "sort", following(SORTS, view.sort)),
            ord("r"): lambda: setattr(view, "reverse", not view.reverse),
            ord("f"): lambda: setattr(view, "show", following(SHOWS, view.show)),
            ord("/"): lambda: setattr(self, "_typing", True),
            ord(" "): self._feed.now,
            _ESCAPE: lambda: setattr(self, "_view", View()),
        }
        self._top += moves.get(key, 0)
        if key in keys:
            keys[key]()
            self._top = 0

    def _type(self, key: int) -> None:
        if key in _ENTER or key == _ESCAPE:
            self._typing = False
            self._view.text = "" if key == _ESCAPE else self._view.text
        elif key in _DELETE:
            self._view.text = self._view.text[:-1]
        elif 0 < key < 256 and chr(key).isprintable():  # noqa: PLR2004 - what is above are function keys
            self._view.text += chr(key)

    def _draw(self) -> None:
        self._fit()
        height, width = self._window.getmaxyx()
        feed, view = self._feed, self._view
        lines = ["asking ..."] if feed.data is None else body(feed.data, view, max(1, width - 1))
        if feed.problem:
            lines = [f"\x1b[31mnot up to date: {feed.problem}\x1b[0m"] + ([] if feed.data is None else lines)
        room = max(1, height - 1)
        self._top = max(0, min(self._top, len(lines) - room))
        self._window.erase()
        for row, line in enumerate(lines[self._top : self._top + room]):
            self._put(row, line, width)
        order = f"{view.sort}{' reversed' if view.reverse else ''}"
        keys = f"/{view.text}_" if self._typing else f"q quit  s sort: {order}  r reverse  f show: {view.show}  /"
        self._put(height - 1, f"\x1b[1m{keys}{'' if self._typing else view.text or ' find'}\x1b[0m", width)
        self._window.refresh()

    def _fit(self) -> None:
        """Take the size that the terminal has: of a change while we started nobody told us."""
        with suppress(OSError):
            columns, lines = os.get_terminal_size()
            if columns and lines and (lines, columns) != self._window.getmaxyx():
                curses.resizeterm(lines, columns)

    def _put(self, row: int, line: str, width: int) -> None:
        """Write one line, cut at the edge, in the styles that it names."""
        column, style = 0, curses.A_NORMAL
        pieces = _STYLE.split(line)
        for at, piece in enumerate(pieces):
            if at % 2:
                number = int(piece)
                style = curses.A_NORMAL if number == 0 else style | self._style(number)
            elif column < width - 1 and piece:
                with suppress(curses.error):
                    # The terminal became smaller since it was asked.
                    self._window.addnstr(row, column, piece, width - 1 - column, style)
                column += len(piece)

    def _style(self, number: int) -> int:
        return curses.A_BOLD if number == 1 else self._pairs.get(number, curses.A_NORMAL)


def run(ask: Ask) -> None:
    """Show it until q or Ctrl-C; the terminal is as before afterwards. Raises ReportedError."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    # A terminal that goes away, or somebody who ends us, finds it restored, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    os.environ.setdefault("ESCDELAY", "25")
    try:
        curses.wrapper(lambda window: Screen(window, Feed(ask)).run())
    except curses.error as error:
        terminal = os.environ.get("TERM") or "(not set)"
        raise ReportedError(
            f"TERM: {terminal}: nothing can be drawn there ({error}): `ds01 dashboard --once` prints it"
        ) from error
    except KeyboardInterrupt:
        return
