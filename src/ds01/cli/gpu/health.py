"""`ds01 gpu health`: are the GPUs well?"""

from __future__ import annotations

import click

from ds01.cli.gpu.common import json_option, look, state_text
from ds01.cli.output import FAILED, OK, say_json


@click.command()
@json_option
def health(*, as_json: bool) -> int:
    """Say how each GPU is, why, and what to do about it. Exit code 1 when one is not well."""
    from ds01.gpu.snapshot import plain  # noqa: PLC0415 - help texts need no model

    found = look(activity=False)
    well = all(gpu.state == "ok" for gpu in found.health)
    if as_json:
        say_json({"well": well, "gpus": [plain(gpu) | {"state": gpu.state} for gpu in found.health]})
    else:
        for gpu in found.health:
            click.echo(f"GPU {gpu.gpu_index}: {state_text(gpu.state)}")
            for finding in gpu.findings:
                where = "" if finding.gi_id is None else f"GPU instance {finding.gi_id}: "
                click.echo(f"  {where}{finding.reason}\n    fix: {finding.fix}")
        if not found.health:
            click.echo("There are no GPUs in this server.")
    return OK if well else FAILED
