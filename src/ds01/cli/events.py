"""`ds01 events`: read the audit trail."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from ds01 import events as log
from ds01.api.errors import ApiError
from ds01.cli.asking import say_refused
from ds01.cli.output import OK, columns, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_S = 0.5


@click.command()
@click.argument("words", nargs=-1, metavar="[why CONTAINER|ID]")
@click.option("-f", "--follow", is_flag=True, help="Wait for new events; the past only with --since.")
@click.option("--user", metavar="USER", help="Only what this person did, or what was done to them or their things.")
@click.option("--container", metavar="NAME", help="Only about this container.")
@click.option("--gpu", metavar="DEVICE", help="Only about this device, as the events name it: 0:1 or a UUID.")
@click.option("--type", "kind", type=click.Choice(log.EVENT_TYPES), metavar="TYPE", help="Only this type of event.")
@click.option("--since", metavar="WHEN", help="Only what is not older: 30m, 2h, 7d, 2026-01-31. Default: 7d.")
@click.option("--until", metavar="WHEN", help="Only what is older, written as for --since.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they are in the log.")
@click.pass_context
def events(
    context: click.Context,
    /,
    words: tuple[str, ...],
    *,
    follow: bool,
    as_json: bool,
    kind: str | None,
    **conditions: str | None,
) -> int:
    """Show what happened: who did what, what was decided, and why.

    Members see what concerns themselves, administrators everything. With `why` it explains one container or event, as
    `ds01 why` does.
    """
    if words:
        return _why(context, words, as_json=as_json)
    wanted = {"type": kind, **conditions}
    query = {name: value for name, value in wanted.items() if value is not None}
    try:
        # Whoever may read the log needs nobody to read it to them.
        lines = _local(query, follow=follow) if os.access(log.EVENTS_FILE, os.R_OK) else _asked(query, follow=follow)
        for line in lines:
            click.echo(line.decode("ascii", "replace").rstrip("\n") if as_json else shown(json.loads(line)))
    except ApiError as error:
        return say_refused(error, as_json=as_json)
    return OK


def _why(context: click.Context, words: tuple[str, ...], *, as_json: bool) -> int:
    from ds01.cli.why import why  # noqa: PLC0415 - most calls explain nothing

    word, *what = words
    if word != "why" or len(what) != 1:
        fix = "write `why` and one container or id, or an option: `--container NAME` filters"
        raise click.UsageError(f"{' '.join(words)}: {fix}")
    code: int = context.invoke(why, what=what[0], as_json=as_json)
    return code


def _local(query: dict[str, str], *, follow: bool) -> Iterator[bytes]:
    from ds01.api import history, trail  # noqa: PLC0415 - others ask the gateway
    from ds01.api.call import Call  # noqa: PLC0415 - as above
    from ds01.cli.asking import root  # noqa: PLC0415 - as above

    wanted = history.wanted_by(Call(root(), query=query), history.tokens_of_host)
    for line in trail.lines(None if follow and "since" not in query else wanted.since):
        if line is None:
            if not follow:
                return
            time.sleep(_POLL_S)
        elif wanted.read(line) is not None:
            yield line


def _asked(query: dict[str, str], *, follow: bool) -> Iterator[bytes]:
    from ds01.cli import client  # noqa: PLC0415 - root needs none

    if follow:
        yield from client.follow_events(query)
        return
    answer = client.ask("GET", "events", query)
    if answer["more"]:
        click.echo(f"note: only the newest {len(answer['events'])} are shown: narrow it down with --since", err=True)
    for event in answer["events"]:
        yield json.dumps(event, separators=(",", ":")).encode()


def shown(event: dict[str, Any]) -> str:
    """Return an event as it is printed: in lines that the terminal has room for, else in one, for grep."""
    text = event_text(event)
    if (room := columns()) is None:
        return text
    from textwrap import fill  # noqa: PLC0415 - only for terminals

    return fill(text, room, subsequent_indent="    ", break_on_hyphens=False)


def event_text(event: dict[str, Any]) -> str:
    """Return an event as one line for people, with the names that whoever reads it types."""
    from ds01.api.desk import short  # noqa: PLC0415 - help texts need no log
    from ds01.api.trail import part  # noqa: PLC0415 - as above

    actor, subject = part(event, "actor"), part(event, "subject")
    name = subject.get("name")
    parts = [
        event.get("ts"),
        event.get("id"),
        event.get("type"),
        event.get("decision"),
        actor.get("user") or actor.get("uid"),
        subject.get("kind"),
        short(None if name is None else str(name), os.getuid()),
        subject.get("gpu"),
        event.get("reason"),
    ]
    return plain("  ".join(str(part) for part in parts if part is not None))
