"""`shell-setup`: a few lines in the start file of one's shell, marked so that they can be taken away again."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

import click

from ds01 import files
from ds01.cli.asking import dry_run_option
from ds01.cli.guide import guided
from ds01.cli.output import OK
from ds01.cli.person import own_home
from ds01.cli.project.place import tilde
from ds01.problems import ReportedError

_FILES: Final = {"bash": ".bashrc", "zsh": ".zshrc"}
_BEGIN: Final = "# BEGIN DS01 shell: `shell-setup --remove` takes these lines away"
_END: Final = "# END DS01 shell"
_BLOCK: Final = re.compile(r"^# BEGIN DS01 shell.*?^# END DS01 shell\n?", re.MULTILINE | re.DOTALL)
_PATH: Final = """case ":$PATH:" in *":$HOME/.local/bin:"*) ;; *) PATH="$HOME/.local/bin:$PATH" ;; esac
"""
"""Programs that pip installs for oneself are found."""
_COMPLETION: Final = {
    "bash": 'command -v ds01 >/dev/null && eval "$(ds01 completion bash)"',
    # Without compinit there is nothing to complete with.
    "zsh": "command -v compdef >/dev/null || { autoload -Uz compinit && compinit -i; }; "
    'command -v ds01 >/dev/null && eval "$(ds01 completion zsh)"',
}


@click.command()
@click.option("--shell", "name", type=click.Choice(tuple(_FILES)), help="Which shell.  [default: yours]")
@click.option("--remove", is_flag=True, help="Take the lines away again.")
@dry_run_option
@guided(
    """Your shell reads a file when it starts. This adds a few lines at its end: the Tab key completes our commands, and
    programs that you install for yourself are found. The rest of the file stays as it is.""",
    following="open a new shell, type `container ` and press Tab twice",
)
def shell(*, name: str | None, remove: bool, dry_run: bool) -> int:
    """Make your shell complete our commands with the Tab key."""
    if name is None:
        own = os.environ.get("SHELL", "").rpartition("/")[2]
        name = own if own in _FILES else "bash"
    path = own_home() / _FILES[name]
    # Where people keep their files elsewhere, this is a link.
    target = path.resolve()
    try:
        before, state = target.read_text(), target.stat()
    except FileNotFoundError:
        before, mode, group = "", 0o644, os.getgid()
    except UnicodeDecodeError as error:
        raise ReportedError(f"{tilde(path)}: is no text in UTF-8: nothing is changed") from error
    else:
        mode, group = _rights(path, state)
    rest = _BLOCK.sub("", before)
    if _BEGIN in rest:
        raise ReportedError(f"{tilde(path)}: the line `{_END}` is missing after ours: take our lines away by hand")
    gap = "" if not rest or rest.endswith("\n") else "\n"
    block = f"{_BEGIN}\n{_PATH}case $- in *i*) {_COMPLETION[name]} ;; esac\n{_END}\n"
    after = rest if remove else f"{rest}{gap}{block}"
    if before == after:
        click.echo(f"{tilde(path)}: our lines are {'not in it' if remove else 'in it already'}")
    elif dry_run:
        click.echo(f"{tilde(path)}: our lines would be taken away" if remove else block, nl=remove)
    else:
        files.atomic_write(target, after, mode=mode, gid=group)
        click.echo(f"{tilde(path)}: our lines are {'taken away' if remove else 'in it; open a new shell'}")
    return OK


def _rights(path: Path, state: os.stat_result) -> tuple[int, int]:
    """Return the mode and the group that a start file keeps. Raises ReportedError for somebody else's file."""
    if state.st_uid != os.getuid():
        raise ReportedError(
            f"{tilde(path)}: is the file of uid {state.st_uid}, not yours: nothing is changed: "
            f"ask the administrator to give it to you (`chown {os.getuid()} {path}`)"
        )
    mode = stat.S_IMODE(state.st_mode)
    if state.st_gid in {os.getgid(), *os.getgroups()}:
        return mode, state.st_gid
    # Nobody can give a file to a group that they are not in; their own one gets nothing that others have not.
    return mode & ~0o070 | (mode & 0o007) << 3, os.getgid()
