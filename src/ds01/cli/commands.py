"""`ds01 commands`: what there is to type."""

from __future__ import annotations

import click

from ds01.cli.output import NOT_FOUND, OK, listing, say_json
from ds01.problems import shown

FOR_ADMINISTRATORS = frozenset({"enforce", "exemption", "mig", "policy", "reservation", "simulate", "stop-all"})


@click.command()
@click.argument("text", required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Also those for administrators and programs.")
@click.option("--json", "as_json", is_flag=True, help="JSON: each with its words, other names and what it does.")
def commands(text: str | None, *, everything: bool, as_json: bool) -> int:
    """List the commands; with TEXT those that have to do with it."""
    from ds01.cli.tree import entries  # noqa: PLC0415 - it imports every command

    found = [
        {"command": " ".join(("ds01", *entry.words)), "names": list(entry.names), "does": entry.summary}
        for entry in entries()
        if not isinstance(entry.command, click.Group)
        and (everything or as_json or entry.words[0] not in FOR_ADMINISTRATORS)
    ]
    if text is not None:
        found = [one for one in found if text.lower() in f"{one['command']} {one['names']} {one['does']}".lower()]
    if as_json:
        say_json(found)
    if not found:
        click.echo(f"error: {shown(text)}: no command has to do with it: `commands --all` lists them", err=True)
    if as_json or not found:
        return OK if found else NOT_FOUND
    rows = [[one["names"][0] if one["names"] else str(one["command"]), str(one["does"])] for one in found]
    click.echo(listing([["COMMAND", "WHAT IT DOES"], *rows]))
    click.echo(
        "\n`container create` is the same as `container-create`. Each explains itself: --help, and --guided teaches."
    )
    return OK
