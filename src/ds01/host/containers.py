"""What each step of a deployment does to the containers that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from ..engine.api import MOVED

_SHARED_SOCKETS = frozenset({"/run/docker.sock", "/var/run/docker.sock"})
_ENGINE_SOCKET = str(MOVED)


class Effect(TypedDict):
    """One container: its name, its state, whether it has a GPU by the legacy hook, and what happens to it."""

    name: str
    state: str
    legacy_gpu: bool
    loses_gpu: bool
    effects: list[str]


def effects(container: Mapping[str, Any], info: Mapping[str, Any], *, restarts: bool, moves: bool = False) -> Effect:
    """Say what a deployment does to one container.

    Args:
        container: Its inspection.
        info: What the engine says of itself now.
        restarts: Whether the deployment restarts the engine.
        moves: Whether it puts the gateway where the engine listens now.
    """
    state = str((container.get("State") or {}).get("Status", "unknown"))
    running = bool((container.get("State") or {}).get("Running"))
    legacy = has_legacy_gpu(container, str(info.get("DefaultRuntime", "")))
    # systemd owns the device rules of the container's scope; on a reload it puts back those it knows, not the hook's.
    loses = running and legacy and info.get("CgroupDriver") == "systemd"
    said = []
    if running and restarts:
        said.append("runs on through the engine's restart; open sessions in it (exec, attach) end")
    if loses:
        said.append("loses its GPU when systemd reloads its units, until it is restarted")
    sources = {str(mount.get("Source")) for mount in container.get("Mounts") or []}
    if moves and not sources.isdisjoint(_SHARED_SOCKETS):
        said.append("has the engine's socket mounted: dead from then on; made anew by its owner it gets the gateway's")
    elif restarts and _ENGINE_SOCKET in sources:
        said.append("has the engine's socket mounted: dead after the restart, until the container is restarted")
    if not (container.get("HostConfig") or {}).get("CgroupParent"):
        said.append("its next start is in its owner's slice; without a known owner, in ds01-unmanaged.slice")
    return {
        "name": str(container.get("Name", "")).lstrip("/"),
        "state": state,
        "legacy_gpu": legacy,
        "loses_gpu": loses,
        "effects": said,
    }


def has_legacy_gpu(container: Mapping[str, Any], default_runtime: str) -> bool:
    """Whether a container gets its GPU from NVIDIA's runtime or hook, rather than as a CDI device."""
    host = container.get("HostConfig") or {}
    for request in host.get("DeviceRequests") or []:
        kinds = {kind for group in request.get("Capabilities") or [] for kind in group}
        if request.get("Driver") != "cdi" and ("gpu" in kinds or request.get("Driver") == "nvidia"):
            return True
    runtime = host.get("Runtime") or default_runtime
    environment = (container.get("Config") or {}).get("Env") or []
    visible = [entry.partition("=")[2] for entry in environment if entry.startswith("NVIDIA_VISIBLE_DEVICES=")]
    return runtime == "nvidia" and bool(visible) and visible[-1] not in {"", "void", "none"}
