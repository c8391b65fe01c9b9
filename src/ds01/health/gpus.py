"""Do the GPUs answer, does the ledger agree with itself, and do the CDI specs give what it says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ds01.allocator import picture
from ds01.allocator.people import People
from ds01.api.contradictions import contradictions
from ds01.api.health import check_ledger as can_be_used
from ds01.cdi.files import SpecFiles
from ds01.gpu.nvml import NvmlError, Session
from ds01.gpu.patience import Patience
from ds01.gpu.snapshot import Snapshot, take
from ds01.ledger import LEDGER, Ledger, LedgerError
from ds01.ledger.backup import check
from ds01.ledger.specs import held

from .model import Check, Status, failed, ok, warning

if TYPE_CHECKING:
    from ds01.policy.resolver import Tables

_DRIVER = Path("/proc/driver/nvidia")
_RECONCILE = "ds01 enforce reconcile"
_REPAIR = ("ds01", "enforce", "reconcile")


def check_nvml() -> Check:
    """Every GPU answers and is well."""
    try:
        found = Patience().ask(_look)
    except NvmlError as error:
        if not _DRIVER.exists() and not list(Path("/dev").glob("nvidia[0-9]*")):
            return ok("GPUs", "no NVIDIA GPU is in use on this host")
        return failed("GPUs", str(error), "dmesg | grep NVRM shows more.")
    ill = [f"GPU {gpu.gpu_index}: {finding.reason}" for gpu in found.health for finding in gpu.findings]
    if ill:
        state = failed if any(gpu.state == "unhealthy" for gpu in found.health) else warning
        return state("GPUs", "; ".join(ill), "ds01 gpu health")
    return ok("GPUs", f"{len(found.health)} answer, with {len(found.inventory.devices)} devices")


def _look() -> Snapshot:
    with Session() as session:
        return take(session, activity=False)


def check_ledger(tables: Tables) -> Check:
    """The ledger is whole, and agrees with the rules and with itself."""
    with Ledger() as ledger:
        found = can_be_used(ledger)
        if found.status is not Status.OK:
            return found
        try:
            check(LEDGER)
            with ledger.read() as view:
                wrong = contradictions(view, picture.snapshot(view, People(tables)), People(tables))
        except LedgerError as error:
            return failed("ledger", str(error), _RECONCILE)
    if wrong:
        return warning("ledger", "; ".join(wrong), "ds01 gpu validate")
    return ok("ledger", "whole, and without contradictions")


def check_specs() -> Check:
    """No container could start with a device that its claim does not hold."""
    try:
        with Ledger() as ledger, ledger.read() as view:
            holds = held(view)
    except LedgerError as error:
        return failed("CDI specs", str(error), _RECONCILE)
    given = SpecFiles().given()
    too_much = [token for token, devices in given.items() if not set(devices) <= set(holds.get(token, ()))]
    if too_much:
        text = f"{len(too_much)} give what their claim does not hold"
        return failed("CDI specs", text, _RECONCILE, _REPAIR)
    if missing := [token for token in holds if token not in given]:
        return warning("CDI specs", f"{len(missing)} claims have none: they cannot start", _RECONCILE, _REPAIR)
    return ok("CDI specs", f"{len(given)}, each with what its claim holds")
