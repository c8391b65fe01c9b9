"""The dashboard as lines of text, with colours as terminals know them; what they say is also said without colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click

from ds01.cli.limits import use_of
from ds01.cli.output import columns, listing, plain

_GIB: Final = 1 << 30
_MINUTE: Final = 60
_UNSEEN: Final = float("-inf")
"""What is not known comes first, and last in the other direction: never between values."""
SHOWS: Final = ("all", "yours", "free")
_BUSY_FROM: Final = 50
"""Percent from which a device stands out as busy."""


@dataclass
class View:
    """What somebody chose to see."""

    sort: str = "device"
    reverse: bool = False
    show: str = SHOWS[0]
    text: str = ""


def body(data: dict[str, Any], view: View, width: int | None = None) -> list[str]:
    """Return the lines.

    Args:
        data: What `collect` returned.
        view: What of it, and in which order.
        width: How wide lines may be; None: as wide as the terminal, without a limit where there is none.
    """
    width = width or columns()
    sections = [_head(data), _devices(data, view, width)]
    for title, heading, rows in (_queue(data), _reserved(data), _slices(data)):
        found = [row for row in rows if _wanted(row, view.text)]
        if found:
            sections.append(["", _bold(title), *listing([heading, *found], width).splitlines()])
    lines = [line for section in sections for line in section]
    return lines if width is None else [_fit(line, width) for line in lines]


def _head(data: dict[str, Any]) -> list[str]:
    you, devices = data["you"], data["devices"]
    held = sum(device["holder"] is not None for device in devices)
    moment = datetime.fromtimestamp(data["at"] / 1000, UTC).strftime("%a %d %b %H:%M:%S UTC")
    waiting = len(data["queue"])
    quotas = [
        f"{use_of(*you['quotas'][name])[0]} {what}"
        for name, what in (("max_mig_instances", "GPU devices"), ("max_containers_per_user", "containers"))
    ]
    use = f"{held} of {len(devices)} GPU devices held, {waiting or 'nobody'} wait{'' if waiting > 1 else 's'}"
    lines = [
        f"{_bold(plain(data['host']))}  {moment}  {plain(you['user'])}, group {plain(you['group'])}",
        use,
        f"you (*) have {', '.join(quotas)}",
    ]
    monitor = data["monitor"]
    if monitor["at"] is None:
        age = monitor["age_s"]
        when = "has not looked since the boot" if age is None else f"looked {_ago(age)} ago for the last time"
        lines.append(click.style(f"the monitor {when}: use is not known", fg="yellow"))
    lines += [click.style(f"note: {plain(problem)}", fg="yellow") for problem in monitor["problems"]]
    return [*lines, ""]


def _devices(data: dict[str, Any], view: View, width: int | None) -> list[str]:
    you, at = data["you"]["user"], data["at"]
    chosen = [device for device in data["devices"] if _shown(device, view.show, you)]
    key = SORTS[view.sort]
    chosen.sort(key=key, reverse=view.reverse)
    rows = [row for row in (_device(device, you, at) for device in chosen) if _wanted(row, view.text)]
    heading = ["DEVICE", "PROFILE", "HOLDER", "CONTAINER", "UNTIL", "BUSY", "MEMORY"]
    if not data["devices"]:
        return ["this server has no GPU that DS01 knows of"]
    lines = listing([heading, *rows], width).splitlines() if rows else ["no such device"]
    return [*lines, *(line for device in data["devices"] for line in _odd(device))]


def _odd(device: dict[str, Any]) -> Iterator[str]:
    """Say in full what is wrong with a device: a cell has no room for it."""
    if device["state"] != "ok":
        yield click.style(
            f"{device['id']} is {device['state']}: {plain(device['reason'] or 'no reason known')}", fg="red"
        )
    if device["used_without_lease_by"]:
        yield click.style(f"{device['id']} is used by {plain(device['used_without_lease_by'])}", fg="yellow")


def _shown(device: dict[str, Any], show: str, you: str) -> bool:
    holder = device["holder"]
    if show == "yours":
        return holder is not None and holder["user"] == you
    return show != "free" or (holder is None and device["state"] == "ok" and not device["used_without_lease_by"])


def _device(device: dict[str, Any], you: str, now: int) -> list[str]:
    holder, mine = device["holder"], False
    container, until = "-", "-"
    if holder is not None:
        mine = holder["user"] == you
        who = plain(holder["user"])
        container = plain(holder["container"] or "-")
        container += "" if holder["lease"] == "running" else f" ({holder['lease']})"
        until = "-" if holder["until"] is None else moment_text(holder["until"], now)
    elif device["used_without_lease_by"]:
        who = click.style("no lease", fg="yellow")
    else:
        who = click.style("free", fg="green")
    if device["state"] != "ok":
        who = click.style(f"{device['state']}, {who}" if holder else device["state"], fg="red")
    name = f"*{device['id']}" if mine else device["id"]
    cells = [name, device["profile"], who, container, until]
    return [*([_bold(cell) for cell in cells] if mine else cells), _busy(device), _memory(device)]


def _busy(device: dict[str, Any]) -> str:
    if device["busy"] is None:
        return "n/a" if (device["busy_source"] or "").endswith("unsupported") else "?"
    text = f"{device['busy']:.0f}%"
    return click.style(text, fg="cyan") if device["busy"] >= _BUSY_FROM else text


def _memory(device: dict[str, Any]) -> str:
    used = "?" if device["memory_used"] is None else f"{device['memory_used'] / _GIB:.1f}"
    total = device["memory_total"] or device["memory_bytes"]
    return f"{used}/{total / _GIB:.0f} GiB" if total else f"{used} GiB"


def _queue(data: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = [
        [str(one["position"]), _mine(one["user"], data), plain(one["request"]), moment_text(one["since"], data["at"]),
         moment_text(one["expected"], data["at"])]
        for one in data["queue"]
    ]  # fmt: skip
    return "Waiting", ["PLACE", "USER", "REQUEST", "SINCE", "EXPECTED BY"], rows


def _reserved(data: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    rows = [
        [", ".join(one["devices"]) or "not chosen yet",
         _mine(one["user"], data) if one["user"] else f"group {one['group']}",
         moment_text(one["starts"], data["at"]), moment_text(one["ends"], data["at"])]
        for one in data["reservations"]
    ]  # fmt: skip
    return "Reserved", ["DEVICES", "FOR", "FROM", "TO"], rows


def _slices(data: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    people = sorted(data["people"], key=lambda one: -(one["memory"] or 0))
    rows = [
        [_mine(one["user"], data), plain(one["group"]), _of(one["cpus"], one["cpus_max"]),
         _of(one["memory"], one["memory_max"], _GIB, " GiB"), _of(one["tasks"], one["tasks_max"])]
        for one in people
    ]  # fmt: skip
    return "Slices", ["USER", "GROUP", "CPUS", "MEMORY", "TASKS"], rows


def _of(used: float | None, most: float | None, unit: int = 1, name: str = "") -> str:
    now = "?" if used is None else f"{used / unit:.1f}".removesuffix(".0")
    return f"{now} of {most / unit:g}{name}" if most is not None else f"{now}{name}, no limit"


def _mine(user: str, data: dict[str, Any]) -> str:
    return _bold(f"*{plain(user)}") if user == data["you"]["user"] else plain(user)


def _wanted(row: Sequence[str], text: str) -> bool:
    return text.lower() in " ".join(map(click.unstyle, row)).lower()


def moment_text(moment: int | None, now: int) -> str:
    """Return a time in UTC, as short as it can be understood at a moment."""
    if moment is None:
        return "unknown"
    then, today = (datetime.fromtimestamp(value / 1000, UTC) for value in (moment, now))
    if then.date() == today.date():
        return f"{then:%H:%M}"
    return f"{then:%d %b %H:%M}" if abs((then - today).days) < 300 else f"{then:%Y-%m-%d}"  # noqa: PLR2004 - ambiguous


def _ago(seconds: int) -> str:
    return f"{seconds // _MINUTE} min" if seconds >= _MINUTE else f"{seconds} s"


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _fit(line: str, width: int) -> str:
    text = click.unstyle(line)
    return line if len(text) <= width else f"{text[: width - 1]}~"


def _number(*names: str) -> Callable[[dict[str, Any]], Any]:
    def value(device: dict[str, Any]) -> Any:
        found: Any = device
        for name in names:
            found = None if found is None else found[name]
        return _UNSEEN if found is None else found

    return value


SORTS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "device": lambda device: tuple(map(int, device["id"].split(":"))),
    "holder": lambda device: (device["holder"] or {}).get("user") or "",
    "until": _number("holder", "until"),
    "busy": _number("busy"),
    "memory": _number("memory_used"),
}


def following(names: Iterable[str], current: str) -> str:
    """Return the name after the current one, the first after the last."""
    known = list(names)
    return known[(known.index(current) + 1) % len(known)]
