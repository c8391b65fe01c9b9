"""Options that say what a container shall be, and the plan that they make."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

import click
from click.core import ParameterSource

from ds01.cli.container.naming import checked
from ds01.cli.container.person import myself
from ds01.cli.container.plan import Gpus, Mount, Plan, mounted
from ds01.cli.image.place import complete, reference
from ds01.cli.project.place import workspace as projects
from ds01.cli.values import duration, path, size
from ds01.problems import shown

_COUNT: Final = re.compile(r"[0-9]{1,3}")
_PROFILE: Final = re.compile(r"[1-7]g\.[0-9]{1,3}gb(\+me)?")
_PORT: Final = re.compile(r"(?:(?P<host>[0-9]{1,5}):)?(?P<port>[0-9]{1,5})")
_PORTS: Final = range(1, 65_536)
_GPUS_MAX: Final = 64

json_option = click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")


_WISHES: Final = {
    "gpu": click.option("--gpu", "--num-gpus", "gpu", default="1", show_default=True, metavar="N",
                        help="GPUs: a number, all, or a MIG profile like 2g.20gb."),
    "cpu_only": click.option("--cpu-only", is_flag=True, help="No GPU; never waits for one."),
    "profile": click.option("--profile", default="", metavar="PROFILE", help="Only MIG instances like 2g.20gb."),
    "min_memory": click.option("--min-memory", default="", metavar="SIZE",
                               help="At least this much GPU memory each, like 20g."),
    "prefer_full": click.option("--prefer-full", is_flag=True, help="A full GPU if I may have one and one is free."),
    "wait": click.option("--wait", default="", metavar="TIME",
                         help="Wait in the queue this long if none is free, like 2h."),
    "data": click.option("-d", "--data", metavar="DIR", help="What is at /data."),
    "models": click.option("-m", "--models", metavar="DIR", help="What is at /models."),
    "publish": click.option("-p", "--publish", multiple=True, metavar="[HOST:]PORT",
                            help="Reach a port on this server."),
    "env": click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable in the container."),
}  # fmt: skip
"""Parameter -> its option."""


def wish_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that describe a container, whatever it is called and made from."""
    for option in reversed(_WISHES.values()):
        command = option(command)
    return command


