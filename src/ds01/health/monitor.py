"""Does somebody look at the machine? Without samples no idle container is noticed."""

from __future__ import annotations

import time

from ds01.engine import units
from ds01.ledger import system_clock
from ds01.monitor.history import read_latest
from ds01.monitor.strangers import FIX as _STRANGERS_FIX
from ds01.monitor.strangers import sentence, strangers

from .model import Check, failed, ok, warning

OLD_S = 120
"""Seconds after which what was seen says nothing of now."""
_FIRST_S = 120
_UNIT = "ds01-monitor.service"
_FIX = "journalctl -u ds01-monitor shows why."
_REPAIR = ("systemctl", "restart", _UNIT)


def check_monitor() -> Check:
    """The last sample is young, and nothing kept the monitor from seeing."""
    deadline = time.monotonic() + _FIRST_S
    # A monitor that was started this moment has not looked yet.
    while (sample := read_latest()) is None and units.is_active(_UNIT) and time.monotonic() < deadline:
        time.sleep(0.5)
    now = system_clock()
    if sample is None or sample.boot != now.boot:
        return failed("monitor", "it has not looked at this machine since the boot", _FIX, _REPAIR)
    age = (now.boot_ms - sample.boot_ms) // 1000
    if age > OLD_S:
        return failed("monitor", f"it looked {age} seconds ago for the last time", _FIX, _REPAIR)
    if sample.problems:
        return warning("monitor", "; ".join(sample.problems), _FIX)
    return ok("monitor", f"looked {age} seconds ago")


def check_owners() -> Check:
    """Whoever has a container that runs has an account: without one nobody knows which limits count."""
    if found := strangers(read_latest()):
        return warning("owners", sentence(found), _STRANGERS_FIX)
    return ok("owners", "every container that was seen running has an owner with an account, or none")
