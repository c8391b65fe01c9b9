"""`ds01 who`: who uses which GPU, in containers and outside of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks
from ds01.cli.output import OK, listing, plain, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask

_GIB = 1 << 30


@click.command()
@asks
def who(*, ask: Ask, as_json: bool) -> int:
    """Show who uses which GPU, also outside of containers.

    Processes and logins of others only administrators see; `?` is what you may not see, or nobody knows.
    """
    from ds01.cli.dashboard import data  # noqa: PLC0415 - help texts need none of it

    found, admin = data.collect(ask), bool(ask("GET", "me")["admin"])
    people, outside = _people(found, admin=admin), _outside(found)
    if as_json:
        say_json({"people": people, "outside": outside})
        return OK
    from ds01.cli.dashboard.screen import moment_text  # noqa: PLC0415 - as above

    rows = [["USER", "GROUP", "HOLDS", "UNTIL", "PROCESSES", "GPU MEMORY", "LOGINS"]]
    for one in people:
        memory = "?" if one["gpu_memory"] is None else f"{one['gpu_memory'] / _GIB:.1f} GiB"
        until = "-" if one["until"] is None else moment_text(one["until"], found["at"])
        held = ", ".join(one["devices"]) or "-"
        counts = ["?" if one[name] is None else str(one[name]) for name in ("processes", "logins")]
        rows.append([plain(one["user"]), plain(one["group"] or "-"), held, until, counts[0], memory, counts[1]])
    click.echo(listing(rows) if people else "nobody uses a GPU")
    for process in outside:
        whose = plain(process["user"] or process["kind"])
        click.echo(
            f"{process['device']}: process {process['pid']} ({plain(process['name'])}) of {whose}, in no container"
        )
    if found["monitor"]["at"] is None:
        click.echo("note: the monitor does not look: processes are not known", err=True)
    return OK


def _people(found: dict[str, Any], *, admin: bool) -> list[dict[str, Any]]:
    """Return everybody who holds a device or has a process on one, by name."""
    people: dict[str, dict[str, Any]] = {}

    def person(user: str) -> dict[str, Any]:
        known = found["monitor"]["at"] is not None and (admin or user == found["you"]["user"])
        zero = 0 if known else None
        logins = found["logins"].get(user, 0) if known else None
        empty: dict[str, Any] = {"user": user, "group": None, "devices": [], "until": None}
        empty |= {"processes": zero, "gpu_memory": zero, "logins": logins}
        return people.setdefault(user, empty)

    for device in found["devices"]:
        if (holder := device["holder"]) is not None:
            one = person(holder["user"])
            one["group"] = holder["group"]
            one["devices"].append(device["id"])
            one["until"] = max(filter(None, (one["until"], holder["until"])), default=None)
        for process in _processes(device):
            if process["user"] is None:
                continue
            one = person(process["user"])
            one["processes"] = (one["processes"] or 0) + 1
            # One amount that is not known makes the sum unknown.
            sums = (one["gpu_memory"], process["memory"])
            one["gpu_memory"] = None if None in sums else sum(sums)
    return sorted(people.values(), key=lambda one: one["user"])


def _outside(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"device": device["id"], **{name: process[name] for name in ("pid", "name", "user", "kind", "memory")}}
        for device in found["devices"] for process in _processes(device) if process["container"] is None
    ]  # fmt: skip


def _processes(device: dict[str, Any]) -> list[dict[str, Any]]:
    return (device["processes"] or {}).get("listed") or []
