"""`image create`: a Dockerfile in four phases, and the image built from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import click

from ds01 import files
from ds01.cli.container.options import json_option
from ds01.cli.guide import guided
from ds01.cli.image import catalogue, dockerfile, place
from ds01.cli.image.phases import DATA_SCIENCE, JUPYTER, USE_CASES
from ds01.cli.image.steps import build, say_image
from ds01.cli.output import OK, say_json
from ds01.cli.values import content
from ds01.problems import ReportedError

_DEFAULT: Final = "pytorch"
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show all output of the build.")


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--framework", metavar="NAME", help="pytorch, tensorflow-2.16.1, ...: --catalogue lists them.")
@click.option("--image", "base", metavar="IMAGE", help="Begin with any image instead.")
@click.option("--jupyter/--no-jupyter", default=None, help="JupyterLab.  [default: yes]")
@click.option("--data-science/--no-data-science", default=None, help="NumPy, pandas and others.  [default: yes]")
@click.option("-t", "--type", "use_case", type=click.Choice(list(USE_CASES)), help="Use case.  [default: custom]")
@click.option("-p", "--packages", multiple=True, metavar="NAMES", help="More packages of pip.")
@click.option("-s", "--system", multiple=True, metavar="NAMES", help="Packages of apt.")
@click.option("-r", "--requirements", metavar="FILE", help="A requirements.txt to install.")
@place.directory_option
@click.option("--no-build", is_flag=True, help="Only write the Dockerfile.")
@click.option("--dry-run", is_flag=True, help="Only show the Dockerfile.")
@click.option("--catalogue", "shows_catalogue", is_flag=True, help="List the frameworks to choose from.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; take what is usual.")
@verbose_option
@json_option
@guided(
    """An image is what a container begins with: an operating system, Python and packages. You make one for a project
    and as many containers from it as you like. It is built from a Dockerfile, a short text that says what is in it;
    yours to read, edit and keep with your code.

    There are four questions: framework, Jupyter, data science, use case.""",
    following="`container deploy {name}` makes a container from it",
)
def create(
    *,
    name: str | None,
    framework: str | None,
    base: str | None,
    jupyter: bool | None,
    data_science: bool | None,
    use_case: str | None,
    packages: tuple[str, ...],
    system: tuple[str, ...],
    requirements: str | None,
    directory: str | None,
    no_build: bool,
    dry_run: bool,
    shows_catalogue: bool,
    yes: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Make an image NAME: write its Dockerfile, then build it.

    What is not given is asked for on a terminal, else it is as usual.
    """
    if shows_catalogue:
        return _say_catalogue(as_json=as_json)
    asks = not yes and sys.stdin.isatty() and not dry_run and not as_json
    if name is None:
        if not asks:
            raise click.UsageError("NAME is missing: `image create NAME`")
        name = str(click.prompt("Name of the image", value_proc=place.checked, err=True))
    name = place.checked(name)
    where = place.directory_of(name, directory)
    if not dry_run and (where / "Dockerfile").exists():
        raise ReportedError(
            f"{where}/Dockerfile: there already: `image update {name}` builds it again, --directory takes another place"
        )
    extra, apt = dockerfile.checked(packages), dockerfile.checked(system, system=True)
    listed = None if requirements is None else content(requirements, "--requirements")
    found = base_of(framework, base, asks=asks)
    wants_jupyter = _answer(jupyter, "2/4 JupyterLab?", asks=asks)
    wants_science = _answer(data_science, f"3/4 Data science ({', '.join(DATA_SCIENCE[:3])}, ...)?", asks=asks)
    use = _use_case(use_case, asks=asks)
    title, of_use = USE_CASES[use]
    parts = [
        (found.framework, found.packages),
        ("Jupyter", JUPYTER if wants_jupyter else ()),
        ("Data science", DATA_SCIENCE if wants_science else ()),
        (f"Use case: {title}", of_use),
        (dockerfile.OWN, extra),
    ]
    text = dockerfile.made(name, found.image, parts, apt, requirements=listed is not None)
    if dry_run:
        if as_json:
            say_image(name, where, text=text)
        else:
            click.echo(text, nl=False)
        return OK
    with _written(where, text, listed):
        click.echo(f"wrote {where}/Dockerfile", err=True)
        if not no_build:
            return build(name, where, fresh=False, verbose=verbose, as_json=as_json)
        if as_json:
            say_image(name, where)
        else:
            click.echo(f"build it with `image update {name}`")
        return OK


def base_of(framework: str | None, image: str | None, *, asks: bool) -> catalogue.Base:
    """Return the image to begin with. Raises click.UsageError."""
    if framework is not None and image is not None:
        raise click.UsageError("--framework and --image: give one of them")
    if image is not None:
        return catalogue.Base("image", "", place.reference(image, "--image"))
    found = catalogue.bases()
    if framework is None and asks:
        names = ", ".join(dict.fromkeys(base.framework for base in found))
        question = f"1/4 Framework ({names})"
        asked: catalogue.Base = click.prompt(
            question, default=_DEFAULT, value_proc=lambda typed: catalogue.chosen(typed, found), err=True
        )
        return asked
    return catalogue.chosen(_DEFAULT if framework is None else framework, found)


def _answer(given: bool | None, question: str, *, asks: bool) -> bool:
    if given is not None:
        return given
    return click.confirm(question, default=True, err=True) if asks else True


def _use_case(given: str | None, *, asks: bool) -> str:
    if given is not None or not asks:
        return given or "custom"
    for key, (title, _) in USE_CASES.items():
        click.echo(f"  {key:<7} {title}", err=True)
    return str(click.prompt("4/4 Use case", type=click.Choice(list(USE_CASES)), default="custom", err=True))


@contextmanager
def _written(where: Path, text: str, listed: bytes | None) -> Iterator[None]:
    """Write a Dockerfile, and take it away again if it could not be written whole or the command is interrupted."""
    new = not where.is_dir()
    made = []
    try:
        where.mkdir(mode=0o755, parents=True, exist_ok=True)
        if listed is not None and files.atomic_write(where / "requirements.txt", listed, mode=0o644):
            made.append(where / "requirements.txt")
        files.atomic_write(where / "Dockerfile", text, mode=0o644)
        made.append(where / "Dockerfile")
        yield
    except (OSError, KeyboardInterrupt):
        # A Dockerfile that cannot be built stays: that is mended in it.
        for path in made:
            path.unlink(missing_ok=True)
        if new:
            with suppress(OSError):
                where.rmdir()
        raise


def _say_catalogue(*, as_json: bool) -> int:
    found = catalogue.bases()
    if as_json:
        say_json([{"framework": one.framework, "version": one.version, "image": one.image} for one in found])
    else:
        click.echo(catalogue.shown_bases(found))
    return OK
