"""`ds01 mig`: how the GPUs are divided, and how they shall be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.output import FAILED, NOT_FOUND, NOTHING_FREE, OK, say_json, say_problems
from ds01.enforce.promised import Promised
from ds01.gpu.nvml import NvmlError, Session
from ds01.mig import apply as engine
from ds01.mig import parted, saved
from ds01.mig.model import Plan, Verdict
from ds01.mig.observe import NOBODY, observe
from ds01.mig.report import lines
from ds01.mig.wanted import Wanted, from_policy

if TYPE_CHECKING:
    from ds01.mig.model import GpuState

_config = click.option(
    "--config", metavar="FILE", help="A configuration file of mig-parted instead of the policy of this host."
)
_name = click.option("--name", help="Which configuration of the file; may be left out if there is one.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")


@click.group()
def mig() -> None:
    """Divide GPUs into MIG instances as the policy says.

    What somebody uses is never touched: such a GPU waits, and you are told who uses it.
    """


@mig.command()
@_config
@_name
@_json
def plan(config: str | None, name: str | None, *, as_json: bool) -> int:
    """Show what `apply` would do. Changes nothing."""
    with _nvml() as session:
        found = engine.preview(session, _ask(config, name), Promised())
    return _say_plan(found, as_json=as_json)


@mig.command()
@_config
@_name
@click.option("--saved", "from_saved", is_flag=True, help="The layout of the last `apply`, as after a reboot.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_json
def apply(config: str | None, name: str | None, *, from_saved: bool, dry_run: bool, as_json: bool) -> int:
    """Divide the GPUs as wanted, where nobody is in the way.

    May be interrupted: run it again and it completes. Exit code 4: some GPUs wait for their users, or for a reboot.
    """
    if from_saved and config:
        raise click.UsageError("--saved and --config: choose one of them")
    ask = _ask_saved() if from_saved else _ask(config, name)
    # What comes back at a boot is what the leases are for; a ledger that needs repair must not keep it away.
    leases = NOBODY if from_saved else Promised()
    with _nvml() as session:
        found = engine.preview(session, ask, leases)
        if dry_run or engine.refusals(found):
            return _say_plan(found, as_json=as_json)
        outcome = engine.change(session, ask, leases=leases, via="ds01 mig")
    if as_json:
        say_json(outcome.as_dict())
    else:
        click.echo("\n".join(lines(outcome.plan)))
        for old, new in outcome.moved.items():
            click.echo(f"{old} is now {new}")
        click.echo(_closing(outcome))
        for where, text in outcome.failures.items():
            click.echo(f"error: {where}: {text}", err=True)
    if outcome.failures:
        return FAILED
    return OK if outcome.after.done else NOTHING_FREE


@mig.command(name="assert")
@_config
@_name
@_json
def assert_(config: str | None, name: str | None, *, as_json: bool) -> int:
    """Exit with 0 if the GPUs are as wanted, else with 1."""
    with _nvml() as session:
        found = engine.preview(session, _ask(config, name))
    code = _say_plan(found, as_json=as_json)
    return code or (OK if found.done else FAILED)


@mig.command()
@click.option("--name", default="current", show_default=True, help="How the configuration is called.")
def export(name: str) -> None:
    """Print how the GPUs are divided, in the format of mig-parted."""
    with _nvml() as session:
        click.echo(parted.write(observe(session), name), nl=False)


def _closing(outcome: engine.Outcome) -> str:
    """Return the last sentence."""
    if outcome.after.having(Verdict.RESET):
        return "Some GPUs wait for a reset or a reboot; the rest follows by itself then."
    if waiting := outcome.after.having(Verdict.WAITS):
        names = ", ".join(gpu.state.name for gpu in waiting)
        return f"Done, but for what is in use: {names}. Run it again when that is free."
    return "Done." if outcome.changed else "Nothing had to be changed."


@contextmanager
def _nvml() -> Iterator[Session]:
    if os.geteuid() != 0:
        raise click.ClickException("only root may see and change how GPUs are divided: use sudo, or `ds01 gpu list`")
    try:
        with Session() as session:
            yield session
    except NvmlError as error:
        raise click.ClickException(f"{error}: {error.fix}".removesuffix(": ")) from error


def _ask(config: str | None, name: str | None) -> Callable[[Sequence[GpuState]], Wanted]:
    if config:
        return lambda states: parted.read(config, name, states)
    if name:
        raise click.UsageError("--name: belongs to --config")
    from ds01.policy import DEFAULT_PATH, load_policy  # noqa: PLC0415 - a file of mig-parted needs none

    allocation: dict[str, Any] = load_policy(DEFAULT_PATH).policy.gpu_allocation.model_dump(mode="json")
    return lambda states: from_policy(allocation, states)


def _ask_saved() -> Callable[[Sequence[GpuState]], Wanted]:
    layouts = saved.load()
    return lambda states: saved.wanted(layouts, states)


def _say_plan(found: Plan, *, as_json: bool) -> int:
    problems = engine.refusals(found)
    if as_json:
        say_json(found.as_dict())
    else:
        click.echo("\n".join(lines(found)))
        say_problems(problems)
    if found.missing and not found.unreadable:
        return NOT_FOUND
    return FAILED if problems else OK
