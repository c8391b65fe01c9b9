"""`ds01 image build`: what only BuildKit's Dockerfiles can do, by buildah, as oneself and in one's own slice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from ds01.cli import client
from ds01.cli.container.options import json_option
from ds01.cli.output import FAILED, OK, say_json
from ds01.problems import ReportedError

_NAMED: Final = re.compile(
    r"^\s*FROM\s+(?:--\S+\s+)*(\S+)|--from=([^\s,]+)|[,=]from=([^\s,]+)", re.MULTILINE | re.IGNORECASE
)


class BuildError(ReportedError):
    """A build that cannot begin or did not end."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-t", "--tag", "tags", multiple=True, required=True, metavar="NAME", help="What the image is called.")
@click.option("-f", "--file", "file", type=click.Path(exists=True, dir_okay=False), help="The Dockerfile.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="id=ID,src=FILE", help="A file for RUN --mount=type=secret."
)
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="The value of an ARG.")
@json_option
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.argument("context", type=click.Path(exists=True, file_okay=False))
def build(  # noqa: PLR0917 - an option each
    tags: tuple[str, ...],
    file: str | None,
    secrets: tuple[str, ...],
    arguments: tuple[str, ...],
    options: tuple[str, ...],
    context: str,
    *,
    as_json: bool,
) -> int:
    """Build an image from a Dockerfile for BuildKit.

    RUN --mount, secrets and here-documents work. Other options are those of `buildah build`.
    The image is one of your own afterwards, as after `docker build`.
    """
    if shutil.which("buildah") is None:
        raise BuildError(
            "buildah is not installed here: ask the administrator, whose `ds01 health` names what is missing"
        )
    dockerfile = Path(file) if file else Path(context, "Dockerfile")
    environment = _environment()
    _see_numbers(environment)
    for name in _images(dockerfile):
        _bring(name, environment)
    with tempfile.NamedTemporaryFile("r", encoding="ascii") as identity:
        command = [
            sys.executable, "-m", "ds01.cli.image.inside",
            "buildah", "build", "--layers", "--pull=missing", f"--file={dockerfile}", f"--iidfile={identity.name}",
            *(f"--tag=localhost/{name}" for name in tags), *(f"--secret={value}" for value in secrets),
            *(f"--build-arg={value}" for value in arguments), *options, context,
        ]  # fmt: skip
        # What buildah says of its progress is for people; it says it on standard output.
        done = subprocess.run(command, env=environment, stdout=sys.stderr if as_json else None, check=False)
        if done.returncode == 0:
            for name in tags:
                _load(identity.read(), name, environment)
                identity.seek(0)
    if as_json:
        failed = f"buildah ended with {done.returncode}" if done.returncode else None
        say_json({"names": tags, "dockerfile": str(dockerfile.absolute()), "built": failed is None, "error": failed})
    return FAILED if done.returncode else OK


def _environment() -> dict[str, str]:
    """Layers are files in one's home where the kernel does not let people mount an overlay there."""
    environment = dict(os.environ)
    environment.setdefault("BUILDAH_ISOLATION", "chroot")
    if "STORAGE_DRIVER" not in environment:
        tried = subprocess.run(["buildah", "info"], env=environment, capture_output=True, check=False)
        if tried.returncode != 0:
            environment["STORAGE_DRIVER"] = "vfs"
    return environment


def _see_numbers(environment: dict[str, str]) -> None:
    """See that there can be several people inside: without that no step begins, in obscure words. Raises BuildError."""
    maps = ["/proc/self/uid_map", "/proc/self/gid_map"]
    tried = subprocess.run(["buildah", "unshare", "cat", *maps], env=environment, capture_output=True, check=False)
    if tried.returncode == 0 and len(tried.stdout.splitlines()) <= len(maps):
        raise BuildError(
            "you have no numbers in /etc/subuid and /etc/subgid, without which no step of such a build runs: ask the "
            'administrator for some (docs/operations.md, "Give somebody numbers for builds"). `docker build` needs none'
        )


def _images(dockerfile: Path) -> list[str]:
    """The images that a Dockerfile names as they are; buildah fetches what is not on this server."""
    text = dockerfile.read_text(encoding="utf-8", errors="replace")
    found = (next(filter(None, match.groups())) for match in _NAMED.finditer(text))
    return [name for name in dict.fromkeys(found) if "$" not in name and name != "scratch" and not name.isdigit()]


def _bring(name: str, environment: dict[str, str]) -> None:
    """Give buildah an image that the engine has and we may use; it is no error if there is none."""
    docker = _docker(environment)
    there = subprocess.run([*docker, "image", "inspect", "--format={{.Id}}", name], capture_output=True, check=False)
    if there.returncode != 0:
        return
    identity = there.stdout.decode().strip().removeprefix("sha256:")
    known = subprocess.run(
        ["buildah", "inspect", "--type=image", identity], env=environment, capture_output=True, check=False
    )
    if known.returncode != 0:
        _pipe([*docker, "save", name], ["buildah", "pull", "--quiet", "docker-archive:/dev/stdin"], environment)


def _load(identity: str, name: str, environment: dict[str, str]) -> None:
    """Give the engine what was built."""
    reference = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    save = ["buildah", "push", "--quiet", identity.strip(), f"docker-archive:/dev/stdout:{reference}"]
    _pipe(save, [*_docker(environment), "load"], environment)


def _docker(environment: dict[str, str]) -> list[str]:
    return ["docker"] if "DOCKER_HOST" in environment else ["docker", f"--host=unix://{client.socket_path()}"]


def _pipe(source: list[str], sink: list[str], environment: dict[str, str]) -> None:
    with subprocess.Popen(source, env=environment, stdout=subprocess.PIPE) as first:
        second = subprocess.run(sink, env=environment, stdin=first.stdout, stdout=sys.stderr, check=False)
    if first.returncode or second.returncode:
        raise BuildError(f"{' '.join(source[:3])} | {' '.join(sink[:3])} failed; what it said is above")
