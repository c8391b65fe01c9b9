"""`ds01 gpu status` and `user-status`: who holds what, until when, and who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks
from ds01.cli.limits import use_of
from ds01.cli.output import OK, listing, plain, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@asks
def status(*, ask: Ask, as_json: bool) -> int:
    """Show who holds which device, who waits, what is reserved."""
    found = ask("GET", "status")
    if as_json:
        say_json(found)
    else:
        click.echo(status_text(found))
    return OK


def status_text(found: dict[str, Any]) -> str:
    """Return who holds what, for people."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    rows = [["DEVICE", "PROFILE", "STATE", "HOLDER", "CONTAINER", "LEASE", "UNTIL"]]
    lines = [listing(rows + [_row(device) for device in found["devices"]])]
    for entry in found["queue"]:
        who = f"waiting {entry['position']}: {entry['user']}, {entry['request']}"
        lines.append(f"{who}, expected by {instant(entry['expected'])}")
    for entry in found["reservations"]:
        devices = ", ".join(entry["devices"]) or "not chosen yet"
        whose = entry["user"] or f"group {entry['group']}"
        lines.append(f"reserved: {devices} for {whose}, {instant(entry['starts'])} to {instant(entry['ends'])}")
    return "\n".join(lines)


def _row(device: dict[str, Any]) -> list[str]:
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    state = device["state"] + (f" ({device['reason']})" if device["reason"] else "")
    holder = device["holder"]
    if holder is None:
        return [device["id"], device["profile"], state, plain(device["used_without_lease_by"] or "-"), "-", "-", "-"]
    until = "-" if holder["until"] is None else instant(holder["until"])
    return [device["id"], device["profile"], state, holder["user"], holder["container"] or "-", holder["lease"], until]


@click.command("user-status")
@click.argument("user", required=False)
@asks
def user_status(user: str | None, *, ask: Ask, as_json: bool) -> int:
    """Show what USER holds and may still have; without USER, you."""
    data = ask("GET", "usage", query={} if user is None else {"user": user})
    if as_json:
        say_json(data)
        return OK
    click.echo(f"{data['user']}: group {data['group']}")
    for name, (held, limit) in data["quotas"].items():
        click.echo(f"  {name}: {use_of(held, limit, size=name.startswith('storage.'))[0]}")
    click.echo(f"  full GPUs: {'yes' if data['allow_full_gpu'] else 'no'}")
    click.echo(f"  GPU-hours that count for the queue: {data['recent_gpu_hours']}")
    for held in data["devices"]:
        whose = held["holder"]["container"] or f"no container yet, token {held['holder']['token']}"
        click.echo(f"  holds {held['id']} ({held['profile']}): {whose}")
    return OK
