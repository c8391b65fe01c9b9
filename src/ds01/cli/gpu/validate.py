"""`ds01 gpu validate`: whether the ledger agrees with the rules and with itself."""

from __future__ import annotations

import click

from ds01.cli.asking import json_option, ledger_options, opened
from ds01.cli.output import FAILED, OK, say_json


@click.command()
@json_option
@ledger_options
def validate(*, as_json: bool, policy_path: str, ledger_path: str) -> int:
    """Look for contradictions in the ledger.

    These are leases on bad devices, over quotas and beside foreign use. Exit code 1 if there are any.
    """
    from ds01.allocator import picture  # noqa: PLC0415 - help texts need no allocator
    from ds01.api.contradictions import contradictions  # noqa: PLC0415 - as above

    with opened(policy_path, ledger_path) as desk, desk.ledger.read() as view:
        snapshot = picture.snapshot(view, desk.people)
        findings = contradictions(view, snapshot, desk.people)
    if as_json:
        say_json(findings)
    else:
        for finding in findings:
            click.echo(finding)
        if not findings:
            leased = sum(device.holder is not None for device in snapshot.devices)
            click.echo(f"ok: {len(snapshot.devices)} devices, {leased} with a lease")
    return FAILED if findings else OK
