"""`ds01 exemption`: for whom a lifecycle rule does not count, until when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01.cli.asking import asks
from ds01.cli.output import OK, plain, say_json, table
from ds01.cli.values import duration

if TYPE_CHECKING:
    from ds01.cli.asking import Ask

_RULES = ("idle_timeout", "max_runtime", "container_hold_after_stop")


@click.group()
def exemption() -> None:
    """Let a lifecycle rule not count for somebody, for a time."""


@exemption.command()
@click.argument("user")
@click.option("--rule", type=click.Choice(_RULES), required=True, help="The rule that does not count.")
@click.option("--for", "time", metavar="TIME", required=True, help="For how long, like 8h or 7d.")
@click.option("--reason", required=True, help="Why; it is kept.")
@click.option("--container", metavar="NAME", help="Only for this container; otherwise for all of the person.")
@asks
def add(user: str, *, rule: str, time: str, reason: str, container: str | None, ask: Ask, as_json: bool) -> int:
    """Exempt USER from a rule.

    For administrators. What lasts for a semester belongs into the policy.
    """
    body = {"user": user, "rule": rule, "seconds": duration(time, "--for"), "reason": reason}
    found = ask("POST", "exemptions", body=body if container is None else body | {"container": container})
    if as_json:
        say_json(found)
    else:
        click.echo(f"exemption {found['id']}: {user}: {rule} does not count for {time}")
    return OK


@exemption.command("list")
@click.option("--past", is_flag=True, help="Also those that are over.")
@asks
def list_exemptions(*, past: bool, ask: Ask, as_json: bool) -> int:
    """List the exemptions that count now."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    found = ask("GET", "exemptions", {"past": "1"} if past else {})
    if as_json:
        say_json(found)
        return OK
    rows = [["NUMBER", "USER", "RULE", "CONTAINER", "UNTIL", "BY", "REASON"]]
    for one in found:
        until = instant(one["ended"] or one["expires"]) if one["ended"] or one["expires"] else "no end"
        name = (one["container"] or "all")[:12]
        rows.append([str(one["id"]), one["user"], one["rule"], name, until, one["approved_by"], plain(one["reason"])])
    click.echo(table(rows, indent="") if found else "nobody is exempt by command; the policy may exempt people")
    return OK


@exemption.command()
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@asks
def end(number: int, *, ask: Ask, as_json: bool) -> int:
    """End exemption NUMBER before its time."""
    found = ask("DELETE", f"exemptions/{number}")
    if as_json:
        say_json(found)
    else:
        click.echo(f"ended: {number}")
    return OK
