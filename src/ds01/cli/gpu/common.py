"""What the verbs of `ds01 gpu` share: one look at the GPUs, and values as people read them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ds01.cli.output import REFUSED
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from ds01.cli.gpu.seen import Seen
    from ds01.gpu.attribution import Origin
    from ds01.gpu.model import Measured
    from ds01.gpu.snapshot import Snapshot

json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON; memory in bytes, power in mW, energy in mJ, null = not measured."
)
_CONTROL: Final = Path("/dev/nvidiactl")
_COLOURS = {"ok": "green", "degraded": "yellow", "draining": "yellow", "unhealthy": "red"}


class ClosedError(ReportedError):
    """The driver is there, but not for this login."""

    exit_code = REFUSED


def look(*, activity: bool) -> Snapshot:
    """Return everything about the GPUs of this machine now.

    Args:
        activity: Whether it matters how busy they are; on Hopper and newer that takes 0.1 s.

    Raises:
        NvmlError: There is no NVML; the text says what is missing and how to mend it.
        ClosedError: There is, but this login may not ask it.
    """
    from ds01.gpu.nvml import NvmlError, Session  # noqa: PLC0415 - help texts need no NVML
    from ds01.gpu.snapshot import take  # noqa: PLC0415 - as above

    try:
        with Session() as session:
            return take(session, activity=activity)
    except NvmlError as error:
        if _CONTROL.exists() and not os.access(_CONTROL, os.R_OK | os.W_OK):
            raise ClosedError(
                "the GPUs of the server are closed to your login: `ds01 dashboard --once` shows each device and how "
                "busy it is, `ds01 gpu status` who holds it, `ds01 why bare-metal` why"
            ) from error
        raise


def told(closed: ClosedError) -> list[Seen]:
    """Return the devices as the gateway tells them to a login that may not ask the driver. Raises `closed`."""
    from ds01.api.errors import ApiError  # noqa: PLC0415 - who may ask the driver asks nobody else
    from ds01.cli.client import GatewayGoneError, ask  # noqa: PLC0415 - as above
    from ds01.cli.gpu.seen import of_gateway  # noqa: PLC0415 - as above

    try:
        return of_gateway(ask("GET", "status"), ask("GET", "activity"))
    except (ApiError, GatewayGoneError):
        raise closed from None


def state_text(state: str) -> str:
    """Return a state in its colour."""
    return click.style(state, fg=_COLOURS[state])


def value_text(value: Measured[Any], unit: str = "", scale: float = 1, digits: int = 0) -> str:
    """Return a measured value with its unit, or the word for why there is none."""
    if value.value is None:
        return value.state
    age = f" ({value.age_s:.0f} s ago)" if value.age_s else ""
    return f"{value.value / scale:.{digits}f} {unit}".rstrip() + age


def memory_text(value: Measured[int]) -> str:
    """Return a measured amount of memory, or the word for why there is none."""
    return value.state if value.value is None else gib(value.value)


def gib(amount: int) -> str:
    """Return bytes as people read them."""
    return f"{amount / (1 << 30):.1f} GiB"


def owner_text(origin: Origin) -> str:
    """Return whose a process is."""
    from ds01.gpu.attribution import person  # noqa: PLC0415 - help texts need no NVML

    if origin.kind == "container":
        return f"container {(origin.container_id or '')[:12]}"
    if origin.kind == "user" and origin.uid is not None:
        return person(origin.uid)
    if origin.kind == "system":
        return f"system ({origin.unit or origin.command})"
    return f"unknown ({origin.reason})"
