"""`container list` and `container stats`: which containers there are, and what they use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import click

from ds01.cli.container.naming import IMAGE_LABEL
from ds01.cli.container.options import json_option
from ds01.cli.container.own import complete, inspected, name_of
from ds01.cli.engine import Engine, EngineError
from ds01.cli.guide import guided
from ds01.cli.output import OK, listing, plain, say_json
from ds01.policy.units import rounded_size
from ds01.problems import shown

_FILTERS: Final = {"name": "name", "status": "status", "image": "ancestor", "label": "label", "id": "id"}
"""Ours -> the engine's."""
_RUNNING: Final = frozenset({"running", "paused", "restarting"})
_SAMPLES_AT_ONCE: Final = 8
_BAD: Final = 400
"""HTTP: it cannot be asked like this."""

filter_option = click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE",
    help=f"Only those that match: {', '.join(sorted(_FILTERS))}.",
)  # fmt: skip


@click.command("list")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not run.")
@filter_option
@json_option
@guided(
    """These are your containers; nobody else sees them, and you see nobody else's. Without --all only those that
    run.""",
    following="`container attach NAME` opens a shell in one",
)
def listed(*, everything: bool, filters: tuple[str, ...], as_json: bool) -> int:
    """List containers."""
    rows = [_row(found) for found in _found(Engine(), filters, everything=True)]
    # Who asks for a status means it, whatever runs.
    everything = everything or any(entry.startswith("status=") for entry in filters)
    there = [row for row in rows if everything or row["state"] in _RUNNING]
    if as_json:
        say_json(there)
        return OK
    if there:
        heading = ["NAME", "STATE", "IMAGE", "GPU", "SINCE"]
        lines = [[row["name"], row["state"], row["image"], row["gpu"] or "-", row["status"]] for row in there]
        click.echo(listing([heading, *lines]))
    else:
        click.echo("no containers" if everything else "no running containers")
    if hidden := len(rows) - len(there):
        click.echo(f"{hidden} more that {'does' if hidden == 1 else 'do'} not run: `container list --all`", err=True)
    return OK


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete)
@filter_option
@json_option
@guided(
    """CPU is in percent of one core, so 400 % are four busy cores. Memory counts towards your limit; at the limit the
    kernel ends the largest program. How busy the GPU is says `nvidia-smi` in the container.""",
    following="`container stop NAME` for what is idle",
)
def stats(*, names: tuple[str, ...], filters: tuple[str, ...], as_json: bool) -> int:
    """Show what running containers use now."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - only here

    engine = Engine()
    if names and filters:
        raise click.UsageError("name containers, or give --filter")
    if names:
        names = tuple(dict.fromkeys(names))
        for name in names:
            inspected(engine, name)
    else:
        rows = _found(engine, filters, everything=False)
        names = tuple(sorted(name_of(row) for row in rows if row["State"] in _RUNNING))

    def sample(name: str) -> dict[str, Any]:
        # The engine looks twice, a second apart: all at the same time.
        return engine.ask("GET", "containers", name, "stats", query={"stream": "0"}) or {}

    with ThreadPoolExecutor(_SAMPLES_AT_ONCE) as pool:
        used = [_used(name, found) for name, found in zip(names, pool.map(sample, names), strict=True)]
    if as_json:
        say_json(used)
    elif not used:
        click.echo("no running containers")
    else:
        click.echo(listing([["NAME", "CPU", "MEMORY", "LIMIT", "PROCESSES", "READ", "WRITTEN"], *map(_cells, used)]))
    return OK


def _found(engine: Engine, filters: Sequence[str], *, everything: bool) -> list[dict[str, Any]]:
    wanted: dict[str, list[str]] = {}
    for entry in filters:
        key, equals, value = entry.partition("=")
        if not equals or key not in _FILTERS:
            known = ", ".join(sorted(_FILTERS))
            raise click.UsageError(f"--filter: {shown(entry)}: write KEY=VALUE with a key of {known}")
        wanted.setdefault(_FILTERS[key], []).append(value)
    query = {"all": "1" if everything else "0", "filters": json.dumps(wanted)}
    try:
        return engine.ask("GET", "containers", "json", query=query) or []
    except EngineError as error:
        if filters and error.status == _BAD:
            # Which values a key may have is the engine's to say.
            raise click.UsageError(f"--filter: {', '.join(map(shown, filters))}: {error}") from error
        raise


def _row(found: dict[str, Any]) -> dict[str, Any]:
    labels = found.get("Labels") or {}
    return {
        "name": plain(name_of(found)),
        "id": found["Id"],
        "state": found["State"],
        "status": found["Status"],
        "image": plain(labels.get(IMAGE_LABEL) or found["Image"]),
        "gpu": _gpu(labels),
        "created": found["Created"] * 1000,
    }


def _gpu(labels: dict[str, str]) -> str:
    """Return what was asked for, in short; "" for none. Which device it is changes and is no label."""
    asked = dict(word.partition("=")[::2] for word in labels.get("ds01.gpu.request", "").split(" ") if "=" in word)
    if not asked:
        return ""
    what = asked.get("profile") or ("full" if asked.get("full") else "GPU")
    devices = asked.get("devices")
    return plain(devices or f"{asked.get('count', '1')} {what}")


def _used(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return one sample; None is what the engine did not say."""
    memory = found.get("memory_stats") or {}
    usage = memory.get("usage")
    if usage is not None:
        # What can be given back at any time is not counted, as the docker command does not.
        usage -= (memory.get("stats") or {}).get("inactive_file", 0)
    blocks = (found.get("blkio_stats") or {}).get("io_service_bytes_recursive")
    return {
        "name": name,
        "cpu_percent": _cpu(found),
        "memory_bytes": usage,
        "memory_limit_bytes": memory.get("limit"),
        "processes": (found.get("pids_stats") or {}).get("current"),
        "read_bytes": _blocks(blocks, "read"),
        "written_bytes": _blocks(blocks, "write"),
    }


def _cpu(found: dict[str, Any]) -> float | None:
    now, before = found.get("cpu_stats") or {}, found.get("precpu_stats") or {}
    try:
        busy = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
        host = now["system_cpu_usage"] - before["system_cpu_usage"]
        return round(100 * busy / host * now["online_cpus"], 1) if host > 0 else None
    except KeyError:
        return None


def _blocks(entries: list[dict[str, Any]] | None, what: str) -> int | None:
    if entries is None:
        return None
    return sum(int(entry.get("value", 0)) for entry in entries if str(entry.get("op")).lower() == what)


def _cells(used: dict[str, Any]) -> list[str]:
    def size(key: str) -> str:
        value = used[key]
        return "unknown" if value is None else rounded_size(value)

    cpu, processes = used["cpu_percent"], used["processes"]
    return [
        used["name"], "unknown" if cpu is None else f"{cpu:.1f} %", size("memory_bytes"), size("memory_limit_bytes"),
        "unknown" if processes is None else str(processes), size("read_bytes"), size("written_bytes"),
    ]  # fmt: skip
