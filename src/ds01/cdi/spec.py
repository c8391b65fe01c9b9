"""Compose the spec of a claim from the base spec. Pure; the rules are those of the Container Device Interface.

Unknown fields of a base spec are carried along: they may be what a later driver needs.
https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ds01.problems import ReportedError, shown

KIND: Final = "ds01.io/gpu"
DEVICES_VARIABLE: Final = "DS01_GPUS"
"""Environment variable that tells a container, and whoever reads the spec later, the UUIDs it holds."""

HOOK_ENVIRONMENT: Final = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin",)
"""Of a hook that brings none: runc gives such a hook the container's, and root would load what a container names in
LD_PRELOAD (CVE-2025-23266)."""

_VERSION = re.compile(r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?")
_KIND = re.compile(r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_NODE_TYPES: Final = frozenset({"", "b", "c", "u", "p"})
_KEYS: Final[Mapping[str, str]] = {"deviceNodes": "path", "mounts": "containerPath"}
"""Lists of which a container can have one entry for each value of this field."""

_NEEDED: Final[Mapping[str, Sequence[str]]] = {
    "deviceNodes": ("path",),
    "hooks": ("hookName", "path"),
    "mounts": ("hostPath", "containerPath"),
}


class CdiError(ReportedError):
    """A spec cannot be read, made or written; without it the container does not start."""


def qualified(token: str) -> str:
    """Return the device name that a container is created with."""
    return f"{KIND}={token}"


def token_of(device: str) -> str | None:
    """Return the token of one of our device names, or None for another one."""
    kind, _, token = device.partition("=")
    return token if kind == KIND and token else None


def compose(base: Mapping[str, Any], token: str, uuids: Sequence[str]) -> dict[str, Any]:
    """Return the spec that maps a token to exactly these devices.

    Args:
        base: NVIDIA's spec, whose devices are named by UUID (others there are names for people).
        token: The claim.
        uuids: The devices it holds, in the order in which the container shall see them.

    Raises:
        CdiError: A device is not in the base spec, or what came out is no valid spec.
    """
    if not uuids:
        raise CdiError(f"{qualified(token)}: holds no device, so there is nothing to give to its container")
    named = {device.get("name"): device for device in _dicts(base.get("devices"))}
    if missing := [uuid for uuid in uuids if uuid not in named]:
        raise CdiError(
            f"the CDI spec of {base.get('kind')} does not name {', '.join(missing)}:"
            " as root, `nvidia-ctk cdi generate --device-name-strategy=uuid --output=/var/run/cdi/nvidia.yaml`"
        )
    edits = merge(named[uuid].get("containerEdits") or {} for uuid in uuids)
    edits["env"] = [*edits.get("env", ()), f"{DEVICES_VARIABLE}={','.join(uuids)}"]
    spec = dict(base) | {"kind": KIND, "devices": [{"name": token, "containerEdits": edits}]}
    check(spec)
    if common := spec.get("containerEdits"):
        spec["containerEdits"] = _apart(common)
    spec["devices"][0]["containerEdits"] = _apart(edits)
    return spec


def merge(edits: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return edits that do what all of these do: lists joined, equal entries and second ones of one path left out."""
    merged: dict[str, Any] = {}
    for one in edits:
        for field, value in one.items():
            if not isinstance(value, list):
                merged.setdefault(field, value)
                continue
            have: list[Any] = merged.setdefault(field, [])
            key = _KEYS.get(field)
            for entry in value:
                if entry not in have and not (key and any(_same(entry, other, key) for other in have)):
                    have.append(entry)
    return merged


def devices_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the UUIDs of the devices that one of our specs gives."""
    start = f"{DEVICES_VARIABLE}="
    for device in _dicts(spec.get("devices")):
        for entry in (device.get("containerEdits") or {}).get("env") or ():
            if isinstance(entry, str) and entry.startswith(start):
                return tuple(filter(None, entry.removeprefix(start).split(",")))
    return ()


def check(spec: Mapping[str, Any]) -> None:
    """Raise CdiError where the engine would not take a spec: it would only say that it knows no such device."""
    for path, value, expected in _faults(spec):
        raise CdiError(f"CDI spec: {path}: {shown(value)}: {expected}: correct what the base spec was generated from")


def _apart(edits: Mapping[str, Any]) -> dict[str, Any]:
    """Return edits whose hooks, which run as root, have an environment of their own."""
    hooks = edits.get("hooks")
    if not hooks:
        return dict(edits)
    return dict(edits) | {"hooks": [hook | {"env": hook.get("env") or list(HOOK_ENVIRONMENT)} for hook in hooks]}


def _faults(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    if not _matches(_VERSION, spec.get("cdiVersion")):
        yield "cdiVersion", spec.get("cdiVersion"), "a version such as 0.6.0"
    if not _matches(_KIND, spec.get("kind")):
        yield "kind", spec.get("kind"), "vendor/class"
    yield from _edit_faults("containerEdits", spec.get("containerEdits") or {})
    devices = spec.get("devices")
    if not isinstance(devices, list) or not devices:
        yield "devices", devices, "a list with one device"
        return
    for number, device in enumerate(devices):
        path = f"devices[{number}]"
        if not isinstance(device, dict) or not _matches(_NAME, device.get("name")):
            yield f"{path}.name", device, "letters, digits and _ . : - between them"
            continue
        if not device.get("containerEdits"):
            yield f"{path}.containerEdits", None, "at least one edit"
        yield from _edit_faults(f"{path}.containerEdits", device.get("containerEdits") or {})


def _edit_faults(path: str, edits: Any) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(edits, dict):
        yield path, edits, "a section"
        return
    for field in ("env", "deviceNodes", "hooks", "mounts"):
        if not isinstance(edits.get(field, []), list):
            yield f"{path}.{field}", edits[field], "a list"
            return
    for entry in edits.get("env", ()):
        if not isinstance(entry, str) or "=" not in entry.lstrip("="):
            yield f"{path}.env", entry, "NAME=value"
    for field, needed in _NEEDED.items():
        for number, entry in enumerate(edits.get(field, ())):
            for name in needed:
                if not isinstance(entry, dict) or not isinstance(entry.get(name), str) or not entry[name]:
                    yield f"{path}.{field}[{number}].{name}", entry, "a text"
    for number, node in enumerate(_dicts(edits.get("deviceNodes"))):
        if node.get("type", "") not in _NODE_TYPES:
            yield f"{path}.deviceNodes[{number}].type", node["type"], "b, c, u or p"
        if set(str(node.get("permissions", ""))) - set("rwm"):
            yield f"{path}.deviceNodes[{number}].permissions", node["permissions"], "of r, w and m"


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _same(one: Any, other: Any, key: str) -> bool:
    return isinstance(one, dict) and isinstance(other, dict) and one.get(key) == other.get(key)


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
