"""`ds01 grant`: who may use the GPUs of the host itself, outside containers, for how long and why."""

from __future__ import annotations

import pwd
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks
from ds01.cli.output import NOT_FOUND, OK, plain, say_json, table
from ds01.cli.values import duration

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.group()
def grant() -> None:
    """Let people use the GPUs outside containers, for a time."""


@grant.command("bare-metal")
@click.argument("user")
@click.argument("time", required=False, metavar="[TIME]")
@click.option("--reason", required=True, help="Why; it is kept, and the person sees it.")
@asks
def bare_metal(user: str, time: str | None, *, reason: str, ask: Ask, as_json: bool) -> int:
    """Open the GPUs of the host to USER for TIME, like 2h.

    For administrators. Also in sessions that run, without logging out; it takes the place of an earlier grant. Without
    TIME it is `bare_metal.default_grant_duration`. They can use every GPU, also one that somebody holds: drain or
    reserve the one that is meant.
    """
    body: dict[str, Any] = {"user": user, "reason": reason}
    found = ask("POST", "grants", body=body if time is None else body | {"seconds": duration(time, "TIME")})
    if as_json:
        say_json(found)
        return OK
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    text = f"grant {found['id']}: {user} may use the GPUs of the host until {instant(found['expires'])}"
    click.echo(plain(f"{text}, {_when(found)}"))
    return OK


@grant.command("list")
@click.option("--past", is_flag=True, help="Also those that are over.")
@asks
def list_grants(*, past: bool, ask: Ask, as_json: bool) -> int:
    """List the grants that count now."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - as above

    found = ask("GET", "grants", {"past": "1"} if past else {})
    if as_json:
        say_json(found)
        return OK
    rows = [["NUMBER", "USER", "FOR", "UNTIL", "BY", "REASON"]]
    rows += [
        [str(one["id"]), one["user"], one["kind"], instant(one["ended"] or one["expires"]), one["approved_by"],
         plain(one["reason"])]
        for one in found
    ]  # fmt: skip
    click.echo(table(rows, indent="") if found else "nobody has a grant")
    return OK


@grant.command()
@click.argument("user")
@asks
def revoke(user: str, *, ask: Ask, as_json: bool) -> int:
    """Take the grant of USER away before its time.

    For administrators. The GPUs are closed at once; what of theirs uses one outside containers is asked to end, and
    killed half a minute later.
    """
    numbers = [one["id"] for one in ask("GET", "grants") if one["user"] in {user, _name(user)}]
    if not numbers:
        click.echo(f"error: {user} has no grant: `ds01 grant list` shows who has", err=True)
        return NOT_FOUND
    found = [ask("DELETE", f"grants/{number}") for number in numbers]
    if as_json:
        say_json(found)
    else:
        click.echo(plain(f"the GPUs of the host are closed to {user}, {_when(found[-1])}"))
    return OK


def _name(user: str) -> str:
    """Return what the name services call somebody who has several names."""
    try:
        return pwd.getpwuid(pwd.getpwnam(user).pw_uid).pw_name
    except KeyError:
        return user


def _when(found: dict[str, Any]) -> str:
    return "from now on" if found["at_once"] else "within a minute: the job ds01-enforce-grants could not be started"
