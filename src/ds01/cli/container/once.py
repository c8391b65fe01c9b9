"""`ds01-run`: one program in a container of its own, which is gone with it."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.container.create import dry_run_option, make_workspace, say_plan
from ds01.cli.container.make import drop_tag, made, say_warnings
from ds01.cli.container.options import described, json_option, volume
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.output import OK

if TYPE_CHECKING:
    from ds01.cli.container.plan import Plan


def _planned(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give the command IMAGE, COMMAND and what describes a container; it gets `plan`."""

    @click.argument("image")
    @click.argument("program", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
    @click.option("-n", "--name", metavar="NAME", help="What it is called.  [default: run- and a number]")
    @click.option("-v", "--volume", "volumes", multiple=True, metavar="DIR:DIR", help="One more directory in it.")
    @described
    @wraps(command)
    def planned(
        *, image: str, program: tuple[str, ...], name: str | None, volumes: tuple[str, ...],
        plan_for: Callable[[str, str], Plan], **options: Any,
    ) -> Any:  # fmt: skip
        plan = replace(
            plan_for(name or f"run-{secrets.token_hex(2)}", image),
            volumes=tuple(volume(entry) for entry in volumes),
            command=program or ("bash",),
            terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        )
        return command(plan=plan, **options)

    return planned


@click.command(context_settings={"allow_interspersed_args": False})
@_planned
@dry_run_option
@json_option
@guided(
    """This makes a container, runs one program in it and shows what it prints; when the program ends, the container is
    removed and its GPU is free. Nothing is left to tidy up, so what should stay has to be written to /workspace.

    It is right for a test or a training run. To come and go, make a container that stays: `container deploy`.""",
    following="`container deploy NAME IMAGE` makes a container that stays",
)
def run(*, plan: Plan, dry_run: bool, as_json: bool) -> int:
    """Run a program in a container that is gone afterwards.

    The container is made from IMAGE; without COMMAND there is a shell in it. The exit code is COMMAND's. If your
    connection breaks, COMMAND goes on: `container list` shows it.
    """
    if as_json and not dry_run:
        raise click.UsageError("--json is for --dry-run: what is printed otherwise is COMMAND's")
    if dry_run:
        say_plan(plan, as_json=as_json)
        return OK
    docker = shutil.which("docker")
    if docker is None:
        raise EngineError("docker: the command is not installed: tell the administrator")
    make_workspace(plan)
    engine = Engine()
    with made(engine, plan, lambda text: click.echo(text, err=True)) as answer:
        say_warnings(answer)
        code, interrupted = _followed([docker, "start", "--attach", "--interactive", plan.name])
        stays = bool(_state(engine, answer["Id"]))
        if stays and code:
            # It did not begin, or nobody could wait for its end: it goes with this block.
            raise KeyboardInterrupt if interrupted else click.exceptions.Exit(code)
    if stays:
        click.echo(f"{plan.name} runs on: `docker attach {plan.name}` comes back to it", err=True)
    else:
        drop_tag(engine, plan.tag)
    return code


def _followed(command: list[str]) -> tuple[int, bool]:
    """Let the docker command have the terminal, and Ctrl-C; returns its exit code, and whether Ctrl-C came from us."""
    interrupted = []
    # Not ignored, because what is ignored a program inherits.
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    try:
        return subprocess.run(command, check=False).returncode, bool(interrupted)
    finally:
        signal.signal(signal.SIGINT, before)


def _state(engine: Engine, engine_id: str) -> str:
    """Return the state of a container, "" for one that is gone."""
    try:
        return str(engine.ask("GET", "containers", engine_id, "json")["State"]["Status"])
    except EngineError as error:
        if error.status != 404:  # noqa: PLR2004 - not found
            raise
        return ""
