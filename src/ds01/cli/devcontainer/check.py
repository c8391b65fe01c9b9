"""`devcontainer-check`: what would go wrong here with a project's dev container, before an editor tries."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from ds01 import files
from ds01.cli.container.options import json_option
from ds01.cli.devcontainer import jsonc
from ds01.cli.devcontainer.make import found
from ds01.cli.engine import Engine
from ds01.cli.guide import guided
from ds01.cli.output import FAILED, OK, say_json, say_problems
from ds01.cli.person import own_home
from ds01.cli.project import place
from ds01.problems import ERROR, WARNING, Problem, shown

_WAYS: Final = ("image", "dockerFile", "build", "dockerComposeFile")
TAKEN: Final = re.compile(
    r"--privileged|--(?:network|net|pid|ipc|uts|userns|cgroupns)[= ]host|--device[= ].*|--cap-add.*"
)
ALL: Final = re.compile(r"--gpus[= ]\"?all\"?")


@click.command()
@place.name_argument
@click.option("--fix", is_flag=True, help="Put right what has one right answer; FILE~ is the file as it was.")
@json_option
@guided(
    """This reads the devcontainer.json of a project as an editor does, and says what will not work on this server, or
    not as it is written. Nothing is started, and without --fix nothing is changed.""",
    following="`vscode-setup {name}` says how to open it",
)
def check(*, name: str | None, fix: bool, as_json: bool) -> int:
    """Look for mistakes in a project's dev container."""
    project = place.existing(name)
    path = found(project)
    if path is None:
        raise place.NoProjectError(
            f"{place.tilde(project)}: has no devcontainer.json: `devcontainer-init {project.name}` writes one"
        )
    fixed = fix and _mend(path)
    problems = list(_problems(path, project))
    if as_json:
        say_json({"file": str(path), "problems": [problem.as_dict() for problem in problems], "fixed": fixed})
    else:
        say_problems(problems)
    if any(problem.severity == ERROR for problem in problems):
        return FAILED
    if not as_json:
        click.echo(f"{place.tilde(path)} is well" if not problems else f"{place.tilde(path)} works, see above")
    return OK


def _mend(path: Path) -> bool:
    """Put a file right as far as that can be done; returns whether anything was changed. Raises OSError."""
    from ds01.cli.devcontainer.mend import mended  # noqa: PLC0415 - only when it is wanted

    try:
        text = path.read_text(encoding="utf-8")
        data = jsonc.parse(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(data, dict) or (found := mended(data)) == data:
        return False
    mode = stat.S_IMODE(path.stat().st_mode)
    before = path.with_name(f"{path.name}~")
    # The first one has the comments.
    if not before.exists():
        files.atomic_write(before, text, mode=mode)
    files.atomic_write(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n", mode=mode, gid=os.getgid())
    click.echo(f"mended {place.tilde(path)}; {place.tilde(before)} is as it was, with its comments", err=True)
    return True


def _problems(path: Path, project: Path) -> Iterator[Problem]:
    where = place.tilde(path)
    try:
        data = jsonc.parse(path.read_text(encoding="utf-8"))
    except RecursionError:
        yield Problem(where, "too deep", "JSON, with comments if you like", "write it anew")
        return
    except ValueError as error:
        yield Problem(where, str(error), "JSON, with comments if you like", "mend that line")
        return
    if not isinstance(data, dict):
        yield Problem(where, shown(data), "an object", "write it between { and }")
        return
    if not any(data.get(way) for way in _WAYS):
        yield Problem(
            where, "no image", "what the container is made from", f'add "image": "{place.image_of(project.name)}"'
        )
    yield from _image(data, where)
    yield from _dockerfile(data, path)
    yield from _arguments(data, where)
    yield from _user(data, where)
    yield from _mounts(data, where, project)


def _image(data: dict[str, Any], where: str) -> Iterator[Problem]:
    image = data.get("image")
    if not image:
        return
    if not isinstance(image, str):
        yield Problem(f"{where}: image", shown(image), "the name of an image", "write it between quotes")
    elif not Engine().exists("images", image, "json"):
        if "/" in image or ":" in image:
            yield Problem(f"{where}: image", image, "not on this server", "it is fetched at the first start", WARNING)
        else:
            yield Problem(f"{where}: image", image, "an image of yours, or a public one", f"`image create {image}`")


def _dockerfile(data: dict[str, Any], path: Path) -> Iterator[Problem]:
    build = data.get("build")
    file = data.get("dockerFile") or (build.get("dockerfile") if isinstance(build, dict) else None)
    if isinstance(file, str) and not (path.parent / file).is_file():
        yield Problem(
            f"{place.tilde(path)}: dockerfile", file, f"a file in {place.tilde(path.parent)}", "write it there"
        )


def _arguments(data: dict[str, Any], where: str) -> Iterator[Problem]:
    arguments = data.get("runArgs") or []
    if not isinstance(arguments, list) or not all(isinstance(word, str) for word in arguments):
        yield Problem(f"{where}: runArgs", shown(arguments), "a list of texts", 'write ["--gpus", "1"]')
        return
    # An option and its value may be one word or two.
    line = " ".join(arguments)
    taken = [match[0].split(" --")[0] for match in TAKEN.finditer(line)]
    taken += ["privileged"] if data.get("privileged") is True else []
    for word in taken:
        yield Problem(f"{where}: runArgs", word, "not given on a shared server", "take it out", WARNING)
    wants = data.get("hostRequirements")
    if ALL.search(line) or (isinstance(wants, dict) and wants.get("gpu")):
        yield Problem(f"{where}: GPU", "all", "takes every GPU that you may have", 'write ["--gpus", "1"]', WARNING)
    elif "--gpus" not in line and not data.get("dockerComposeFile"):
        yield Problem(f"{where}: GPU", "none", "asks for no GPU", 'for one add "runArgs": ["--gpus", "1"]', WARNING)


def me() -> str:
    """Return the caller's numbers as `containerUser` has them."""
    return f"{os.getuid()}:{os.getgid()}"


def wrong_user(data: dict[str, Any]) -> tuple[str, str] | None:
    """Return who a container would run as and what is wrong with that; None for somebody who may."""
    user = str(data.get("containerUser") or data.get("remoteUser") or "root")
    number = user.partition(":")[0]
    if user == "root" and not data.get("dockerComposeFile"):
        return user, "what it makes in your files is root's"
    if number.isascii() and number.isdecimal() and int(number) != os.getuid():
        return user, "somebody else's number"
    return None


def _user(data: dict[str, Any], where: str) -> Iterator[Problem]:
    if (wrong := wrong_user(data)) is not None:
        yield Problem(f"{where}: user", *wrong, f'write "containerUser": "{me()}"', WARNING)


def _mounts(data: dict[str, Any], where: str, project: Path) -> Iterator[Problem]:
    for mount in data.get("mounts") or []:
        parts = dict(part.partition("=")[::2] for part in mount.split(",")) if isinstance(mount, str) else mount
        source = str(parts.get("source") or parts.get("src") or "") if isinstance(parts, dict) else ""
        source = source.replace("${localWorkspaceFolder}", str(project)).replace("${localEnv:HOME}", str(own_home()))
        if source.startswith("/") and "${" not in source and not Path(source).exists():
            yield Problem(f"{where}: mounts", source, "a directory that is there", "make it with `mkdir -p`")
