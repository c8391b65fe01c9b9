"""What somebody asks for, in the words people and Docker clients use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ds01.policy.units import format_size
from ds01.problems import shown

# Vendor and class of a CDI name; what follows names the device. Matched at the beginning: searched for, it would take
# the square of the length of whatever a client sends.
_CDI = re.compile(r"[a-z0-9.-]+/gpu=", re.IGNORECASE)
_DEVICE = re.compile(r"[0-9]{1,4}(:[0-9]{1,4})?|(GPU|MIG)-[0-9A-Za-z/-]{1,120}", re.IGNORECASE)
_PROFILE = re.compile(r"[1-7]g\.[0-9]{1,3}gb(\+me)?", re.IGNORECASE)
_TYPES: dict[str, tuple[type, ...]] = {
    "count": (int, type(None)),
    "profile": (str, type(None)),
    "memory_bytes": (int,),
    "full": (bool,),
    "devices": (list, tuple),
    "runtime": (int, type(None)),
}
COUNT_MAX = 4_096


class BadRequest(ValueError):  # noqa: N818 - it names what was asked, and reaches people as a message
    """A request that nobody could grant, whatever is free. The text names the value and the fix."""


@dataclass(frozen=True, slots=True)
class Request:
    """1..n devices, or none. `count` None is as many as the person may have; 0 is a container without GPU.

    `profile` is a MIG profile, `memory_bytes` the least memory of each device, `full` asks for whole GPUs, `devices`
    for exactly these. `runtime` is how long they are needed at most, in seconds, None when nobody said.
    """

    count: int | None = 1
    profile: str | None = None
    memory_bytes: int = 0
    full: bool = False
    devices: tuple[str, ...] = ()
    runtime: int | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself. Raises BadRequest."""
        if self.count is not None and not 0 <= self.count <= COUNT_MAX:
            raise BadRequest(f"{self.count} GPUs: ask for 0 to {COUNT_MAX}, or all")
        if self.devices and (self.profile or self.full or self.memory_bytes or self.count != len(self.devices)):
            raise BadRequest("devices by name: leave out count, profile, memory and full; the devices decide these")
        if self.profile and self.full:
            raise BadRequest(f"{self.profile} and a full GPU: ask for one of them")
        if self.profile and not _PROFILE.fullmatch(self.profile):
            raise BadRequest(f"{self.profile[:60]!r}: write a MIG profile like 1g.10gb or 3g.40gb")
        if self.memory_bytes < 0 or (self.runtime is not None and self.runtime <= 0):
            raise BadRequest("memory and runtime: write numbers above zero")

    @classmethod
    def named(cls, names: Iterable[str], runtime: int | None = None) -> Request:
        """Return a request for devices as clients name them: index, UUID, CDI name, or `all`. Raises BadRequest."""
        wanted: dict[str, None] = {}
        for name in names:
            plain = name.strip()
            if kind := _CDI.match(plain):
                plain = plain[kind.end() :]
            if plain.lower() == "all":
                return cls(count=None, runtime=runtime)
            if not _DEVICE.fullmatch(plain):
                raise BadRequest(f"{name[:60]!r}: write a device like 0, 0:1, a UUID, nvidia.com/gpu=0:1 or all")
            wanted[plain] = None
        if not wanted:
            raise BadRequest("no device named: write one like 0:1, or a number of GPUs")
        return cls(count=len(wanted), devices=tuple(wanted), runtime=runtime)

    def as_dict(self) -> dict[str, Any]:
        """Return the request as JSON-able data, the form in which the ledger keeps it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def stored(cls, text: str) -> Request | None:
        """Return what the ledger keeps as the request of a claim, None if that was not written by the allocator.

        A claim that was rebuilt has what is on a label, which may be anything.
        """
        try:
            data = json.loads(text)
            return cls.from_dict(data) if isinstance(data, dict) and data else None
        except (ValueError, RecursionError):
            return None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Request:
        """Undo `as_dict`. Raises BadRequest for anything else."""
        for name, value in data.items():
            if name not in _TYPES:
                raise BadRequest(f"{name}: no part of a request: use {', '.join(_TYPES)}")
            # bool is an int for Python, and for nobody else.
            if not isinstance(value, _TYPES[name]) or (isinstance(value, bool) and name != "full"):
                raise BadRequest(f"{name}: {shown(value)}: not a value of a request")
        devices = tuple(data.get("devices", ()))
        if not all(isinstance(device, str) for device in devices):
            raise BadRequest("devices: write names, like 0:1 or a UUID")
        return cls(**{**data, "devices": devices})

    def __str__(self) -> str:
        """Return it in words."""
        if self.devices:
            return "device " + ", ".join(self.devices)
        if self.count == 0:
            return "no GPU"
        what = self.profile or ("full GPU" if self.full else "GPU")
        if self.memory_bytes:
            what += f" of at least {format_size(self.memory_bytes)}"
        return f"every {what} allowed" if self.count is None else f"{self.count} {what}"
