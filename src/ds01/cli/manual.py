"""Manual pages and completion for shells, written from what the commands say of themselves.

`python -m ds01.cli.manual DIRECTORY` writes them below a directory, as they lie below /usr/local/share.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import click

import ds01
from ds01.cli.completion import script
from ds01.cli.main import NAME
from ds01.cli.tree import Entry, entries
from ds01.files import atomic_write
from ds01.host.names import THIN

_EXIT: Final = (
    ("0", "done"), ("1", "failed"), ("2", "wrong usage"), ("3", "refused by the policy"), ("4", "no GPU is free"),
    ("5", "there is no such thing"), ("130", "stopped by Ctrl-C"),
)  # fmt: skip
_SIGNS: Final = str.maketrans({"\\": "\\e", "-": "\\-", "'": "\\(aq", "~": "\\(ti", "^": "\\(ha"})
"""What the formatter would take for something else."""
_CODE: Final = re.compile(r"`([^`]+)`")


def pages() -> dict[str, str]:
    """Return the manual pages, by file name."""
    found: dict[str, str] = {}
    known = list(entries())
    for entry in known:
        name = "-".join((NAME, *entry.words))
        found[f"{name}.1"] = _page(name, entry, known)
    for name, words in THIN.items():
        # `ds01-status` is one name for both.
        found.setdefault(f"{name}.1", f".so man1/{'-'.join((NAME, *words))}.1\n")
    return found


def _page(name: str, entry: Entry, known: list[Entry]) -> str:
    command, context = entry.command, entry.context
    usage = f"{' '.join((NAME, *entry.words))} {' '.join(command.collect_usage_pieces(context))}"
    names = ", ".join(dict.fromkeys((name, *entry.names)))
    lines = [
        f'.TH "{_plain(name.upper())}" "1" "" "DS01 {ds01.__version__}" "DS01"', ".nh", ".ad l",
        ".SH NAME", f"{_plain(names)} \\- {_text(entry.summary.rstrip('.'))}", ".SH SYNOPSIS", _plain(usage),
        ".SH DESCRIPTION", *_paragraphs(command.help or ""),
    ]  # fmt: skip
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = [found for one in options if (found := one.get_help_record(context)) is not None]
    if records:
        lines += [".SH OPTIONS", *_items(records)]
    if isinstance(command, click.Group):
        below = [one for one in known if one.words[:-1] == entry.words and one.words]
        said = [(f"{'-'.join((NAME, *one.words))}(1)", one.summary) for one in below]
        lines += [".SH COMMANDS", *_items(said)]
    lines += [".SH EXIT STATUS", *_items(_EXIT)]
    above = "-".join((NAME, *entry.words[:-1]))
    lines += [".SH SEE ALSO", f".BR {_plain(above)} (1)"] if entry.words else []
    return "\n".join(lines) + "\n"


def _items(records: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> list[str]:
    return [line for head, text in records for line in (".TP", f"\\fB{_plain(head)}\\fR", _text(text))]


def _paragraphs(text: str) -> list[str]:
    parts = (" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))
    return [line for part in parts if part for line in (".PP", _text(part))]


def _text(text: str) -> str:
    """Return text of a help message: what is in backticks stands out."""
    pieces = _CODE.split(text)
    marked = (f"\\fB{_escaped(piece)}\\fR" if at % 2 else _escaped(piece) for at, piece in enumerate(pieces))
    return _begun("".join(marked))


def _plain(text: str) -> str:
    return _begun(_escaped(text))


def _escaped(text: str) -> str:
    return text.translate(_SIGNS)


def _begun(line: str) -> str:
    # A line that begins with a dot is a command to the formatter.
    return f"\\&{line}" if line.startswith(".") else line


def write(directory: Path) -> None:
    """Write everything below a directory. Raises OSError."""
    completions = directory / "bash-completion" / "completions"
    texts = {directory / "man" / "man1" / name: text for name, text in pages().items()}
    texts[completions / NAME] = script("bash")
    texts[directory / "zsh" / "site-functions" / f"_{NAME}"] = script("zsh", found_by_name=True)
    # bash looks for a file of the command's name.
    texts |= {completions / name: f'. "${{BASH_SOURCE[0]%/*}}/{NAME}"\n' for name in THIN}
    for path, text in texts.items():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        atomic_write(path, text, mode=0o644)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
