"""A container as the engine describes it: whose it is, and which GPUs it reaches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ds01.cdi.spec import token_of
from ds01.engine.owners import owner
from ds01.host.containers import has_legacy_gpu

from . import labels

ALL = "all"
_NVIDIA_NODE = re.compile(r"/dev/nvidia(\d+)")
_NVIDIA_KIND: Final = "nvidia.com/gpu="
_VARIABLE: Final = "NVIDIA_VISIBLE_DEVICES="
_FRACTION = re.compile(r"\.(\d+)")
_GPUS_MAX: Final = 64
"""More GPUs than any server has: the engine lets people ask for billions."""
_RESTARTED: Final = frozenset({"always", "unless-stopped", "on-failure"})
_NO_CDI_YET: Final = 'could not select device driver "cdi"'
"""What an engine says that does not know CDI, or not yet; a device that is not there has another message."""
_NOTHING: Final = frozenset({"", "void", "none"})


@dataclass(frozen=True, slots=True)
class SeenContainer:
    """A container of the engine. `token` is that of its claim; `names` are the GPUs it reaches without one.

    `left_behind`: the engine was to start it again, and tried too early. `finished` is when it ended last, 0: never, or
    that says nothing, since it is removed at its end unless it is being restarted.
    """

    id: str
    name: str
    running: bool
    created: int
    uid: int | None = None
    user: str = ""
    group: str = ""
    how: str = ""
    request: str = "{}"
    token: str | None = None
    names: frozenset[str] = frozenset()
    ours: bool = False
    left_behind: bool = False
    finished: int = 0


def seen_container(container: Mapping[str, Any], default_runtime: str) -> SeenContainer:
    """Return what matters of an inspected container.

    Args:
        container: Its inspection.
        default_runtime: The engine's.
    """
    config = container.get("Config") or {}
    marks: Mapping[str, str] = config.get("Labels") or {}
    person = owner(container)
    tokens = [token for name in _cdi_names(container) if (token := token_of(name))]
    return SeenContainer(
        id=str(container["Id"]),
        name=str(container.get("Name", "")).lstrip("/"),
        running=bool((container.get("State") or {}).get("Running")),
        created=_milliseconds(str(container.get("Created", ""))),
        uid=person.uid if person else None,
        user=person.name if person else "",
        group=str(marks.get("ds01.group", "")),
        how=person.how if person else "",
        request=labels.read(str(marks.get(labels.NAME, ""))),
        token=tokens[0] if tokens else None,
        names=frozenset(_names(container, default_runtime)),
        ours=bool(tokens) or marks.get("ds01.managed") == "true",
        left_behind=bool(tokens) and _left_behind(container),
        finished=_finished(container),
    )


def _finished(container: Mapping[str, Any]) -> int:
    if (container.get("HostConfig") or {}).get("AutoRemove"):
        return 0
    return max(0, _milliseconds(str((container.get("State") or {}).get("FinishedAt", ""))))


def _left_behind(container: Mapping[str, Any]) -> bool:
    # The engine keeps the error of the last start that it tried; after a manual stop it tries none.
    state: Mapping[str, Any] = container.get("State") or {}
    policy = ((container.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name")
    return not state.get("Running") and policy in _RESTARTED and _NO_CDI_YET in str(state.get("Error", ""))


def _cdi_names(container: Mapping[str, Any]) -> list[str]:
    requests = (container.get("HostConfig") or {}).get("DeviceRequests") or []
    return [
        str(name) for request in requests if request.get("Driver") == "cdi" for name in request.get("DeviceIDs") or []
    ]


def _names(container: Mapping[str, Any], default_runtime: str) -> set[str]:
    """Return the GPUs that a container reaches without a claim, as whoever made it named them."""
    host = container.get("HostConfig") or {}
    found = {name.removeprefix(_NVIDIA_KIND) for name in _cdi_names(container) if name.startswith(_NVIDIA_KIND)}
    for device in host.get("Devices") or []:
        if match := _NVIDIA_NODE.fullmatch(str(device.get("PathOnHost", ""))):
            found.add(match[1])
    if has_legacy_gpu(container, default_runtime):
        found |= _legacy_names(container)
    return found


def _legacy_names(container: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for request in (container.get("HostConfig") or {}).get("DeviceRequests") or []:
        if request.get("Driver") == "cdi":
            continue
        count = int(request.get("Count") or 0)
        given = [str(name) for name in request.get("DeviceIDs") or []]
        every = not 0 <= count <= _GPUS_MAX
        found |= set(given) if given else {ALL} if every else {str(number) for number in range(count)}
    if not found:
        environment = (container.get("Config") or {}).get("Env") or []
        values = [entry.removeprefix(_VARIABLE) for entry in environment if entry.startswith(_VARIABLE)]
        found = {name for name in (values[-1] if values else ALL).split(",") if name not in _NOTHING}
    return found


def _milliseconds(text: str) -> int:
    try:
        # The engine writes nanoseconds, with as many digits as it likes; Python reads three.
        return int(datetime.fromisoformat(_FRACTION.sub(_three_digits, text)).timestamp() * 1000)
    except ValueError:
        return 0


def _three_digits(fraction: re.Match[str]) -> str:
    return f".{fraction[1][:3]:0<3}"
