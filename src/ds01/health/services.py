"""Do the timers run, and did their last runs succeed?"""

from __future__ import annotations

import json
import time

from .model import Check, failed, ok, run

_PATTERN = "ds01-*"
_JOBS = "ds01-enforce-"
_LATE_S = 600
"""Seconds: a machine that is very busy, or just comes up, is late for less."""


def check_timers() -> Check:
    """Every timer of ours that is installed is also active."""
    installed = {
        line.split()[0]
        for line in run("systemctl", "list-unit-files", "--no-legend", "--type=timer", _PATTERN).stdout.splitlines()
    }
    if not installed:
        return failed("timers", "no timer of DS01 is installed", "Run site.yml again.")
    active = {
        line.split()[0]
        for line in run(
            "systemctl", "list-units", "--plain", "--no-legend", "--type=timer", "--state=active", _PATTERN
        ).stdout.splitlines()
    }
    if idle := sorted(installed - active):
        start = ("systemctl", "start", *idle)
        return failed("timers", f"not active: {', '.join(idle)}", " ".join(start), start)
    if late := _late(time.time()):
        return failed("timers", f"due and not run: {', '.join(late)}", f"systemctl status {late[0]} shows why.")
    return ok("timers", f"{len(installed)} active, none is late")


def _late(now: float) -> list[str]:
    """Return the timers that should have run a while ago."""
    listed = run("systemctl", "list-timers", "--output=json", _PATTERN).stdout
    found = json.loads(listed) if listed.strip() else []
    return [one["unit"] for one in found if one.get("next") and now - one["next"] / 1e6 > _LATE_S]


def check_jobs() -> Check:
    """No unit of ours is in the state `failed`."""
    listed = run("systemctl", "list-units", "--plain", "--no-legend", "--state=failed", _PATTERN).stdout.splitlines()
    if units := [line.split()[0] for line in listed]:
        # What a timer starts may run at any time; what else failed somebody is to look at first.
        jobs = [unit for unit in units if unit.startswith(_JOBS)]
        again = ("systemctl", "start", *jobs) if jobs else ()
        return failed("jobs", f"failed: {', '.join(units)}", f"journalctl -u {units[0]} shows why.", again)
    return ok("jobs", "no unit of DS01 has failed")
