"""`container create` and `container deploy`: a new container, stopped or running."""

from __future__ import annotations

from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.container.options import json_option, plan_options
from ds01.cli.guide import guided
from ds01.cli.output import OK, say_json, table

if TYPE_CHECKING:
    from ds01.cli.container.plan import Plan

dry_run_option = click.option("--dry-run", is_flag=True, help="Only show what would be made, and `docker run` for it.")


@click.command()
@plan_options
@dry_run_option
@json_option
@guided(
    """A container is a room of your own on this server: your files in /workspace, the programs of an image, and limits
    that the server enforces. It is cheap: make one for a task and remove it afterwards. What you install in it goes
    with it; what belongs into every container belongs into the image.

    This command makes one and leaves it stopped.""",
    following="`container start {name}`, then `container attach {name}` opens a shell in it",
)
def create(*, plan: Plan, dry_run: bool, as_json: bool) -> int:
    """Make a container NAME from IMAGE, and leave it stopped.

    IMAGE is one of yours (`image list`) or of a registry; by default the one called NAME. You are yourself in it, at
    home in /home/YOU, with ~/workspace at /workspace.
    """
    return _make(plan, start=False, dry_run=dry_run, as_json=as_json)


@click.command()
@plan_options
@click.option("--open", "opens", is_flag=True, help="Open a shell in it at once.")
@dry_run_option
@json_option
@guided(
    """This makes a container, starts it, and with --open opens a shell in it. Your files are in /workspace. Leaving the
    shell leaves the container running, with its GPU; give that back as soon as you do not need it.

    An idle container is stopped after a warning, a stopped one removed; /workspace and the image stay.""",
    following="`container attach {name}` opens a shell, `container retire {name}` ends it and frees the GPU",
)
def deploy(*, plan: Plan, opens: bool, dry_run: bool, as_json: bool) -> int:
    """Make a container NAME from IMAGE and start it."""
    if opens and as_json:
        raise click.UsageError("--open and --json: give one of them")
    code = _make(plan, start=True, dry_run=dry_run, as_json=as_json)
    if opens and not dry_run:
        from ds01.cli.container.session import opened  # noqa: PLC0415 - only when it is wanted

        return opened(plan.name, ())
    return code


def _make(plan: Plan, *, start: bool, dry_run: bool, as_json: bool) -> int:
    if dry_run:
        say_plan(plan, as_json=as_json)
        return OK
    from ds01.cli.container.make import begin, made, say_warnings  # noqa: PLC0415 - a dry run needs no engine
    from ds01.cli.container.plan import WAIT_LABEL  # noqa: PLC0415 - as above
    from ds01.cli.engine import Engine  # noqa: PLC0415 - as above

    make_workspace(plan)
    engine = Engine()

    def say(text: str) -> None:
        click.echo(text, err=True)

    with made(engine, plan, say, starts=start) as answer:
        if start:
            begin(engine, plan.name, {WAIT_LABEL: plan.wait} if plan.wait else {})
    say_warnings(answer)
    state = "running" if start else "created"
    if as_json:
        say_json({"name": plan.name, "id": answer["Id"], "image": plan.image, "state": state,
                  "warnings": answer.get("Warnings") or []})  # fmt: skip
    else:
        verb, following = ("runs", "attach") if start else ("is made", "start")
        click.echo(f"{plan.name} {verb}: `container {following} {plan.name}`")
    return OK


def make_workspace(plan: Plan) -> None:
    """See that there is something at /workspace. Raises OSError."""
    if not Path(plan.workspace.source).is_dir():
        Path(plan.workspace.source).mkdir(mode=0o755, parents=True)


def say_plan(plan: Plan, *, as_json: bool) -> None:
    """Say what would be made."""
    command = plan.docker_run()
    if as_json:
        data: dict[str, Any] = {
            "name": plan.name, "image": plan.image, "user": f"{plan.person.uid}:{plan.person.gid}",
            "mounts": [str(mount) for mount in plan.mounts()],
            "gpus": {"count": plan.gpus.count} | plan.gpus.options(), "wait": plan.wait or None,
            "docker_run": command,
        }  # fmt: skip
        say_json(data)
        return
    person = plan.person
    rows = [("image", plan.image), ("user", f"{person.name} ({person.uid}:{person.gid}), home {person.home}")]
    rows += [(mount.target, mount.source + ("" if mount.writable else " (read only)")) for mount in plan.mounts()]
    rows += [("GPU", str(plan.gpus))] + ([("waits", f"up to {plan.wait}")] if plan.wait else [])
    rows += [("port", f"{outer or 'any'} on this server -> {inner}") for outer, inner in plan.ports]
    click.echo(
        f"would make the container {plan.name}:\n{table(rows)}\n\nnearly the same with docker:\n  {join(command)}"
    )
