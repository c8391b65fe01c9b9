"""`container remove` and `container retire`: take containers away, and see that they are gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from ds01.cli.container.life import all_option, stopped
from ds01.cli.container.make import drop_tag
from ds01.cli.container.naming import IMAGE_LABEL, is_private
from ds01.cli.container.options import json_option
from ds01.cli.container.own import chosen, for_each, inspected, name_argument, names_argument
from ds01.cli.container.person import myself
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.output import FAILED

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


@click.command()
@names_argument
@all_option
@click.option("-f", "--force", is_flag=True, help="Stop it first if it runs; do not ask.")
@yes_option
@json_option
@guided(
    """Removing a container frees its GPU and the place of what was changed in it. /workspace, /data and the image
    stay.""",
    following="`container list --all` shows what is left",
)
def remove(*, names: tuple[str, ...], everything: bool, force: bool, yes: bool, as_json: bool) -> int:
    """Remove stopped containers; workspace and image stay."""
    engine = Engine()
    found = chosen(engine, names, everything=everything, state=None if force else "exited")
    if everything and not force:
        found += chosen(engine, (), everything=True, state="created")

    def check(name: str) -> None:
        if inspected(engine, name)["State"].get("Running") and not force:
            raise EngineError(f"{name}: runs: stop it first, or give --force")

    def act(name: str) -> str:
        if force:
            stopped(engine, name, None)
        removed(engine, name)
        return f"{name} is removed"

    question = "" if force or yes else "Remove {}? What is not in /workspace is lost"
    return for_each(found, confirmed(found, check, act, question), as_json=as_json)


@click.command()
@name_argument
@click.option("--save-packages/--no-save-packages", default=None,
              help="Add what pip installed in it to its image first.  [default: ask]")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@yes_option
@json_option
@guided(
    """This is the end of a task: programs get time to end, the container is removed and its GPU is free for others at
    once. /workspace and the image stay, so `container deploy` makes the same container again in seconds.

    What you installed with pip would be lost; --save-packages adds it to the image.""",
    following="`container deploy {name}` when you need it again",
)
def retire(*, name: str, save_packages: bool | None, force: bool, yes: bool, as_json: bool) -> int:
    """Stop and remove a container, and free its GPU at once."""
    engine = Engine()
    found = inspected(engine, name)
    asks = not (force or yes)
    if asks:
        confirm(f"Retire {name}? What is not in /workspace is lost")
    if save_packages is not False and found["State"].get("Running"):
        _save(name, found, wanted=save_packages, asks=asks)
    elif save_packages:
        raise EngineError(f"{name}: does not run, so nobody can say what is installed in it: start it first")

    def act(name: str) -> str:
        stopped(engine, name, None)
        removed(engine, name)
        return f"{name} is retired; its GPU is free" if _had_gpu(found) else f"{name} is retired"

    return for_each([name], act, as_json=as_json)


def removed(engine: Engine, name: str) -> None:
    """Remove a stopped container and its image's tag, and see that it is gone. Raises EngineError."""
    found = inspected(engine, name)
    engine.ask("DELETE", "containers", name, query={"v": "1"})
    if engine.exists("containers", found["Id"], "json"):
        raise EngineError(f"{name}: is still there after its removal: tell the administrator")
    image = str((found.get("Config") or {}).get("Image"))
    if is_private(image, myself().uid):
        drop_tag(engine, image)


def confirmed(
    names: Sequence[str], check: Callable[[str], None], act: Callable[[str], str], question: str
) -> Callable[[str], str]:
    """Return `act`, which asks once before the first: about those alone that can be had, so nobody is asked in vain.

    Args:
        names: What is to be done away with.
        check: Raises EngineError for what cannot be.
        act: Does it.
        question: With {} for the names; empty where nobody is asked.
    """
    wrong: dict[str, EngineError] = {}
    for name in names:
        try:
            check(name)
        except EngineError as error:
            wrong[name] = error
    sure = not question

    def ask_and_act(name: str) -> str:
        nonlocal sure
        if name in wrong:
            raise wrong[name]
        if not sure:
            confirm(question.format(", ".join(one for one in names if one not in wrong)))
            sure = True
        return act(name)

    return ask_and_act


def confirm(question: str) -> None:
    """Ask, and end the command if the answer is no. Raises click.Abort, or click.UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here: give --yes")
    click.confirm(question, abort=True, err=True)


def _save(name: str, found: dict[str, Any], *, wanted: bool | None, asks: bool) -> None:
    from ds01.cli.image import keep  # noqa: PLC0415 - only when there may be something to save

    packages = keep.installed(name)
    image = ((found.get("Config") or {}).get("Labels") or {}).get(IMAGE_LABEL, "")
    if not packages:
        if wanted and packages is None:
            raise EngineError(
                f"{name}: pip does not say what is installed in it: nothing is saved, and nothing removed"
            )
        return
    if wanted is None:
        number = f"{len(packages)} package{'' if len(packages) == 1 else 's'} of pip"
        if not asks:
            click.echo(f"note: lost with it: {number} (--save-packages keeps what pip installed)", err=True)
            return
        wanted = click.confirm(f"Add {number} to the image {image} first?", err=True)
    if wanted and keep.into(image, packages):
        raise click.exceptions.Exit(FAILED)


def _had_gpu(found: dict[str, Any]) -> bool:
    return bool((found.get("HostConfig") or {}).get("DeviceRequests"))
