"""`ds01 enforce`: make this host keep to its policy; the timers run these."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from ds01.cli.output import FAILED, OK, say_json
from ds01.problems import ReportedError

_dry_run = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")


class _ByRoot(click.Command):
    """A command whose help everybody may read; half of what it looks at is closed to everybody but root."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it. Raises ReportedError."""
        if os.geteuid() != 0:
            raise ReportedError("only root may make this host keep to its policy: run the command with sudo")
        return super().invoke(ctx)


class _Jobs(click.Group):
    command_class = _ByRoot


@click.group(cls=_Jobs)
def enforce() -> None:
    """Make this host keep to its policy. Safe to run at any time, and twice."""


@enforce.command()
@_dry_run
@_json
def slices(*, dry_run: bool, as_json: bool) -> int:
    """Make slices and logins what the policy says.

    Unit files and the kernel, which is asked afterwards. Exit code 1 when the policy cannot be used or the kernel did
    not take a limit.
    """
    from ds01.enforce.policy import read_policy  # noqa: PLC0415 - the validator, which jobs of each minute do without
    from ds01.enforce.slices import enforce_slices  # noqa: PLC0415 - the other jobs need none of it

    now = datetime.now(UTC)
    loaded = read_policy(now, dry_run=dry_run)
    outcome = enforce_slices(loaded, now, granted=_granted(), dry_run=dry_run, prove=not dry_run)
    return _say(outcome.changes, outcome.problems, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def expiry(*, dry_run: bool, as_json: bool) -> int:
    """End overrides and exemptions whose last day is over.

    Then does what `enforce slices` does. People are told in the last days of their override.
    """
    from ds01.enforce.expiry import report_expired, tell_of_ends  # noqa: PLC0415 - the other jobs need none of it
    from ds01.enforce.policy import read_policy  # noqa: PLC0415 - the validator, which jobs of each minute do without
    from ds01.enforce.slices import enforce_slices  # noqa: PLC0415 - the other jobs need none of it
    from ds01.ledger import LEDGER, LedgerMissingError  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    loaded = read_policy(now, dry_run=dry_run)
    ended = [str(item) for item in report_expired(loaded.policy, now, dry_run=dry_run)]
    outcome = enforce_slices(loaded, now, granted=_granted(), dry_run=dry_run, prove=False)
    try:
        ended += tell_of_ends(loaded.policy, now, LEDGER, dry_run=dry_run)
    except LedgerMissingError as error:
        click.echo(f"nobody is told: {error}", err=True)
    return _say(outcome.changes, outcome.problems, ended, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def grants(*, dry_run: bool, as_json: bool) -> int:
    """Open and close the GPUs of the host as granted.

    Who has no grant any more is closed out: what of theirs still uses a GPU outside containers is asked to end, and
    killed half a minute later.
    """
    from ds01.enforce.grants import enforce_grants  # noqa: PLC0415 - the other jobs need none of it
    from ds01.ledger import LEDGER, LedgerMissingError  # noqa: PLC0415 - as above
    from ds01.policy import DEFAULT_PATH  # noqa: PLC0415 - as above
    from ds01.policy.cache import load_tables  # noqa: PLC0415 - as above
    from ds01.slices.desired import LoginSpec  # noqa: PLC0415 - as above

    try:
        outcome = enforce_grants(LoginSpec.from_dict(load_tables(DEFAULT_PATH)["logins"]), LEDGER, dry_run=dry_run)
    except LedgerMissingError as error:
        click.echo(f"nothing done: {error}", err=True)
        return OK
    return _say(outcome.changes, outcome.problems, as_json=as_json)


def _granted() -> Collection[int] | None:
    from ds01.enforce.grants import granted_now  # noqa: PLC0415 - as above
    from ds01.ledger import LEDGER  # noqa: PLC0415 - as above

    return granted_now(LEDGER)


@enforce.command()
@click.option("--follow", is_flag=True, help="Go on: again whenever the engine says that something happened.")
@_dry_run
@_json
def reconcile(*, follow: bool, dry_run: bool, as_json: bool) -> int:
    """Make the ledger what is running. Nothing is ever stopped.

    It corrects who holds and who uses which GPU, and writes the CDI specs of all leases. A ledger that is missing or
    damaged is set aside and made anew first. Exit code 1 when two use one device.
    """
    from ds01.enforce import ledger  # noqa: PLC0415 - the other jobs need none of it

    if follow:
        if dry_run or as_json:
            raise click.UsageError("--follow goes with nothing else: leave out --dry-run and --json")
        ledger.follow()
        return OK
    outcome = ledger.compare(dry_run=dry_run)
    return _say(outcome.lines, outcome.problems, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def idle(*, dry_run: bool, as_json: bool) -> int:
    """Stop containers that leave their GPU idle, after warnings.

    After `idle_timeout`, by what the monitor saw. What it could not see counts for nobody's harm.
    """
    return _lifecycle("idle", dry_run=dry_run, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def runtime(*, dry_run: bool, as_json: bool) -> int:
    """End containers whose `max_runtime` is over.

    All runs of a container count together.
    """
    return _lifecycle("runtime", dry_run=dry_run, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def cleanup(*, dry_run: bool, as_json: bool) -> int:
    """Remove containers that nobody started again.

    After `container_hold_after_stop`, and `created_container_timeout` if they were never started. Volumes stay.
    """
    return _lifecycle("cleanup", dry_run=dry_run, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def lifecycle(*, dry_run: bool, as_json: bool) -> int:
    """Do what `idle`, `runtime` and `cleanup` do, in one pass.

    What keeps one of them from its work keeps no other from theirs.
    """
    return _lifecycle("lifecycle", dry_run=dry_run, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def disk(*, dry_run: bool, as_json: bool) -> int:
    """Measure what everybody has on the disk.

    Containers, volumes and images. Who comes near `storage.docker` is told; beyond it nothing new is made for them.
    Nothing is stopped or removed.
    """
    from ds01.ledger import LedgerMissingError  # noqa: PLC0415 - the other jobs need none of it
    from ds01.lifecycle.disk import account  # noqa: PLC0415 - as above

    try:
        outcome = account(dry_run=dry_run)
    except LedgerMissingError as error:
        click.echo(f"nothing done: {error}", err=True)
        return OK
    return _say(outcome.lines, outcome.problems, as_json=as_json)


@enforce.command()
@_dry_run
@_json
def notices(*, dry_run: bool, as_json: bool) -> int:
    """Bring people what they are to be told.

    Warnings, what was stopped and why, limits that are nearly reached; to administrators what failed. Exit code 1 when
    a mail server or Teams does not take it: it is tried again for a day.
    """
    from ds01.ledger import LedgerMissingError  # noqa: PLC0415 - the other jobs need none of it
    from ds01.notify import dispatch  # noqa: PLC0415 - as above

    try:
        outcome = dispatch.run(dry_run=dry_run)
    except LedgerMissingError as error:
        # Until what keeps the ledger has made one.
        click.echo(f"nothing done: {error}", err=True)
        return OK
    return _say(outcome.lines, outcome.problems, as_json=as_json)


@enforce.command("ledger-backup")
@_json
def ledger_backup(*, as_json: bool) -> int:
    """Make a copy of the ledger; the last seven are kept."""
    from ds01.enforce import ledger  # noqa: PLC0415 - as above
    from ds01.ledger import LedgerMissingError  # noqa: PLC0415 - as above

    try:
        made = ledger.copy()
    except LedgerMissingError as error:
        # Until what keeps the ledger has made one.
        click.echo(f"nothing done: {error}", err=True)
        return OK
    return _say([f"copied to {made}"], [], as_json=as_json)


@enforce.command()
@_json
def cdi(*, as_json: bool) -> int:
    """Write the CDI specs of all GPU leases.

    Runs at boot, before the engine starts containers. A claim whose device is gone gets none and is named; its
    container asks for another device when it is started.
    """
    from ds01.enforce import ledger  # noqa: PLC0415 - as above

    return _say(ledger.write_specs(), [], as_json=as_json)


def _lifecycle(job: str, *, dry_run: bool, as_json: bool) -> int:
    from ds01.ledger import LedgerMissingError  # noqa: PLC0415 - the other jobs need none of it
    from ds01.lifecycle import passes  # noqa: PLC0415 - as above

    jobs = {"idle": passes.idle, "runtime": passes.runtime, "cleanup": passes.cleanup, "lifecycle": passes.everything}
    try:
        outcome = jobs[job](dry_run=dry_run)
    except (LedgerMissingError, FileNotFoundError) as error:
        # Before the first look, and until what keeps the ledger has made a new one: nothing is known, nothing is due.
        click.echo(f"nothing done: {error}", err=True)
        return OK
    return _say(outcome.lines, outcome.problems, as_json=as_json)


def _say(changes: Sequence[str], problems: Sequence[str], ended: Sequence[str] = (), *, as_json: bool) -> int:
    if as_json:
        say_json({"ended": list(ended), "changes": list(changes), "problems": list(problems)})
    else:
        for line in (*ended, *changes):
            click.echo(line)
        for line in problems:
            click.echo(f"error: {line}", err=True)
    return FAILED if problems else OK
