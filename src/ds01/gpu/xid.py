"""What NVIDIA's Xid errors mean for a lab: who has to act, and whether the device can still be given to somebody.

Sources: NVIDIA's "Xid Errors" document and the list of application errors in NVIDIA's Kubernetes device plugin. Every
Xid is an event of its own: the number of a code's events counts, not the last code.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """How a GPU or device is."""

    OK = "ok"
    DEGRADED = "degraded"
    """It works, and something needs attention."""
    UNHEALTHY = "unhealthy"
    """Nobody should get it."""


class Xid(NamedTuple):
    """One code."""

    code: int
    category: str
    """application, memory, link, lost, firmware or unlisted."""
    meaning: str
    state: State
    """What an event of this code makes of the device it happened on."""
    fix: str


_USER: Final = "look at the program that ran there; the device is fine"
_RESET: Final = "stop what uses this GPU and reboot; if it comes back, have the card exchanged"
_WHEN_IDLE: Final = "reboot when the GPU is idle"


def _codes(category: str, state: State, fix: str, **meanings: str) -> dict[int, Xid]:
    codes = {int(name[1:]): meaning for name, meaning in meanings.items()}
    return {code: Xid(code, category, meaning, state, fix) for code, meaning in codes.items()}


_TABLE: Final = {
    **_codes(
        "application",
        State.OK,
        _USER,
        x13="a program made the graphics engine fail",
        x31="a program used an address that is not its own",
        x43="a program's GPU work was stopped after an error of its own",
        x45="a program's GPU work was cleaned up, after an earlier error or because it was killed",
        x68="the video decoder failed on a program's input",
        x109="a program's GPU work did not let another one have its turn",
    ),
    **_codes(
        "memory",
        State.DEGRADED,
        _WHEN_IDLE,
        x63="a faulty memory row is to be replaced by a spare one",
        x92="many correctable memory errors",
        x94="a memory error hit one program, which was stopped",
    ),
    **_codes(
        "memory",
        State.UNHEALTHY,
        _RESET,
        x48="an uncorrectable memory error",
        x64="a faulty memory row could not be replaced",
        x95="a memory error that may have hit any program on the GPU",
    ),
    **_codes("link", State.DEGRADED, "check the NVLink bridges and reboot when the GPU is idle", x74="an NVLink error"),
    **_codes(
        "lost",
        State.UNHEALTHY,
        "reboot; if it comes back, check power, cooling and the slot of the card",
        x79="the GPU fell off the bus",
    ),
    **_codes(
        "firmware",
        State.UNHEALTHY,
        "reboot; if it comes back, upgrade the driver",
        x119="the GPU's own processor did not answer in time",
        x120="the GPU's own processor failed",
    ),
}


def xid(code: int) -> Xid:
    """Return what is known of a code; one that is not listed is taken seriously, but condemns no device."""
    known = _TABLE.get(code)
    if known is not None:
        return known
    fix = "look the number up in NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors)"
    return Xid(code, "unlisted", f"Xid {code}", State.DEGRADED, fix)
