"""`dir-create` and `readme-create`: the directories of a project, and the page that says what it is."""

from __future__ import annotations

from typing import Final

import click

from ds01.cli.guide import guided
from ds01.cli.output import OK, plain
from ds01.cli.project import place

DIRECTORIES: Final = {
    "data": "what goes in, as it came",
    "notebooks": "Jupyter notebooks",
    "src": "code",
    "models": "what was trained",
    "results": "figures and tables",
}
"""Name -> what for. Git leaves out those that grow."""


@click.command()
@place.name_argument
@click.option(
    "--type", "kind", type=click.Choice(("data-science", "blank")), default="data-science", show_default=True,
    help="Which directories are in it.",
)  # fmt: skip
@guided(
    """A project is a directory in ~/workspace. Containers see it at /workspace, and it stays when they go. This makes
    the directory and the usual ones in it; what is there already stays.""",
    following="`project init {name}` adds the rest: a README, git, and an image",
)
def directories(*, name: str | None, kind: str) -> int:
    """Make the directories of a project."""
    where = place.directory_of(place.chosen(name))
    begun = not where.is_dir()
    parts = [part for part in DIRECTORIES if kind == "data-science" and not (where / part).is_dir()]
    for path in (where, *(where / part for part in parts)):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    inside = f": {', '.join(parts)}" if parts else ""
    click.echo(f"made {place.tilde(where)}{inside}" if begun or parts else f"{place.tilde(where)} is there already")
    return OK


@click.command()
@place.name_argument
@click.option("--desc", default="", metavar="TEXT", help="What the project is about.")
@guided(
    """A README says what a project is, what is where, and how to run it: to others, and to you in a year. This writes a
    first one; a README that is there already stays.""",
    following="edit ~/workspace/{name}/README.md",
)
def readme(*, name: str | None, desc: str) -> int:
    """Write the README.md of a project."""
    where = place.existing(name)
    image = place.image_of(where.name)
    rows = [(f"`{part}/`", what) for part, what in DIRECTORIES.items() if (where / part).is_dir()]
    parts = [
        f"# {where.name}",
        plain(desc.strip()) or "What it is about, in two sentences.",
        (
            f"## Run it\n\n```sh\nproject launch {where.name} --open\n```\n\n"
            "opens a shell in a container; this directory is /workspace in it. "
            f"The programs are in the image `{image}`, made by `~/dockerfiles/{image}/Dockerfile`; "
            f"`image install {image} PACKAGE` adds to it."
        ),
    ]
    if rows:
        parts.append("## What is where\n\n" + "\n".join(f"- {part}: {what}" for part, what in rows))
    place.write_new(where / "README.md", "\n\n".join(parts) + "\n")
    return OK
