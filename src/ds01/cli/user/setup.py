"""`user-setup`: the first day, step by step; each can be left out, and done is what is there already."""

from __future__ import annotations

import sys
from typing import Final

import click

from ds01.cli.container.options import gpus as wished_gpus
from ds01.cli.container.removal import yes_option
from ds01.cli.engine import Engine
from ds01.cli.guide import guided
from ds01.cli.image import place as images
from ds01.cli.image.look import own_names
from ds01.cli.output import OK, colour
from ds01.cli.project import place
from ds01.cli.project.init import base_option, check_base, described, framework_option, image_step, type_option
from ds01.cli.project.launch import runs
from ds01.cli.user import reach
from ds01.cli.wizard import step

STEPS: Final = {
    "ssh": "a key, and how your computer gets here",
    "shell": "the Tab key completes our commands",
    "project": "a directory for your work",
    "image": "the programs that you need",
    "container": "a place to run them",
    "editor": "how to open it in VS Code",
}
_FIRST: Final = "first"


@click.command()
@place.name_argument
@type_option
@framework_option
@base_option
@click.option("--image", metavar="IMAGE", help="Use an image that there is instead of a new one.")
@click.option("--gpu", metavar="N", help="GPUs of the container: a number, all, or a MIG profile.  [default: 1]")
@click.option("--cpu-only", is_flag=True, help="A container without a GPU.")
@click.option("--skip", multiple=True, type=click.Choice(tuple(STEPS)), help="Leave a step out.")
@reach.server_option
@yes_option
@guided(
    """Six steps from the first login to a running container. Each is a command of its own, which is shown, so that you
    know it the next time. What is there already is not made again: run this as often as you like.""",
    following="`container list` shows what you have, `ds01 --help` all commands",
)
def setup(
    *,
    name: str | None,
    use_case: str | None,
    framework: str | None,
    base: str | None,
    image: str | None,
    gpu: str | None,
    cpu_only: bool,
    skip: tuple[str, ...],
    server: str | None,
    yes: bool,
) -> int:
    """Set up everything for your first day, up to a running container."""
    if gpu and cpu_only:
        raise click.UsageError("--gpu and --cpu-only: give one of them")
    # What is written wrongly is said before anything is made.
    wished_gpus(gpu or "1", cpu_only=cpu_only)
    check_base(framework, base)
    if image is not None:
        images.reference(image, "--image")
    asks = not yes and sys.stdin.isatty()
    quiet = [] if asks else ["--yes"]
    to_server = ["--server", server] if server else []
    gpus = ["--cpu-only"] if cpu_only else ["--gpu", gpu] if gpu else []
    parts = [part for part in STEPS if part not in skip]
    if name is None and {*parts} & {"project", "image", "container", "editor"}:
        name = _usual()
        if asks:
            name = click.prompt("Name of your project", default=name, value_proc=place.checked, err=True)
    project = "" if name is None else place.checked(name)
    launched = False
    for number, part in enumerate(parts, 1):
        click.echo(click.style(f"\n{number}/{len(parts)} {part}: {STEPS[part]}", bold=True), err=True, color=colour())
        if asks and not click.confirm("Do it now?", default=True, err=True):
            continue
        if part == "container" and runs(Engine(), project) is not None:
            # It stays as it was made.
            words = ["project", "launch", project]
        elif part == "image":
            image, words = _image(project, image, [use_case, framework, base], asks=asks)
        else:
            words = {
                "ssh": ["ssh-setup", *to_server, *quiet],
                "shell": ["shell-setup"],
                "project": ["project", "init", project, "--no-image", *quiet],
                "container": ["project", "launch", project, *(["--image", image] if image else []), *gpus, *quiet],
                "editor": ["vscode-setup", project, *to_server, *quiet],
            }[part]
        if words and (code := step(*words)):
            again = f"user-setup {project}".strip()
            click.echo(f"\nstopped at the step {part}: `{again}` goes on, with --skip {part} without it", err=True)
            return code
        launched = launched or part == "container"
    if launched:
        click.echo(f"\n`container attach {project}` opens a shell.")
        click.echo(f"`jupyter-setup {project}` brings notebooks to your browser.")
    return OK


def _usual() -> str:
    """Return the project that was worked on last, or a name for the first one."""
    there = place.begun()
    return max(there, key=lambda path: path.stat().st_mtime).name if there else _FIRST


def _image(
    project: str, image: str | None, described_by: list[str | None], *, asks: bool
) -> tuple[str | None, list[str]]:
    """Return the image that the container is made from, None for the project's own, and the command that makes that."""
    own = own_names(Engine())
    mine = place.image_of(project)
    if image is None and asks and own and mine not in own:
        click.echo(f"You have images: {', '.join(own)}", err=True)
        question = f"Which one? {mine} would be a new one"
        chosen = click.prompt(
            question, default=own[0], value_proc=lambda typed: images.reference(typed, "IMAGE"), err=True
        )
        image = None if chosen == mine else str(chosen)
    if image is not None:
        click.echo(f"the image is {image}")
        return image, []
    if mine in own:
        click.echo(f"the image {mine} is there already")
        return None, []
    if described(project):
        return None, ["image", "update", mine, "--cached"]
    return None, image_step(project, *described_by, asks=asks)
