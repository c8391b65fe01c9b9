"""`ds01 limits`: what one person may use, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ds01.api.errors import ApiError
from ds01.api.people import limits_data, notes
from ds01.cli.asking import HOST_LEDGER, asker
from ds01.cli.output import say_json, table
from ds01.cli.person import caller, checked
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables
from ds01.policy.nss import unix_groups
from ds01.policy.resolver import resolve
from ds01.policy.units import format_duration, format_number, format_size, rounded_size
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from ds01.policy.resolver import Resolved


@click.command()
@click.argument("user", required=False)
@click.option("--policy", "path", default=DEFAULT_PATH, show_default=True, metavar="FILE", help="The policy to read.")
@click.option("--json", "as_json", is_flag=True, help="JSON; sizes in bytes, durations in seconds, null = unlimited.")
@click.option("--docker-args", is_flag=True, help="Options of docker run that set the limits of one container.")
@click.option("--group", is_flag=True, help="Only the name of the group.")
@click.option("--explain", is_flag=True, help="Say for each limit which part of the policy set it.")
def limits(user: str | None, path: str, *, as_json: bool, docker_args: bool, group: bool, explain: bool) -> None:
    """Show the limits of USER (yourself, if not given).

    Exit code 5 for a name that neither this host nor its policy knows. A policy of --policy is asked about anybody.
    """
    if as_json + docker_args + group > 1:
        raise click.UsageError("choose one of --json, --docker-args and --group")
    if explain and (docker_args or group):
        raise click.UsageError("--explain goes with the list of limits or with --json")
    named = user is not None
    user = caller() if user is None else checked(user)
    tables = load_tables(path)
    resolved = resolve(tables, user, datetime.now(UTC), unix_groups(tables, user))
    if named and path == DEFAULT_PATH and resolved.group_from == "default_group":
        from ds01.api.desk import uid_of  # noqa: PLC0415 - whom the policy names needs no account yet

        uid_of(user)
    for note in notes(resolved):
        click.echo(f"note: {note}", err=True)
    if group:
        click.echo(resolved.group)
    elif docker_args:
        click.echo(_docker_args(resolved))
    elif as_json:
        say_json(limits_data(resolved, explain=explain))
    else:
        click.echo(_text(resolved, tables["kinds"], explain=explain))
        if path == DEFAULT_PATH:
            _say_usage(user)


def _say_usage(user: str) -> None:
    """Say what somebody has of it; the limits are worth showing without that, too."""
    try:
        found = asker(DEFAULT_PATH, HOST_LEDGER)("GET", "usage", query={"user": user})
    except ReportedError as error:
        what = error.data["message"] if isinstance(error, ApiError) else error
        click.echo(f"note: what is in use is not known: {what}", err=True)
        return
    click.echo("in use now:")
    click.echo(
        table(
            [
                [name, *use_of(held, most, size=name.startswith("storage."))]
                for name, (held, most) in found["quotas"].items()
            ]
        )
    )
    for device in found["devices"]:
        click.echo(f"  holds {device['id']} ({device['profile']})")
    click.echo(f"GPUs outside containers: {host_gpus(found['bare_metal'])}")


def host_gpus(found: dict[str, Any]) -> str:
    """Say whether somebody may use the GPUs of the host itself, and why."""
    if not found["open"]:
        return "closed; use them in a container, or ask for a grant"
    if found["by"] == "grant":
        from ds01.allocator.answers import instant  # noqa: PLC0415 - only here

        return f"open by grant {found['grant']}, until {instant(found['until'])}"
    return "open, by bare_metal.close_gpus" if found["by"] == "close_gpus" else "open: administrator, or exempt"


def use_of(held: float | None, most: float | None, *, size: bool = False) -> list[str]:
    """Return what is in use, of how much, and what is left; sizes in bytes."""

    def text(value: float) -> str:
        return rounded_size(int(value)) if size else f"{value:g}"

    if held is None:
        return [f"unknown of {'unlimited' if most is None else text(most)}", "not measured yet"]
    if most is None:
        return [f"{text(held)} of unlimited", ""]
    left = f"{text(max(0, round(most - held, 3)))} left" if held < most else "nothing left"
    return [f"{text(held)} of {text(most)}", left]


def _docker_args(resolved: Resolved) -> str:
    from shlex import join  # noqa: PLC0415 - only here

    from ds01.slices.names import SliceNameError, user_slice  # noqa: PLC0415 - only here

    values = resolved.values
    arguments: list[str] = []
    if values["max_cpus"] is not None:
        arguments += ["--cpus", format_number(values["max_cpus"])]
    if values["memory"] is not None:
        swap = values["memory_swap"]
        arguments += ["--memory", format_size(values["memory"])]
        arguments += ["--memory-swap", "-1" if swap is None else format_size(swap)]
    arguments += ["--shm-size", format_size(values["shm_size"])]
    arguments += ["--pids-limit", "-1" if values["pids_limit"] is None else str(values["pids_limit"])]
    if values["storage.tmp"] is not None:
        arguments += ["--tmpfs", f"/tmp:size={format_size(values['storage.tmp'])}"]  # noqa: S108 - in the container
    try:
        arguments += ["--cgroup-parent", user_slice(resolved.group, str(resolved.user))]
    except SliceNameError as error:
        raise click.UsageError(f"USER: {error}") from error
    return join(arguments)


def _text(resolved: Resolved, kinds: dict[str, str], *, explain: bool) -> str:
    rows = []
    for field, kind in kinds.items():
        row = [field, show_value(resolved.values[field], kind)]
        rows.append([*row, resolved.origins[field]] if explain else row)
    return f"{resolved.user}: group {resolved.group} (by {resolved.group_from})\n{table(rows)}"


def show_value(value: Any, kind: str) -> str:
    """Return a limit as people write it."""
    if value is None:
        return "none" if kind == "duration" else "unlimited"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind == "size":
        return format_size(value)
    return format_duration(value) if kind == "duration" else format_number(value)
