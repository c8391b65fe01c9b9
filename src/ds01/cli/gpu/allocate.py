"""`ds01 gpu allocate` and `ds01 gpu why`: give devices to somebody, or say what they would get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ds01.api.errors import ApiError
from ds01.cli.asking import asks, dry_run_option, say_refused
from ds01.cli.gpu.options import request_options
from ds01.cli.output import OK, say_json
from ds01.cli.values import duration

if TYPE_CHECKING:
    from ds01.allocator.request import Request
    from ds01.cli.asking import Ask


@click.command()
@click.argument("user", required=False)
@request_options
@click.option("--wait", metavar="TIME", help="Stand in the queue at most this long when nothing is free, like 2h.")
@click.option("--token", help="Ask again for a claim without getting more.")
@dry_run_option
@asks
def allocate(
    user: str | None,
    *,
    request: Request,
    wait: str | None,
    token: str | None,
    dry_run: bool,
    ask: Ask,
    as_json: bool,
) -> int:
    """Give GPU devices to USER for a container that is made next.

    Without USER, to yourself. The grant ends after five minutes if no container came for it. Exit code 3: refused by
    the policy, 4: nothing free.
    """
    question = {
        "user": user,
        "request": request.as_dict(),
        "wait_s": None if wait is None else duration(wait, "--wait"),
        "token": token,
        "dry_run": dry_run,
    }
    answer = ask("POST", "leases", body={key: value for key, value in question.items() if value is not None})
    if as_json:
        say_json(answer)
    else:
        click.echo(answer_text(answer))
    return OK


@click.command()
@click.argument("user", required=False)
@request_options
@asks
def why(user: str | None, *, request: Request, ask: Ask, as_json: bool) -> int:
    """Say what USER would get now, or why not.

    Without USER, what you would get. Gives nothing. Shows for each device that could serve what keeps it from the
    person.
    """
    body = {"request": request.as_dict()} | ({} if user is None else {"user": user})
    answer = ask("POST", "gpus/why", body=body)
    # It is refused to nobody yet: only the exit code says so.
    refused = None if answer["refused"] is None else ApiError(0, answer["refused"])
    if as_json:
        say_json(answer)
        return OK if refused is None else refused.exit_code
    click.echo(f"{answer['user']} (group {answer['group']}) asks for {answer['request']}:")
    for device, obstacle in answer["devices"].items():
        click.echo(f"  {device}: {obstacle or 'free'}")
    if refused is not None:
        return say_refused(refused, as_json=False)
    click.echo(f"would get {', '.join(answer['would_get']) or 'no GPU'}")
    return OK


def answer_text(answer: dict[str, Any]) -> str:
    """Return what the allocator gave, for people."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - help texts need no allocator

    if "queued" in answer:
        text = (
            f"waits: number {answer['queued']}, place {answer['position']}, expected by {instant(answer['expected'])}"
        )
        return f"{text}\n  {answer['why']}"
    text = ", ".join(f"{device['id']} ({device['profile']})" for device in answer["devices"]) or "no GPU"
    text += f"\n  token {answer['token']}, until {instant(answer['expires'])}" if answer["token"] else ""
    return text + (f"\n  {answer['note']}" if answer["note"] else "")
