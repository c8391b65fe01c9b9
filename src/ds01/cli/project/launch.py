"""`project launch`: from a project to its running container."""

from __future__ import annotations

import sys
from typing import Any

import click

from ds01.cli.container.naming import checked
from ds01.cli.container.options import typed, wish_options, wished
from ds01.cli.container.own import inspected
from ds01.cli.container.removal import yes_option
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.image import place as images
from ds01.cli.output import OK
from ds01.cli.project import place
from ds01.cli.project.init import built, described, image_step
from ds01.cli.user.jupyter import PORT
from ds01.cli.wizard import step

_NOT_FOUND = 404


@click.command()
@place.name_argument
@click.option("--open/--background", "opens", default=False, help="Open a shell in it.  [default: background]")
@click.option("--image", metavar="IMAGE", help="Make it from this one.  [default: the project's]")
@click.option("--rebuild", is_flag=True, help="Build the project's image again first.")
@wish_options
@yes_option
@guided(
    """This brings a project's container up, whatever is missing for that: the image is built if there is none, the
    container made if there is none, and started if it does not run. The project is at /workspace in it, and Jupyter's
    port is open for yourself.""",
    following="`container attach {name}` opens a shell in it, `jupyter-setup {name}` brings notebooks",
)
def launch(*, name: str | None, opens: bool, image: str | None, rebuild: bool, yes: bool, **wishes: Any) -> int:
    """Bring up the container of a project."""
    project = place.existing(name)
    name = checked(project.name)
    # What is written wrongly is said before an image is built, not after it.
    wished(**wishes)
    if image is not None:
        images.reference(image, "--image")
    engine = Engine()
    running = runs(engine, name)
    if running is not None and (rebuild or image is not None or typed(wishes)):
        raise EngineError(
            f"{name}: has a container already, which stays as it was made: `container retire {name}` first"
        )
    asks = not yes and sys.stdin.isatty()
    steps = []
    if running is None:
        if image is None:
            steps += _image_steps(engine, name, rebuild=rebuild, asks=asks)
        ports = [] if wishes["publish"] else ["--publish", str(PORT)]
        image = place.image_of(name) if image is None else image
        steps.append(["container", "deploy", name, image, "--project", name, *ports, *typed(wishes)])
    elif running:
        click.echo(f"{name} runs already")
    else:
        steps.append(["container", "start", name])
    if opens:
        steps.append(["container", "attach", name])
    for words in steps:
        if code := step(*words):
            return code
    return OK


def runs(engine: Engine, name: str) -> bool | None:
    """Return whether a project's container runs, None if there is none. Raises EngineError."""
    try:
        return bool(inspected(engine, name)["State"].get("Running"))
    except EngineError as error:
        if error.status != _NOT_FOUND:
            raise
        return None


def _image_steps(engine: Engine, name: str, *, rebuild: bool, asks: bool) -> list[list[str]]:
    image = place.image_of(name)
    if built(engine, name):
        return [["image", "update", image]] if rebuild else []
    if described(name):
        return [["image", "update", image, "--cached"]]
    return [image_step(name, None, None, None, asks=asks)]
