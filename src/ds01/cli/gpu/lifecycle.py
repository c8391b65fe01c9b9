"""`ds01 gpu release`, `mark-stopped` and `clear-stopped`: what happens to the devices of one container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import asks, dry_run_option, json_option, ledger_options, opened, say_refused
from ds01.cli.container.own import named
from ds01.cli.gpu.allocate import answer_text
from ds01.cli.output import OK, say_json

if TYPE_CHECKING:
    from ds01.cli.asking import Ask


@click.command()
@click.argument("name", metavar="CONTAINER")
@click.option("--reason", help="Why; its owner sees it.")
@dry_run_option
@asks
def release(name: str, *, reason: str | None, dry_run: bool, ask: Ask, as_json: bool) -> int:
    """Give back the devices of CONTAINER, which must not run.

    CONTAINER is a name, an id or the token of a claim. Yours, unless you are an administrator.
    """
    query = ({} if reason is None else {"reason": reason}) | ({"dry_run": "1"} if dry_run else {})
    answer = ask("DELETE", f"leases/{named(name)}", query=query)
    return _say(answer, "would be released" if dry_run else "released", as_json=as_json)


@click.command("mark-stopped")
@click.argument("name", metavar="CONTAINER")
@dry_run_option
@json_option
@ledger_options
def mark_stopped(name: str, *, dry_run: bool, as_json: bool, policy_path: str, ledger_path: str) -> int:
    """Note that CONTAINER stopped.

    Its devices are held as the policy says (`gpu_hold_after_stop`). DS01 does this by itself when the engine says so;
    this is for when it did not.
    """
    from ds01.allocator.picture import device_names  # noqa: PLC0415 - help texts need no allocator
    from ds01.api.changes import ended_data  # noqa: PLC0415 - as above

    with opened(policy_path, ledger_path) as desk:
        with desk.ledger.read() as view:
            token, names = desk.token(view, name), device_names(view)
        changed = desk.allocator.stop(token, "marked as stopped by an administrator", dry_run=dry_run)
    return _say(ended_data(changed, names), "would stop" if dry_run else "stopped", as_json=as_json)


@click.command("clear-stopped")
@click.argument("name", metavar="CONTAINER")
@dry_run_option
@json_option
@ledger_options
def clear_stopped(name: str, *, dry_run: bool, as_json: bool, policy_path: str, ledger_path: str) -> int:
    """Note that CONTAINER runs again, with what it may have now."""
    from ds01.allocator.model import Refusal  # noqa: PLC0415 - help texts need no allocator
    from ds01.api.changes import answer_data  # noqa: PLC0415 - as above
    from ds01.api.errors import refused  # noqa: PLC0415 - as above

    with opened(policy_path, ledger_path) as desk:
        with desk.ledger.read() as view:
            token = desk.token(view, name)
        answer = desk.allocator.start(token, dry_run=dry_run)
    if isinstance(answer, Refusal):
        return say_refused(refused(answer), as_json=as_json)
    data = answer_data(answer)
    if as_json:
        say_json(data)
    else:
        click.echo(answer_text(data))
    return OK


def _say(leases: list[dict[str, Any]], what: str, *, as_json: bool) -> int:
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    if as_json:
        say_json(leases)
        return OK
    for lease in leases:
        kept = f", kept until {instant(lease['hold_until'])}" if lease["hold_until"] else ""
        kept = kept or (", kept until it is removed" if lease["state"] == "held" else "")
        click.echo(f"{what}: {lease['device']}{kept}")
    if not leases:
        click.echo("nothing to do: it holds no device that way")
    return OK
