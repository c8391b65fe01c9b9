"""`ds01 stop-all`: the emergency stop of administrators."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds01.cli.asking import check_root, dry_run_option, ledger_options
from ds01.cli.output import FAILED, NOT_FOUND, OK, REFUSED, plain, say_json, stopped
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from ds01.engine.api import Engine
    from ds01.lifecycle.acts import Act
    from ds01.lifecycle.emergency import Aim, Selection

_USAGE = 2
_REASON_MAX = 200


class _NotRootError(ReportedError):
    exit_code = REFUSED


class _NobodyError(ReportedError):
    exit_code = NOT_FOUND


@click.command("stop-all")
@click.option("--user", metavar="USER", help="The containers of one person.")
@click.option("--gpu", metavar="DEVICE", help="The containers on one device: 0 with all its instances, or 0:1.")
@click.option("--all", "everything", is_flag=True, help="All containers of people.")
@click.option("--reason", default="an emergency", show_default=True, help="Why; the owners read it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@dry_run_option
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON; asks nothing, so give --yes or --dry-run, too.")
@ledger_options
def stop_all(
    *,
    user: str | None,
    gpu: str | None,
    everything: bool,
    reason: str,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    policy_path: str,
    ledger_path: str,
) -> int:
    """Stop the containers of a person, on a GPU, or all.

    For administrators, in an emergency. It says first what would be stopped, and stops it when you type so, or with
    --yes. Programs get the time that the policy gives their type (`sigterm_grace`) and are killed then. Owners are
    told, nothing is removed. What belongs to the system, to nobody, or is in no container is named and left alone.
    """
    if (user is not None) + (gpu is not None) + everything != 1:
        raise click.UsageError("say what: one of --user, --gpu and --all")
    if not reason.strip() or len(reason) > _REASON_MAX or not reason.isprintable():
        raise click.UsageError(f"--reason: one line of 1 to {_REASON_MAX} characters: the owners read it")
    try:
        check_root(ledger_path)
    except ReportedError as error:
        raise _NotRootError(str(error)) from error
    from ds01.lifecycle.passes import Place, opened  # noqa: PLC0415 - help texts need none of it

    place = Place(ledger=Path(ledger_path), policy=Path(policy_path), patience_s=0)
    with opened(place) as (_, ledger, engine, tables):
        with ledger.read() as view:
            found = _selected(view, tables, engine, _aim(user, gpu), reason)
        sure = yes and not dry_run
        if not as_json:
            _say(found, sure=sure)
        if dry_run or not found.acts:
            return _outcome(found, [], done=False, as_json=as_json)
        if not sure and (as_json or not sys.stdin.isatty()):
            click.echo("nothing was stopped: add --yes to do it", err=True)
            return _USAGE
        if not sure and (code := _unconfirmed(len(found.acts))):
            click.echo("nothing was stopped", err=True)
            return code
        from ds01.lifecycle.acts import carry_out  # noqa: PLC0415 - as above

        problems = carry_out(engine, ledger, found.acts, dry_run=False).problems
        running = [act.name for act in found.acts if _runs(engine, act)]
    problems += [f"container {name}: still runs" for name in running]
    code = _outcome(found, problems, done=True, as_json=as_json)
    if not as_json:
        click.echo(f"stopped: {len(found.acts) - len(running)} of {len(found.acts)}")
    return code


def _aim(user: str | None, gpu: str | None) -> Aim:
    from ds01.api.desk import uid_of  # noqa: PLC0415 - as above
    from ds01.api.errors import ApiError  # noqa: PLC0415 - as above
    from ds01.lifecycle.emergency import Aim  # noqa: PLC0415 - as above

    if user is None:
        return Aim(device=gpu)
    try:
        return Aim(uid=uid_of(user))
    except ApiError as error:
        raise _NobodyError(str(error)) from error


def _selected(view: Any, tables: dict[str, Any], engine: Engine, aim: Aim, reason: str) -> Selection:
    from ds01.cli.asking import root  # noqa: PLC0415 - as above
    from ds01.lifecycle.emergency import select  # noqa: PLC0415 - as above

    who = root()
    actor = {"uid": who.uid, "user": who.user, "via": who.via}
    runtime = str(engine.info().get("DefaultRuntime", ""))
    return select(view, tables, engine.containers(), aim, default_runtime=runtime, reason=reason, actor=actor)


def _say(found: Selection, *, sure: bool) -> None:
    for line in found.left:
        click.echo(plain(f"left alone: {line}"))
    for act in found.acts:
        what = "stopping" if sure else "would stop"
        click.echo(plain(f"{what} container {act.name} of {act.user}, killed if it does not end in {act.grace_s} s"))
    if not found.acts:
        click.echo("nothing to stop: no such container runs")


def _unconfirmed(count: int) -> int:
    """Ask for the number: whoever types it has read the list. Returns the exit code of a no, OK for a yes."""
    word = f"stop {count}"
    try:
        said = click.prompt(f'Type "{word}" to do it', default="", show_default=False, err=True)
    except click.Abort as error:
        click.echo(err=True)
        return stopped(error)
    return OK if said == word else FAILED


def _runs(engine: Engine, act: Act) -> bool:
    from ds01.engine.api import EngineUnavailableError, NoSuchObjectError  # noqa: PLC0415 - as above
    from ds01.lifecycle.emergency import going_on  # noqa: PLC0415 - as above

    try:
        return going_on(engine.get(f"/containers/{act.container}/json"))
    except NoSuchObjectError:
        return False
    except EngineUnavailableError:
        return True


def _outcome(found: Selection, problems: list[str], *, done: bool, as_json: bool) -> int:
    if as_json:
        rows = [{"id": one.container, "name": one.name, "user": one.user, "grace_s": one.grace_s} for one in found.acts]
        say_json({"stopped": done, "containers": rows, "left_alone": list(found.left), "problems": problems})
    else:
        for problem in problems:
            click.echo(f"error: {plain(problem)}", err=True)
    return FAILED if problems else OK