def wished(
    *, gpu: str, cpu_only: bool, profile: str, min_memory: str, prefer_full: bool, wait: str, data: str | None,
    models: str | None, publish: tuple[str, ...], env: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Return what these options say of a plan. Raises click.UsageError."""
    return {
        "data": _directory(data, "/data", "--data"),
        "models": _directory(models, "/models", "--models"),
        "gpus": gpus(gpu, profile, min_memory, cpu_only=cpu_only, full=prefer_full),
        "wait": _wait(wait, cpu_only=cpu_only),
        "environment": tuple(_variable(entry) for entry in env),
        "ports": tuple(_port(entry) for entry in publish),
    }


def typed(wishes: Mapping[str, Any]) -> list[str]:
    """Return those options of the running command that were given, as they are typed."""
    context = click.get_current_context()
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        if name not in wishes or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        option = next(option for option in parameter.opts if option.startswith("--"))
        value = wishes[name]
        if value is True:
            words.append(option)
        else:
            words += [word for one in (value if isinstance(value, tuple) else (value,)) for word in (option, str(one))]
    return words


def described(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options that describe a container; it gets `plan_for`: name and image -> plan."""

    @wish_options
    @click.option("-w", "--workspace", metavar="DIR", help="What is at /workspace.  [default: ~/workspace]")
    @click.option("--project", metavar="NAME", help="Short for --workspace ~/workspace/NAME.")
    @wraps(command)
    def planned(*arguments: Any, workspace: str | None, project: str | None, **options: Any) -> Any:
        wishes = {name: options.pop(name) for name in _WISHES}

        def plan_for(name: str, image: str) -> Plan:
            return Plan(
                name=checked(name),
                image=reference(image, "IMAGE"),
                person=myself(),
                workspace=_workspace(workspace, project),
                project=project or "",
                **wished(**wishes),
            )

        return command(*arguments, plan_for=plan_for, **options)

    return planned


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command NAME, IMAGE and the options that describe a container; it gets `plan`."""

    @click.argument("name", required=False)
    @click.argument("image", required=False, shell_complete=complete)
    @described
    @wraps(command)
    def planned(
        *arguments: Any, name: str | None, image: str | None, plan_for: Callable[[str, str], Plan], **options: Any
    ) -> Any:
        if name is None:
            name = _ask_name()
        return command(*arguments, plan=plan_for(name, name.lower() if image is None else image), **options)

    return planned


def volume(entry: str) -> Mount:
    """Return what `docker run -v DIR:DIR[:ro]` mounts. Raises click.UsageError."""
    source, _, rest = entry.partition(":")
    target, _, mode = rest.partition(":")
    if not target.startswith("/") or mode not in {"", "ro", "rw"}:
        raise click.UsageError(f"--volume: {shown(entry)}: write DIR:DIR, or DIR:DIR:ro for reading only")
    found = _existing(source, target, "--volume")
    return Mount(found.source, target, found.writable and mode != "ro")


def _ask_name() -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"NAME is missing: `{click.get_current_context().command_path} NAME [IMAGE]`")
    return str(click.prompt("Name of the container", value_proc=checked, err=True))


def gpus(gpu: str, profile: str = "", memory: str = "", *, cpu_only: bool, full: bool = False) -> Gpus:
    """Return the GPUs that options ask for. Raises click.UsageError."""
    if cpu_only:
        if profile or memory or full or gpu != "1":
            raise click.UsageError("--cpu-only: leave out --gpu, --profile, --min-memory and --prefer-full, or this")
        return Gpus(0)
    if _PROFILE.fullmatch(gpu):
        if profile:
            raise click.UsageError(f"--gpu {gpu}: a profile already: leave out --profile, or give --gpu a number")
        gpu, profile = "1", gpu
    if gpu != "all" and not (_COUNT.fullmatch(gpu) and int(gpu) <= _GPUS_MAX):
        raise click.UsageError(f"--gpu: {shown(gpu)}: write a number, all, or a MIG profile like 2g.20gb")
    if profile and not _PROFILE.fullmatch(profile):
        raise click.UsageError(f"--profile: {shown(profile)}: write a MIG profile like 1g.10gb or 2g.20gb")
    if profile and full:
        raise click.UsageError(f"--prefer-full and the profile {profile}: ask for one of them")
    if memory:
        size(memory, "--min-memory")
    return Gpus(None if gpu == "all" else int(gpu), profile, memory, full)


def _wait(wait: str, *, cpu_only: bool) -> str:
    if not wait:
        return ""
    if cpu_only:
        raise click.UsageError("--wait is for GPUs: leave it out with --cpu-only")
    duration(wait, "--wait")
    return wait


def _workspace(directory: str | None, project: str | None) -> Mount:
    if directory is not None and project is not None:
        raise click.UsageError("--workspace and --project: give one of them")
    if directory is not None:
        return _existing(directory, "/workspace", "--workspace")
    place = projects()
    if project is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", project):
            raise click.UsageError(f"--project: {shown(project)}: the name of a directory in {place}")
        return _existing(str(place / project), "/workspace", "--project")
    # Not by the engine, to which it would belong.
    return Mount(str(place), "/workspace")


def _directory(directory: str | None, target: str, option: str) -> Mount | None:
    return _existing(directory, target, option) if directory is not None else None


def _existing(directory: str, target: str, option: str) -> Mount:
    place = path(directory, option)
    if not place.is_dir():
        raise click.UsageError(f"{option}: {shown(directory)}: no such directory: make it with `mkdir -p`")
    if ":" in str(place):
        raise click.UsageError(f"{option}: {shown(directory)}: a colon cannot be in the name of a mounted directory")
    return mounted(str(place), target)


def _variable(entry: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", entry, re.DOTALL):
        raise click.UsageError(f"--env: {shown(entry)}: write NAME=VALUE")
    return entry


def _port(entry: str) -> tuple[str, str]:
    match = _PORT.fullmatch(entry)
    if match is None or not all(int(port) in _PORTS for port in match.groups() if port):
        raise click.UsageError(f"--publish: {shown(entry)}: write a port like 8888, or 18888:8888")
    return match["host"] or "", match["port"]
