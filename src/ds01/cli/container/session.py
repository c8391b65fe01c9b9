"""`container attach` and `container run`: a shell or a command in a container, by the docker command."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from ds01.cli.container.make import begin
from ds01.cli.container.own import inspected, name_argument
from ds01.cli.container.person import myself
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided


@click.command()
@name_argument
@guided(
    """This opens a shell in a running container; as many as you like at once. `exit` or Ctrl-D leaves the shell, and
    the container runs on. Inside tmux or screen a shell also outlives your connection.""",
    following="`container retire {name}` when you are done; it frees the GPU",
)
def attach(*, name: str) -> int:
    """Open a shell in a running container."""
    return opened(name, ())


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@guided(
    """This starts the container if it is stopped, and runs COMMAND in it, or a shell. The container runs on
    afterwards.""",
    following="`container retire {name}` when you are done; it frees the GPU",
)
def run(*, name: str, command: tuple[str, ...]) -> int:
    """Run COMMAND or a shell in a container, started if need be."""
    engine = Engine()
    found = inspected(engine, name)
    if not found["State"].get("Running"):
        begin(engine, name, (found.get("Config") or {}).get("Labels") or {})
    return opened(name, command)


def running(engine: Engine, name: str) -> dict[str, Any]:
    """Return what the engine knows of a container that runs. Raises EngineError."""
    found = inspected(engine, name)
    if found["State"].get("Paused"):
        raise EngineError(f"{name}: is paused: `container unpause {name}` lets it go on")
    if not found["State"].get("Running"):
        raise EngineError(f"{name}: does not run: `container start {name}` starts it")
    return found


def opened(name: str, command: tuple[str, ...]) -> int:
    """Become `docker exec` in a running container. Raises EngineError."""
    running(Engine(), name)
    program = shutil.which("docker")
    if program is None:
        raise EngineError("docker: the command is not installed: tell the administrator")
    person = myself()
    terminal = ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []
    argv = [program, "exec", "--interactive", *terminal, "--user", f"{person.uid}:{person.gid}"]
    if terminal:
        argv += ["--env", f"TERM={os.environ.get('TERM') or 'xterm'}"]
        if not command:
            click.echo(f"`exit` leaves the shell; {name} runs on until `container stop {name}`", err=True)
    sys.stdout.flush()
    os.execv(program, [*argv, name, *(command or ("bash",))])  # noqa: S606 - the terminal is its own from here on
