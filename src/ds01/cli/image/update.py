"""`image update` and `image install`: change a Dockerfile, and build the image again."""

from __future__ import annotations

from pathlib import Path

import click

from ds01 import files
from ds01.cli.container.options import json_option
from ds01.cli.guide import guided
from ds01.cli.image import dockerfile, place
from ds01.cli.image.create import verbose_option
from ds01.cli.image.steps import build, say_image
from ds01.cli.output import OK


@click.command()
@place.name_argument
@click.option("--add", multiple=True, metavar="NAMES", help="Add packages of pip.")
@click.option("--add-system", multiple=True, metavar="NAMES", help="Add packages of apt.")
@click.option("--edit", is_flag=True, help="Open the Dockerfile in $EDITOR first.")
@click.option("--cached", is_flag=True, help="Do not make steps again that did not change.")
@place.directory_option
@click.option("--no-build", is_flag=True, help="Only change the Dockerfile.")
@click.option("--dry-run", is_flag=True, help="Only show the Dockerfile.")
@verbose_option
@json_option
@guided(
    """This changes the Dockerfile of an image if you ask for it, and builds the image again from its first step, with
    the newest packages. Containers that you have keep what they were made from; new ones get the new image.""",
    following="`container deploy NAME {name}` makes a container from it",
)
def update(
    *,
    name: str,
    add: tuple[str, ...],
    add_system: tuple[str, ...],
    edit: bool,
    cached: bool,
    directory: str | None,
    no_build: bool,
    dry_run: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Build an image again, maybe with more packages."""
    where = place.directory_of(place.checked(name), directory)
    packages, system = dockerfile.checked(add), dockerfile.checked(add_system, system=True)
    text = changed(place.read(where, name), packages, system)
    if dry_run:
        if as_json:
            say_image(name, where, text=text)
        else:
            click.echo(text, nl=False)
        return OK
    if edit:
        text = click.edit(text, extension=".Dockerfile") or text
    return _apply(name, where, text, fresh=not cached, no_build=no_build, verbose=verbose, as_json=as_json)


@click.command()
@place.name_argument
@click.argument("packages", nargs=-1, required=True)
@click.option("--system", is_flag=True, help="They are packages of apt.")
@place.directory_option
@verbose_option
@json_option
@guided(
    """What pip installs in a container goes with the container. This adds packages to the image instead, so that every
    container made from it later has them.""",
    following="`container deploy NAME {name}` makes a container that has them",
)
def install(
    *, name: str, packages: tuple[str, ...], system: bool, directory: str | None, verbose: bool, as_json: bool
) -> int:
    """Add PACKAGES to an image for good."""
    where = place.directory_of(place.checked(name), directory)
    wanted = dockerfile.checked(packages, system=system)
    if not wanted:
        raise click.UsageError("PACKAGES: there is no name in it: `image update` builds an image again as it is")
    return added(name, where, [] if system else wanted, wanted if system else [], verbose=verbose, as_json=as_json)


def added(
    name: str,
    where: Path,
    packages: list[str],
    system: list[str],
    *,
    verbose: bool = False,
    as_json: bool = False,
) -> int:
    """Add packages to an image: earlier steps stay as they are. Returns the exit code."""
    text = changed(place.read(where, name), packages, system)
    return _apply(name, where, text, fresh=False, no_build=False, verbose=verbose, as_json=as_json)


def changed(text: str, packages: list[str], system: list[str]) -> str:
    """Return a Dockerfile with more packages."""
    text = dockerfile.with_system(text, system) if system else text
    return dockerfile.with_packages(text, packages) if packages else text


def _apply(name: str, where: Path, text: str, *, fresh: bool, no_build: bool, verbose: bool, as_json: bool) -> int:
    """Write and build; a Dockerfile that cannot be built stays, with the image as it was."""
    if files.atomic_write(where / "Dockerfile", text, mode=0o644):
        click.echo(f"changed {where}/Dockerfile", err=True)
    if not no_build:
        return build(name, where, fresh=fresh, verbose=verbose, as_json=as_json)
    if as_json:
        say_image(name, where)
    return OK
