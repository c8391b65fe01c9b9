"""The command `ds01`: finds the sub-command, and turns whatever goes wrong into one message and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the policy, 4 nothing free, 5 not found;
130 interrupted by Ctrl-C, as shells have it.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import click

import ds01
from ds01.cli.lazy import LazyGroup
from ds01.cli.output import FAILED, colour, say_problems, stopped
from ds01.host.names import THIN
from ds01.problems import ProblemsError, ReportedError, shown

# Sub-command -> module and function. Imported only when called, because commands must start fast.
COMMANDS = {
    "commands": ("ds01.cli.commands", "commands"),
    "completion": ("ds01.cli.completion", "completion"),
    "container": ("ds01.cli.container", "container"),
    "dashboard": ("ds01.cli.dashboard", "dashboard"),
    "devcontainer": ("ds01.cli.devcontainer", "devcontainer"),
    "enforce": ("ds01.cli.enforce", "enforce"),
    "events": ("ds01.cli.events", "events"),
    "exemption": ("ds01.cli.exemption", "exemption"),
    "gpu": ("ds01.cli.gpu", "gpu"),
    "grant": ("ds01.cli.grant", "grant"),
    "health": ("ds01.cli.health", "health"),
    "image": ("ds01.cli.image", "image"),
    "limits": ("ds01.cli.limits", "limits"),
    "mig": ("ds01.cli.mig", "mig"),
    "notices": ("ds01.cli.notices", "notices"),
    "policy": ("ds01.cli.policy", "policy"),
    "project": ("ds01.cli.project", "project"),
    "reservation": ("ds01.cli.reservation", "reservation"),
    "run": ("ds01.cli.container.once", "run"),
    "simulate": ("ds01.cli.simulate", "simulate"),
    "status": ("ds01.cli.status", "status"),
    "stop-all": ("ds01.cli.stop_all", "stop_all"),
    "user": ("ds01.cli.user", "user"),
    "who": ("ds01.cli.who", "who"),
    "why": ("ds01.cli.why", "why"),
}
NAME = "ds01"
COMPLETE = "_DS01_COMPLETE"
"""Set by the shell when it asks what could follow."""
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_FULL = {errno.ENOSPC, errno.EDQUOT}


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings=SETTINGS,
)
@click.version_option(ds01.__version__, prog_name="ds01")
def cli() -> None:
    """One policy file makes a shared GPU lab out of one server."""


def run(arguments: list[str] | None = None, called: str = NAME) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: What was typed after the name; by default this process's.
        called: The name: `ds01`, or one of `ds01.host.names`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names and texts may hold what the terminal's character set does not.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command, name = _meant(called)
        result = command.main(arguments, name, complete_var=COMPLETE, standalone_mode=False, color=colour(), **SETTINGS)
        if sys.stdout:  # Some callers close it.
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.MissingParameter):
            _say_choices(error)
        return error.exit_code
    except ProblemsError as error:
        say_problems(error.problems)
        return FAILED
    except ReportedError as error:
        click.echo(f"error: {error}", err=True)
        code: int = getattr(error, "exit_code", FAILED)
        return code
    except UnicodeEncodeError as error:
        # Bytes in an argument that are no text: file names may have them, questions to others not.
        click.echo(f"error: {shown(error.object)}: not text in UTF-8: write the name again", err=True)
        return click.UsageError.exit_code
    except BrokenPipeError:
        # The reader has seen enough.
        _end_output()
        return FAILED
    except OSError as error:
        _end_output()
        place = f"{error.filename}: " if error.filename else ""
        full = ": make room, `du -xsh ~/* ~/.cache | sort -h` shows what is large" if error.errno in _FULL else ""
        click.echo(f"error: {place}{error.strerror or error}{full}", err=True)
        return FAILED
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo("stopped", err=True)
        return stopped(error)
    return result if isinstance(result, int) else 0


def _end_output() -> None:
    """Forget what cannot be written: Python would try again at its end, complain, and end with a code of its own."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        sys.stdout = None


def _say_choices(error: click.MissingParameter) -> None:
    """Say what could be named where nothing was: what the Tab key offers there."""
    if isinstance(error.param, click.Argument) and error.ctx is not None:
        offered = [item.value for item in error.param.shell_complete(error.ctx, "") if item.type == "plain"]
        if offered:
            click.echo(f"You have: {', '.join(offered)}", err=True)


def _meant(called: str) -> tuple[click.Command, str]:
    """Return the command that a name stands for, and how it calls itself."""
    command: click.Command = cli
    if called not in THIN:
        return command, NAME
    context = click.Context(cli, info_name=NAME)
    for word in THIN[called]:
        if isinstance(command, click.Group) and (found := command.get_command(context, word)) is not None:
            command = found
    return command, called
