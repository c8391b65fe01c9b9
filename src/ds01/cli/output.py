"""How commands speak: findings, tables, exit codes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ds01.problems import Problem

OK = 0
FAILED = 1
REFUSED = 3
NOTHING_FREE = 4
NOT_FOUND = 5
INTERRUPTED = 130
_COLUMN_MIN = 8
"""Characters: a column that is cut further says nothing."""


def colour() -> bool | None:
    """Return False where colours are not wanted, None where the terminal decides (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def stopped(error: BaseException) -> int:
    """Return the exit code of a command that ended at a question: by Ctrl-C, by no, or by the end of the input."""
    # click has one exception for all of them.
    interrupted = isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)
    return INTERRUPTED if interrupted else FAILED


def say_problems(problems: Iterable[Problem]) -> None:
    """Print findings to standard error, one a line."""
    colours = {"error": "red", "warning": "yellow"}
    for problem in problems:
        click.echo(
            f"{click.style(problem.severity, fg=colours[problem.severity])}: {problem}", err=True, color=colour()
        )


def say_json(data: Any) -> None:
    """Print data as JSON."""
    import json  # noqa: PLC0415 - most commands print text

    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def plain(text: str) -> str:
    """Return a text that others chose as something a terminal can show, and that cannot steer it."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Return rows as aligned columns."""
    widths = _widths(rows)
    lines = ("  ".join(map(_padded, row, widths)) for row in rows)
    return "\n".join((indent + line).rstrip() for line in lines)


def listing(rows: Sequence[Sequence[str]], room: int | None = None) -> str:
    """Return a list with headings as aligned columns, cut so that each row is one line.

    Args:
        rows: Cells, the headings first.
        room: How wide a line may be; None: as wide as the terminal, and as wide as it gets where there is none.
    """
    if room is not None or (room := columns()) is not None:
        widths = _fitting(_widths(rows), room)
        rows = [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return table(rows, indent="")


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(click.unstyle(cell)) for cell in column) for column in zip(*rows, strict=True)]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - len(click.unstyle(cell)))


def columns() -> int | None:
    """Return how wide lines may be, None where nobody reads them on a terminal."""
    if not os.environ.get("COLUMNS", "").isdecimal() and not os.isatty(1):
        return None
    return shutil.get_terminal_size().columns


def _fitting(widths: list[int], room: int) -> list[int]:
    """Return widths that fit, taken from the widest columns first."""
    fitting = list(widths)
    while sum(fitting) + 2 * (len(fitting) - 1) > room and max(fitting) > _COLUMN_MIN:
        fitting[fitting.index(max(fitting))] -= 1
    return fitting


def _cut(cell: str, width: int) -> str:
    text = click.unstyle(cell)
    return cell if len(text) <= width else f"{text[: width - 1]}~"
