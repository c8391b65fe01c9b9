"""`project init`: a new project, by the commands that make its parts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final

import click

from ds01.cli.engine import Engine
from ds01.cli.guide import guided
from ds01.cli.image import place as images
from ds01.cli.image.phases import USE_CASES
from ds01.cli.output import OK
from ds01.cli.project import place
from ds01.cli.wizard import step

_USE_CASE: Final = re.compile("^# Use case: (.+)$", re.MULTILINE)
type_option = click.option("-t", "--type", "use_case", type=click.Choice(list(USE_CASES)), help="What it is for.")
framework_option = click.option(
    "-f", "--framework", metavar="NAME", help="Of its image: pytorch, tensorflow-2.16.1, ...  [default: ask]"
)
base_option = click.option("--base", metavar="IMAGE", help="Begin its image with any other.")


@click.command()
@place.name_argument
@type_option
@click.option("--desc", metavar="TEXT", help="What it is about.")
@framework_option
@base_option
@click.option("--blank", is_flag=True, help="Without the usual directories.")
@click.option("--git/--no-git", default=True, help="A git repository.  [default: yes]")
@click.option("--image/--no-image", default=True, help="A Dockerfile for its image.  [default: yes]")
@click.option("-q", "-y", "--quick", "--yes", "quick", is_flag=True, help="Ask nothing; take what is usual.")
@guided(
    """A project is a directory in ~/workspace with what one wants around code: a README, git, and a Dockerfile that
    says which programs it needs. Its image and its container have its name. What is there already stays, so this can
    be run again.""",
    following="`project launch {name} --open` makes its image and its container, and opens a shell there",
)
def init(
    *,
    name: str | None,
    use_case: str | None,
    desc: str | None,
    framework: str | None,
    base: str | None,
    blank: bool,
    git: bool,
    image: bool,
    quick: bool,
) -> int:
    """Begin a project in ~/workspace, or add what one lacks."""
    name = place.chosen(name)
    check_base(framework, base)
    asks = not quick and sys.stdin.isatty()
    where = place.directory_of(name)
    if desc is None:
        needed = asks and not (where / "README.md").exists()
        desc = click.prompt("What is it about?", default="", show_default=False, err=True) if needed else ""
    steps = [
        ["dir-create", name, *(["--type", "blank"] if blank else [])],
        ["readme-create", name, *(["--desc", desc] if desc else [])],
    ]
    if git:
        steps.append(["git-init", name])
    if image and described(name):
        _say_image(name, [use_case, framework, base])
    elif image:
        steps.append([*image_step(name, use_case, framework, base, asks=asks), "--no-build"])
    for words in steps:
        if code := step(*words):
            return code
    click.echo(f"the project {name} is in {place.tilde(where)}: `project launch {name} --open`")
    return OK


def _say_image(name: str, wishes: Sequence[str | None]) -> None:
    """Say which image a project has without a choice: it was begun before, perhaps for Birds and not for birds."""
    image = place.image_of(name)
    where = images.directory_of(image, None)
    use_case = _USE_CASE.search(images.read(where, image))
    kind = f" (use case: {use_case[1]})" if use_case else ""
    click.echo(f"{place.tilde(where / 'Dockerfile')} is there already and stays as it is{kind}")
    if any(wishes):
        click.echo(
            f"note: --type, --framework and --base change nothing of it: edit it, then `image update {image}`, "
            "or give the project another name, and so an image of its own",
            err=True,
        )


def check_base(framework: str | None, base: str | None) -> None:
    """See that an image can begin like that, before anything is made. Raises click.UsageError."""
    if framework is not None or base is not None:
        from ds01.cli.image.create import base_of  # noqa: PLC0415 - builds images, which most calls do not

        base_of(framework, base, asks=False)


def described(name: str) -> bool:
    """Whether a project's image has a Dockerfile."""
    return (images.directory_of(place.image_of(name), None) / "Dockerfile").is_file()


def built(engine: Engine, name: str) -> bool:
    """Whether a project's image is there. Raises EngineError."""
    return engine.exists("images", f"ds01-{os.getuid()}/{place.image_of(name)}", "json")


def image_step(name: str, use_case: str | None, framework: str | None, base: str | None, *, asks: bool) -> list[str]:
    """Return the command that makes a project's image, with what is known of it."""
    given = {"--type": use_case, "--framework": framework, "--image": base}
    words = ["image", "create", place.image_of(name)]
    words += [word for option, value in given.items() if value for word in (option, value)]
    listed = place.directory_of(name) / "requirements.txt"
    if listed.is_file():
        words += ["--requirements", str(listed)]
    return words if asks else [*words, "--yes"]
