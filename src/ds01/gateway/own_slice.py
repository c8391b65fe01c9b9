"""A process of a person, moved into their slice: what it does is limited and counted as their containers are.

Only the process that asks, so that nobody moves anything of anybody else's. It does not get the containers' devices.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import Final

from ds01.gateway.exchange import Exchange
from ds01.gateway.refusals import Refused
from ds01.slices.names import user_slice

_START_S: Final = 10.0
_LOOK_S: Final = 0.01
_MANAGER: Final = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


async def enter(exchange: Exchange) -> dict[str, str]:
    """Put the process at the other end into its owner's slice; return the scope that it is in. Raises Refused."""
    caller = exchange.caller
    if caller.pid is None:
        raise Refused(403, "only a process of the host has a slice to enter", "slice.container", "ask from the host")
    group = (await exchange.people.limits(caller.person)).group
    slice_name, scope = user_slice(group, caller.person.name), f"ds01-build-{caller.uid}-{secrets.token_hex(6)}.scope"
    pid, uid = caller.pid, caller.uid
    await exchange.shared.disk.ask(lambda: _start(scope, slice_name, pid, uid))
    await exchange.audit.record(
        "container.start", caller, {"kind": "process", "name": scope}, "allowed", details={"slice": slice_name}
    )
    return {"slice": slice_name, "scope": scope}


def _start(scope: str, slice_name: str, pid: int, uid: int) -> None:
    # It asks and waits for the answer; should it have ended, its number may be another's by now.
    try:
        if Path("/proc", str(pid)).stat().st_uid != uid:
            raise _gone()
    except OSError as error:
        raise _gone() from error
    done = subprocess.run(
        [
            "/usr/bin/busctl", "call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", "4",
            "PIDs", "au", "1", str(pid), "Slice", "s", slice_name, "DevicePolicy", "s", "closed",
            "CollectMode", "s", "inactive-or-failed", "0",
        ],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=_START_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [os.strerror(done.returncode)])[-1]
        raise _failed(slice_name, reason[:200])
    # systemd answers before it does it, and what the process starts meanwhile would stay outside.
    until = time.monotonic() + _START_S
    while f"/{scope}\n" not in _groups(pid):
        if time.monotonic() > until:
            raise _failed(slice_name, f"systemd did not do it within {_START_S:.0f} s")
        time.sleep(_LOOK_S)


def _groups(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cgroup").read_text(encoding="utf-8")
    except OSError as error:
        raise _gone() from error


def _failed(slice_name: str, reason: str) -> Refused:
    return Refused(503, f"{slice_name} cannot be entered: {reason}", "slice.failed", "tell the administrator")


def _gone() -> Refused:
    return Refused(409, "the process that asked is gone", "slice.gone", "ask from the process that shall move")
