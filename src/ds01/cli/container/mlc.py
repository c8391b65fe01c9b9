"""`mlc-create`: AIME MLC's command of that name, with its arguments, for a container like all others here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ds01.cli.container.create import create as create_container
from ds01.cli.output import OK

if TYPE_CHECKING:
    from ds01.cli.image.catalogue import Base


@click.command("mlc-create", hidden=True)
@click.argument("name", required=False)
@click.argument("framework", required=False)
@click.argument("version", required=False)
@click.option("-arch", "--architecture", envvar="MLC_ARCH", metavar="ARCH", help="Only images for it, like CUDA_ADA.")
@click.option("-d", "--data_dir", "data", metavar="DIR", help="What is at /data.")
@click.option("-g", "--num_gpus", "gpus", default="1", show_default=True, metavar="N", help="GPUs: a number or all.")
@click.option("-i", "--info", is_flag=True, help="List frameworks and versions.")
@click.option("-m", "--models_dir", "models", metavar="DIR", help="What is at /models.")
@click.option("-s", "--script", is_flag=True, help="Ask nothing.")
@click.option("-w", "--workspace_dir", "workspace", metavar="DIR", help="What is at /workspace.")
@click.option("--image", metavar="IMAGE", help="Any image, instead of FRAMEWORK and VERSION.")
@click.option("--dry-run", is_flag=True, help="Only show what would be made.")
def create(
    *,
    name: str | None,
    framework: str | None,
    version: str | None,
    architecture: str | None,
    data: str | None,
    gpus: str,
    info: bool,
    models: str | None,
    script: bool,
    workspace: str | None,
    image: str | None,
    dry_run: bool,
) -> int:
    """Make a container NAME from AIME's list.

    It is made as `container create` makes it, and left stopped. What is not given is asked for on a terminal.
    """
    bases = _for(architecture)
    if info:
        from ds01.cli.image.catalogue import shown_bases  # noqa: PLC0415 - as in `_for`

        click.echo(shown_bases(bases))
        return OK
    if image is not None and (framework or version):
        raise click.UsageError("--image: give this, or FRAMEWORK and VERSION")
    asks = not script and sys.stdin.isatty()
    name = name or _asked("NAME", "Name of the container", asks=asks)
    if image is None:
        image = _image(framework, version, bases, asks=asks)
    options = {"--gpu": gpus, "--workspace": workspace, "--data": data, "--models": models}
    words = [name, image, *(word for option, value in options.items() if value is not None for word in (option, value))]
    words += ["--dry-run"] if dry_run else []
    code: int = create_container.main(words, "mlc-create", standalone_mode=False)
    return code


def _for(architecture: str | None) -> list[Base]:
    from ds01.cli.image import catalogue  # noqa: PLC0415 - `container` alone must start fast

    bases = catalogue.bases()
    if architecture is None:
        return bases
    known = sorted({name for base in bases for name in base.architectures})
    if known and architecture not in known:
        raise click.UsageError(f"--architecture: {architecture}: here are {', '.join(known)}")
    return [base for base in bases if not base.architectures or architecture in base.architectures]


def _image(framework: str | None, version: str | None, bases: list[Base], *, asks: bool) -> str:
    from ds01.cli.image import catalogue  # noqa: PLC0415 - as above

    framework = framework or _chosen("FRAMEWORK", list(dict.fromkeys(base.framework for base in bases)), asks=asks)
    if version is None:
        versions = [base.version for base in bases if base.framework == framework.lower()]
        version = _chosen("VERSION", versions, asks=asks) if versions else ""
    base = catalogue.chosen(f"{framework}-{version}".rstrip("-"), bases)
    if base.packages:
        raise click.UsageError(
            f"{base.framework}: no image has it: `image create NAME --framework {base.framework}` makes one, "
            f"then `mlc-create NAME --image NAME`"
        )
    return base.image


def _chosen(what: str, choices: list[str], *, asks: bool) -> str:
    return _asked(what, what.capitalize(), asks=asks, kind=click.Choice(choices, case_sensitive=False))


def _asked(what: str, text: str, *, asks: bool, kind: click.ParamType[str] | None = None) -> str:
    if not asks:
        raise click.UsageError(
            f"{what} is missing: `mlc-create NAME FRAMEWORK VERSION`; `mlc-create --info` lists them"
        )
    return str(click.prompt(text, type=kind, err=True))
