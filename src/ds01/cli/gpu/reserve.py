"""`ds01 gpu reserve`: keep devices for somebody in a window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ds01.api.desk import now_ms
from ds01.cli.asking import asks, dry_run_option
from ds01.cli.output import OK, say_json
from ds01.cli.values import duration

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.argument("devices", nargs=-1)
@click.option("--user", help="For this person.")
@click.option("--group", help="For everybody in this group.")
@click.option("--from", "start", metavar="TIME", help="When it begins, like 2026-12-01T08:00 (UTC); default: now.")
@click.option("--for", "length", metavar="TIME", required=True, help="How long, like 8h or 2d.")
@click.option("--count", type=click.IntRange(1, 4096), help="How many devices, when none are named.  [default: 1]")
@click.option("--reason", help="Why.")
@dry_run_option
@asks
def reserve(
    devices: tuple[str, ...],
    *,
    user: str | None,
    group: str | None,
    start: str | None,
    length: str,
    count: int | None,
    reason: str | None,
    dry_run: bool,
    ask: Ask,
    as_json: bool,
) -> int:
    """Keep DEVICES for a person or a group in a window.

    DEVICES are 0, 0:1 or UUIDs; if none is named, any --count of them. Nobody else gets them in that time. Whoever
    holds one is told before it begins. Only administrators reserve. Exit code 3 when they are taken.
    """
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    if (user is None) == (group is None):
        raise click.UsageError("name either --user or --group")
    starts = now_ms() if start is None else _instant(start)
    question = {
        "user": user,
        "group": group,
        "devices": list(devices),
        "count": count,
        "starts": starts,
        "ends": starts + duration(length, "--for") * 1000,
        "reason": reason,
        "dry_run": dry_run,
    }
    answer = ask("POST", "reservations", body={key: value for key, value in question.items() if value is not None})
    if as_json:
        say_json(answer)
    else:
        verb = "would be reserved" if dry_run else f"reserved, number {answer['number']}"
        window = f"{instant(answer['starts'])} to {instant(answer['ends'])}"
        click.echo(f"{','.join(answer['devices'])} for {answer['for']}: {verb}, {window}")
    return OK


def _instant(text: str) -> int:
    """Return UTC milliseconds of an ISO time; without a zone it is UTC. Raises click.UsageError."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"--from: {text}: write a time like 2026-12-01T08:00 (UTC)") from error
