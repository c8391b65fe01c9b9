"""How commands ask: root looks itself, everybody else asks the gateway; the same question and the same answer."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

import click

from ds01.api.errors import BAD, ApiError
from ds01.cli.output import say_json
from ds01.policy import DEFAULT_PATH
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ds01.api.call import Asker
    from ds01.api.desk import Desk

P = ParamSpec("P")
HOST_LEDGER = "/var/lib/ds01/ledger.db"

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON; times in UTC milliseconds, memory in bytes, null = none or unknown."
)


class Ask(Protocol):
    """Asks a resource of `ds01.api.resources`. Raises ApiError."""

    def __call__(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the answer."""


def ledger_options(command: Callable[P, Any]) -> Callable[P, Any]:
    """Add the options that say which policy and which ledger."""
    command = click.option(
        "--ledger", "ledger_path", default=HOST_LEDGER, show_default=True, metavar="FILE", help="The ledger to use."
    )(command)
    return click.option(
        "--policy", "policy_path", default=DEFAULT_PATH, show_default=True, metavar="FILE", help="The policy to read."
    )(command)


def asks(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that asks; it gets `ask`, and what is refused is said here."""

    @json_option
    @ledger_options
    @wraps(command)
    def with_ask(*arguments: Any, as_json: bool, policy_path: str, ledger_path: str, **options: Any) -> Any:
        try:
            return command(*arguments, ask=asker(policy_path, ledger_path), as_json=as_json, **options)
        except ApiError as error:
            return say_refused(error, as_json=as_json)

    return with_ask


def asker(policy_path: str, ledger_path: str) -> Ask:
    """Return what answers: the ledger itself for root and for files of one's own, the gateway for everybody else."""
    if ledger_path == HOST_LEDGER and os.geteuid() != 0:
        if policy_path != DEFAULT_PATH:
            raise click.UsageError("--policy: only root may look at the ledger of this host with another policy")
        from ds01.cli import client  # noqa: PLC0415 - root needs none

        return client.ask
    return _local(policy_path, ledger_path)


def _local(policy_path: str, ledger_path: str) -> Ask:
    def ask(
        method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        from ds01.api import resources  # noqa: PLC0415 - others ask the gateway

        with opened(policy_path, ledger_path) as desk:
            return resources.answer(desk, root(), method, path.split("/"), query=query, body=body)

    return ask


def root() -> Asker:
    """Return whoever has this process: with the ledger in their hands they are an administrator."""
    from ds01.api.call import Asker  # noqa: PLC0415 - as above
    from ds01.cli.person import caller  # noqa: PLC0415 - as above

    user, uid = os.environ.get("SUDO_USER"), os.environ.get("SUDO_UID", "")
    if user and uid.isdecimal():
        return Asker(int(uid), user, admin=True, via="sudo")
    return Asker(os.getuid(), caller(), admin=True, via="command")


def check_root(ledger_path: str) -> None:
    """Raise ReportedError for somebody who may not use a ledger."""
    if ledger_path == HOST_LEDGER and os.geteuid() != 0:
        raise ReportedError("only root may use the ledger of this host: run the command with sudo")


@contextmanager
def opened(policy_path: str, ledger_path: str) -> Iterator[Desk]:
    """Open the ledger with the limits of a policy. Raises ReportedError."""
    check_root(ledger_path)
    from ds01.api.desk import Desk  # noqa: PLC0415 - help texts need no ledger
    from ds01.engine.api import Engine  # noqa: PLC0415 - as above
    from ds01.ledger import Ledger  # noqa: PLC0415 - as above
    from ds01.policy.cache import load_tables  # noqa: PLC0415 - as above

    tables = load_tables(policy_path)
    with Ledger(Path(ledger_path)) as ledger:
        # The engine works by the ledger of the host, and by no other.
        yield Desk(tables, ledger, specs=ledger_path == HOST_LEDGER, engine=Engine())


def say_refused(error: ApiError, *, as_json: bool) -> int:
    """Say why not, and what to do; returns the exit code. Raises click.UsageError for a question that is none."""
    data = error.data
    if as_json:
        say_json({"refused": data})
        return error.exit_code
    if error.status == BAD:
        raise click.UsageError(str(error))
    kind = data.get("kind")
    click.echo(f"refused ({kind}): {data['message']}" if kind else f"error: {data['message']}", err=True)
    if data.get("limit") is not None:
        now = "" if data["current"] is None else f"now {data['current']}, "
        click.echo(f"  rule: {data['rule']}: {now}asked for {data['requested']}, limit {data['limit']}", err=True)
    if data.get("who"):
        click.echo(f"  who can help: {data['who']}", err=True)
    if data.get("frees_at") is not None:
        from ds01.allocator.answers import instant  # noqa: PLC0415 - only for refusals

        click.echo(f"  frees up at the latest: {instant(data['frees_at'])}", err=True)
    if data.get("fix"):
        click.echo(f"  fix: {data['fix']}", err=True)
    return error.exit_code
