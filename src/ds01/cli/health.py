"""`ds01 health`: is this host doing what its policy says?"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import click

from .. import events
from ..health.model import Check, Status, failed, run, worst

_REPAIR_S = 600.0
"""A job of ours that is run again may take eight minutes."""
_MARKS = {Status.OK: ("ok", "green"), Status.WARNING: ("warning", "yellow"), Status.FAILED: ("FAILED", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm to anybody, then look again.")
@click.option("--allow-cgroup-v1", is_flag=True, help="For test hosts: accept a kernel without cgroup v2.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    default=Path("/etc/ds01/resource-limits.yaml"),
    show_default=True,
    help="The policy in force.",
)
@click.pass_context
def health(context: click.Context, policy: Path, *, as_json: bool, fix: bool, allow_cgroup_v1: bool) -> None:
    """Try the limits out, and look at whatever enforces them.

    Only root can try things out; everybody else learns whether the parts answer. Exit code 0: all is well; 1: something
    needs attention; 2: a rule does not hold.
    """
    if os.geteuid() == 0:
        from ..health.run import run_checks  # noqa: PLC0415 - the policy's validator comes with it

        checks = run_checks(policy, allow_cgroup_v1=allow_cgroup_v1)
        if fix and (repairs := {check.repair for check in checks if check.repair}):
            for repair in sorted(repairs):
                click.echo(f"running {' '.join(repair)}", err=True)
                run(*repair, limit_s=_REPAIR_S)
            checks = run_checks(policy, allow_cgroup_v1=allow_cgroup_v1)
        _record(checks)
    elif fix:
        raise click.ClickException("only root can mend things: run it with sudo")
    else:
        checks = _asked()
    status = worst(checks)
    if as_json:
        click.echo(json.dumps({"status": status, "checks": [dataclasses.asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            word, colour = _MARKS[check.status]
            click.echo(f"{click.style(f'{word:8}', fg=colour)} {check.name:14} {check.detail}")
            if check.fix:
                click.echo(f"{'':8} {'':14} fix: {check.fix}")
    context.exit(status.exit_code)


def _asked() -> list[Check]:
    """Return what the gateway finds; that it does not answer is a finding, too."""
    from .client import GatewayGoneError, ask  # noqa: PLC0415 - root needs nobody

    try:
        found = ask("GET", "health")["checks"]
    except GatewayGoneError as error:
        return [failed("gateway", str(error), "Tell the administrator.")]
    return [Check(**{**check, "status": Status(check["status"])}) for check in found]


def _record(checks: list[Check]) -> None:
    """Note in the audit log what was found: that a rule did not hold is a fact of that day."""
    wrong = {check.name: check.detail for check in checks if check.status is Status.FAILED}
    kind: events.EventType = "health.fail" if wrong else "health.ok"
    subject = {"kind": "host", "name": os.uname().nodename}
    reason = f"{', '.join(wrong)}: not as they must be" if wrong else f"{len(checks)} checks"
    events.record(
        kind, subject=subject, decision="failed" if wrong else "allowed", reason=reason, details=wrong or None
    )
