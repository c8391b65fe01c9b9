"""`ds01 why`: explain a refusal, a stop, a container."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks
from ds01.cli.container.own import complete, named
from ds01.cli.output import OK, plain, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask

_EVENT_ID = re.compile(r"[0-9a-f]{16}")
_BARE_METAL = "bare-metal"


@click.command()
@click.argument("what", metavar="CONTAINER|ID|bare-metal", shell_complete=complete)
@asks
def why(what: str, *, ask: Ask, as_json: bool) -> int:
    """Say why a container was stopped or refused.

    Also says which GPUs it holds. ID is that of an event: `ds01 events` shows it second. `bare-metal` says whether you
    may use the GPUs outside containers. Exit code 5 when nothing is known of it.
    """
    if what == _BARE_METAL:
        host = ask("GET", "usage")["bare_metal"]
        if as_json:
            say_json(host)
        else:
            from ds01.cli.limits import host_gpus  # noqa: PLC0415 - only here

            click.echo(f"GPUs outside containers: {host_gpus(host)}")
        return OK
    if _EVENT_ID.fullmatch(what):
        event = ask("GET", f"events/{what}")
        if as_json:
            say_json(event)
        else:
            click.echo(_event_text(event))
        return OK
    found = ask("GET", f"containers/{named(what)}/why")
    if as_json:
        say_json(found)
        return OK
    click.echo(plain(found["container"]))
    if found["gpu"] is not None:
        click.echo(_gpu_text(found["gpu"]))
    if found["lifecycle"] is not None:
        click.echo(_life_text(found["lifecycle"]))
    for event in found["events"]:
        click.echo(_event_text(event))
    return OK


def _life_text(life: dict[str, Any]) -> str:
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator
    from ds01.lifecycle.rules import span  # noqa: PLC0415 - as above

    if life["ended"] is not None:
        ended = life["ended"]
        return plain(f"  ended at {instant(ended['at'])} by {ended['rule']}: {ended['reason']}")
    limits = life.get("limits") or {}

    def of(length: int, rule: str) -> str:
        limit = limits.get(rule)
        exempt = (life.get("exempt") or {}).get(rule)
        most = "no limit" if limit is None else f"of {span(limit * 1000)}"
        return f"{span(length * 1000)} ({f'exempt: {exempt}' if exempt else most})"

    text = f"  ran {of(life['ran_s'], 'max_runtime')}; idle {of(life['idle_s'], 'idle_timeout')}"
    kept = "" if life["kept_until"] is None else f"; kept until {instant(life['kept_until'])}"
    return plain(text + kept)


def _gpu_text(gpu: dict[str, Any]) -> str:
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    held = [
        f"{one['device']} ({one['lease']}{'' if one['until'] is None else ', until ' + instant(one['until'])})"
        for one in gpu["holds"]
    ]
    return f"  asked for {gpu['asked_for']}; holds {', '.join(held) or 'no GPU now'}"


def _event_text(event: dict[str, Any]) -> str:
    from ds01.api.trail import part  # noqa: PLC0415 - help texts need no log

    actor = part(event, "actor")
    reason = f": {event['reason']}" if event.get("reason") else ""
    lines = [f"{event.get('ts')}  {event.get('type')}: {event.get('decision')}{reason}"]
    who = actor.get("user") or actor.get("uid")
    lines += [f"  by {who} ({actor.get('via')})"] if who is not None else []
    lines += [f"  rule: {event['rule']}"] if event.get("rule") else []
    lines += [f"  fix: {event['fix']}"] if event.get("fix") else []
    return "\n".join(map(plain, lines))
