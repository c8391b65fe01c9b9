"""`ds01 simulate`: the administrator's what-if, before a policy or a division of the GPUs is changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds01.api.desk import now_ms
from ds01.cli.asking import HOST_LEDGER, check_root
from ds01.cli.output import OK, listing, say_json
from ds01.mig_geometry import MODELS

if TYPE_CHECKING:
    from ds01.allocator.simulate.jobs import Job
    from ds01.allocator.simulate.report import Line


@click.command()
@click.argument("policies", nargs=-1, required=True, metavar="POLICY [OTHER]...")
@click.option("--gpus", type=click.IntRange(1, 64), default=4, show_default=True, help="How many GPUs there are.")
@click.option(
    "--model", type=click.Choice(sorted(MODELS)), default="A100-80GB", show_default=True, help="Of which model."
)
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="How many days.")
@click.option(
    "--load", type=click.FloatRange(0, 1000), default=4.0, show_default=True, help="Made-up requests a week and person."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another number makes up other requests.")
@click.option("--jobs", type=click.Path(exists=True, dir_okay=False), help="Requests of a file: JSON lines.")
@click.option("--recorded", is_flag=True, help="The requests of this host in the last --days.")
@click.option("--save-jobs", type=click.Path(dir_okay=False, writable=True), help="Also write the requests to a file.")
@click.option("--ledger", default=HOST_LEDGER, show_default=True, metavar="FILE", help="Where --recorded reads.")
@click.option("--json", "as_json", is_flag=True, help="JSON; waiting times in hours.")
def simulate(
    policies: tuple[str, ...],
    *,
    gpus: int,
    model: str,
    days: int,
    load: float,
    seed: int,
    jobs: str | None,
    recorded: bool,
    save_jobs: str | None,
    ledger: str,
    as_json: bool,
) -> int:
    """Try each POLICY out on a week of requests, and compare.

    Shows waiting times, refusals and use per group. The decisions are those that this server makes. Nothing on the
    server is changed or used.
    """
    from ds01.allocator.people import People  # noqa: PLC0415 - help texts need no allocator
    from ds01.allocator.simulate import jobs as made  # noqa: PLC0415 - as above
    from ds01.allocator.simulate.lab import devices  # noqa: PLC0415 - as above
    from ds01.allocator.simulate.replay import replay  # noqa: PLC0415 - as above
    from ds01.allocator.simulate.report import lines  # noqa: PLC0415 - as above
    from ds01.policy import load_policy  # noqa: PLC0415 - as above

    if jobs is not None and recorded:
        raise click.UsageError("choose one of --jobs and --recorded")
    tables = [load_policy(path).policy.tables for path in policies]
    if jobs is not None:
        wanted = made.read(Path(jobs))
    elif recorded:
        wanted = _recorded(ledger, days)
    else:
        wanted = made.generated(tables[0]["members"], days, load, seed)
    if not wanted:
        raise click.UsageError("there are no requests: name people in the policy, or use --jobs or --recorded")
    if save_jobs is not None:
        _save(Path(save_jobs), made.written(wanted))
    length, now = days * made.DAY_MS, now_ms()
    found: dict[str, list[Line]] = {}
    parts: dict[str, str] = {}
    for path, one in zip(policies, tables, strict=True):
        people = People(one)
        lab = devices(people.allocation, gpus, model)
        found[path] = lines(replay(wanted, people, lab, now), lab, length)
        parts[path] = ", ".join(sorted(device.profile for device in lab))
    if as_json:
        say_json({path: [line.as_dict() for line in group] for path, group in found.items()})
    else:
        _say(found, parts, wanted, days)
    return OK


def _recorded(ledger: str, days: int) -> list[Job]:
    from ds01.allocator.simulate import jobs  # noqa: PLC0415 - only here
    from ds01.ledger import Ledger  # noqa: PLC0415 - only here

    check_root(ledger)
    with Ledger(Path(ledger)) as opened, opened.read() as view:
        return jobs.recorded(view, days)


def _save(path: Path, text: str) -> None:
    from ds01.files import atomic_write  # noqa: PLC0415 - only here

    # It is replaced as a whole: a link, or a device like /dev/stdout, is no file to replace.
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise click.UsageError(f"--save-jobs: {path} is no ordinary file: name one, or one that is not there yet")
    # People are named in it, and what somebody closed stays closed.
    atomic_write(path, text, mode=stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600)


def _say(found: dict[str, list[Line]], parts: dict[str, str], jobs: list[Job], days: int) -> None:
    click.echo(f"{len(jobs)} requests of {len({job.user for job in jobs})} people in {days} days")
    for path, text in parts.items():
        click.echo(f"  {path}: {text}")
    head = ["GROUP", "POLICY", "ASKED", "SERVED", "AT ONCE", "WAIT (HALF)", "WAIT (95 %)", "WAIT (MOST)"]
    rows: list[list[str]] = [[*head, "REFUSED", "GAVE UP", "CUT", "GPU-HOURS", "BUSY"]]
    for group in dict.fromkeys(line.group for lines in found.values() for line in lines):
        for path, lines in found.items():
            rows += [_row(path, line) for line in lines if line.group == group]
    click.echo(listing(rows))
    click.echo("AT ONCE: without waiting. GAVE UP: waited too long. CUT: stopped by max_runtime before it was done.")


def _row(path: str, line: Line) -> list[str]:
    refused: Any = ", ".join(f"{count} {kind}" for kind, count in line.refused.items()) or "0"
    waits = [_hours(line.waited_median), _hours(line.waited_95), _hours(line.waited_most)]
    counts = [str(line.asked), str(line.served), str(line.at_once)]
    return [
        line.group,
        Path(path).name,
        *counts,
        *waits,
        refused,
        str(line.gave_up),
        str(line.cut),
        f"{line.gpu_hours:.0f}",
        f"{line.busy:.0%}",
    ]


def _hours(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} h"
