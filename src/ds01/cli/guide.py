"""`--guided`: what a command does, the caller's own limits before it, and the next step after it."""

from __future__ import annotations

import textwrap
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from ds01.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN: Final = (
    ("max_gpu_equivalents", "GPU share in total (1 = a whole GPU)"),
    ("max_gpus_per_container", "GPUs in one container"),
    ("max_cpus", "CPUs of a container"),
    ("memory", "memory of a container"),
    ("max_containers_per_user", "containers"),
    ("idle_timeout", "stopped when idle for"),
    ("max_runtime", "stopped after"),
    ("container_hold_after_stop", "removed when stopped for"),
)
_WIDTH: Final = 78
_HELP: Final = "Explain what happens, my limits, and the next step."


def guided(explanation: str, *, following: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--guided` to a command.

    Args:
        explanation: What it does and what that means, for somebody who does it the first time.
        following: What to do next; `{name}` is the container or image that the command was about.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        return click.option("--guided", is_flag=True, help=_HELP)(_explained(command, explanation, following))

    return decorate


def teach(command: click.Command) -> click.Command:
    """Add `--guided` to a command that has none of its own, and to all that are below it; its help explains it."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            teach(one)
    elif command.callback is not None and all(one.name != "guided" for one in command.params):
        command.params.append(click.Option(["--guided"], is_flag=True, help=_HELP))
        command.callback = _explained(command.callback, command.help or "", "")
    return command


def _explained(command: Callable[..., Any], explanation: str, following: str) -> Callable[..., Any]:
    @wraps(command)
    def explained(*arguments: Any, guided: bool, **options: Any) -> Any:
        if not guided:
            return command(*arguments, **options)
        from ds01.cli.standing import standing  # noqa: PLC0415 - most calls explain nothing

        # What is explained is for people; standard output may be read by a program.
        click.echo(f"{_filled(explanation)}\n\nYour limits:\n{_limits()}\n{standing().text}\n", err=True)
        result = command(*arguments, **options)
        if not result:
            following_text = following.format(name=_about(options))
            click.echo("\n" + (f"Next: {following_text}\n" if following else "") + standing().advice, err=True)
        return result

    return explained


def _about(options: dict[str, Any]) -> str:
    if (plan := options.get("plan")) is not None:
        return str(plan.name)
    return str(options.get("name") or next(iter(options.get("names") or ()), "NAME"))


def _filled(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), _WIDTH) for part in text.split("\n\n"))


def _limits() -> str:
    import grp  # noqa: PLC0415 - most calls explain nothing
    import os  # noqa: PLC0415 - as above
    from datetime import UTC, datetime  # noqa: PLC0415 - as above

    from ds01.cli.limits import show_value  # noqa: PLC0415 - as above
    from ds01.cli.person import caller  # noqa: PLC0415 - as above
    from ds01.policy import DEFAULT_PATH  # noqa: PLC0415 - as above
    from ds01.policy.cache import load_tables  # noqa: PLC0415 - as above
    from ds01.policy.resolver import resolve  # noqa: PLC0415 - as above
    from ds01.problems import ReportedError  # noqa: PLC0415 - as above

    groups = []
    for gid in os.getgroups():
        try:
            groups.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    try:
        tables = load_tables(DEFAULT_PATH)
        resolved = resolve(tables, caller(), datetime.now(UTC), groups)
    except (OSError, ReportedError) as error:
        return f"  not known here ({error})"
    rows = [(text, show_value(resolved.values[key], tables["kinds"][key])) for key, text in _SHOWN]
    return table([("group", str(resolved.group)), *rows])
