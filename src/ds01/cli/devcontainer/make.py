"""`devcontainer-init`: the file that tells editors which container a project wants."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

import click

from ds01.cli.guide import guided
from ds01.cli.image.place import reference
from ds01.cli.output import OK
from ds01.cli.person import caller
from ds01.cli.project import place

if TYPE_CHECKING:
    from pathlib import Path

PLACES: Final = (".devcontainer/devcontainer.json", ".devcontainer.json")
"""Where editors look, the usual one first."""
HOME: Final = "/tmp/home"  # noqa: S108 - in the container, where the image has no home for a number
_EXTENSIONS: Final = ("ms-python.python", "ms-toolsai.jupyter")


def found(project: Path) -> Path | None:
    """Return a project's file, None if it has none."""
    return next((project / name for name in PLACES if (project / name).is_file()), None)


@click.command()
@place.name_argument
@click.option("--image", metavar="IMAGE", help="What it is made from.  [default: the project's image]")
@click.option("--gpu", type=click.IntRange(0, 64), default=1, show_default=True, metavar="N", help="How many GPUs.")
@click.option("--cpu-only", is_flag=True, help="No GPU.")
@click.option("--extensions", multiple=True, metavar="NAMES", help="More extensions of VS Code.")
@guided(
    """A dev container is a container that an editor makes for a project: it reads .devcontainer/devcontainer.json,
    starts what that says and works in there. This writes the file: the project's image, a GPU, and the project's
    directory at /workspace. Your limits hold as for any other container of yours.""",
    following="`vscode-setup {name}` says how to open it; `devcontainer-check {name}` finds mistakes",
)
def init(*, name: str | None, image: str | None, gpu: int, cpu_only: bool, extensions: tuple[str, ...]) -> int:
    """Let editors make a project's container."""
    if image is not None:
        reference(image, "--image")
    project = place.existing(name)
    there = found(project)
    target = there or project / PLACES[0]
    more = [one for entry in extensions for one in entry.split()]
    text = {
        "name": project.name,
        "image": image or place.image_of(project.name),
        **({} if cpu_only or not gpu else {"runArgs": ["--gpus", str(gpu)]}),
        # Nobody else: what root makes in there would belong to root out here, too.
        "containerUser": f"{os.getuid()}:{os.getgid()}",
        "updateRemoteUserUID": False,
        "containerEnv": {"HOME": HOME, "USER": caller()},
        "workspaceMount": "source=${localWorkspaceFolder},target=/workspace,type=bind",
        "workspaceFolder": "/workspace",
        "customizations": {"vscode": {"extensions": list(dict.fromkeys([*_EXTENSIONS, *more]))}},
    }
    if there is None:
        target.parent.mkdir(mode=0o755, exist_ok=True)
    place.write_new(target, json.dumps(text, indent=2, ensure_ascii=False) + "\n")
    return OK
