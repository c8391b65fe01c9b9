"""Who is in the way of a change: processes that use a device, and whatever else has a GPU open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ds01.engine import units
from ds01.engine.api import Engine, EngineUnavailableError
from ds01.engine.command import run
from ds01.engine.owners import owner
from ds01.gpu.attribution import Origin, attribute, person
from ds01.mig.model import Holder
from ds01.mig.opened import gpu_nodes, minor

_MONITOR: Final = "ds01-monitor.service"
_GONE_S: Final = 2.0
# What keeps GPUs open without doing anybody's work: command or unit -> how to stop it for the change.
DAEMONS: Final = {
    "nvidia-persiste": "systemctl stop nvidia-persistenced",
    "nvidia-persistenced.service": "systemctl stop nvidia-persistenced",
    "nv-hostengine": "systemctl stop nvidia-dcgm",
    "nvidia-dcgm.service": "systemctl stop nvidia-dcgm",
    "dcgm-exporter": "systemctl stop dcgm-exporter",
    "nvsm_core": "systemctl stop nvsm",
    "Xorg": "systemctl stop display-manager",
    "Xwayland": "systemctl stop display-manager",
    "gnome-shell": "systemctl stop display-manager",
    _MONITOR: "it lets go by itself",
}
_ARGUMENTS_SHOWN: Final = 60


def let_go() -> None:
    """End DS01's own monitor, which has all GPUs open: systemd starts it again 5 s later, whatever happens here."""
    if not units.is_active(_MONITOR):
        return
    before = _main_process()
    run(["systemctl", "kill", "--signal=KILL", _MONITOR])
    end = time.monotonic() + _GONE_S
    while _main_process() == before and time.monotonic() < end:
        time.sleep(0.05)


def _main_process() -> str:
    return run(["systemctl", "show", "--property=MainPID", "--value", _MONITOR]).stdout.strip()


def worker(pid: int, start_ticks: int | None = None) -> Holder:
    """Return who a process that uses a GPU belongs to. One that cannot be seen is somebody's all the same."""
    origin = attribute(pid, start_ticks)
    fix = DAEMONS.get(origin.unit) or DAEMONS.get(origin.command, "")
    return Holder(_owner(origin), f"process {pid} ({_command(origin)})", bool(fix) and origin.kind == "system", fix)


def openers(among: Callable[[int], bool] | None = None) -> dict[int, list[int]]:
    """Return which processes have the device node of a GPU open, by its minor number. This one is left out.

    Args:
        among: Whether a process, by its number, is to be looked at; None: all are.
    """
    found: dict[int, set[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - there are thousands of processes, and files of each
        if name.isdecimal() and int(name) != os.getpid() and (among is None or among(int(name))):
            for node in gpu_nodes(int(name)):
                found.setdefault(minor(node), set()).add(int(name))
    return {number: sorted(pids) for number, pids in found.items()}


def _owner(origin: Origin) -> str:
    if origin.kind == "container" and origin.container_id:
        return _container_owner(origin.container_id) or f"container {origin.container_id[:12]}"
    if origin.kind == "user" and origin.uid is not None:
        return person(origin.uid)
    return origin.kind


def _container_owner(container_id: str) -> str:
    """Return the person a container belongs to, and its name; empty if the engine does not know."""
    try:
        container = Engine(timeout=2.0).get(f"/containers/{container_id}/json")
    except EngineUnavailableError:
        return ""
    found = owner(container)
    name = str(container.get("Name", "")).removeprefix("/") or container_id[:12]
    return f"{found.name if found else 'nobody known'}, container {name}"


def _command(origin: Origin) -> str:
    """Return what a process was started as; its own words, so they decide nothing."""
    try:
        words = Path(f"/proc/{origin.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        words = ""
    text = words.strip() or origin.command or origin.reason
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= _ARGUMENTS_SHOWN else text[:_ARGUMENTS_SHOWN] + "..."
