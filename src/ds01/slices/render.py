"""Text of the systemd unit files and drop-ins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from .kernel import Disk
from .spec import LIMIT_KEYS, LimitValues

HEADER: Final = "# Written by DS01 from resource-limits.yaml; edit there, this file is replaced."
"""First line of every file made here; what does not start with it is not ours."""

_ACCOUNTING: Final = ("CPUAccounting=yes", "MemoryAccounting=yes", "TasksAccounting=yes", "IOAccounting=yes")
_PLAIN: Final[Mapping[str, str]] = {
    "memory_max": "MemoryMax",
    "memory_high": "MemoryHigh",
    "swap_max": "MemorySwapMax",
    "tasks_max": "TasksMax",
}
_WEIGHTS: Final[Mapping[str, str]] = {"cpu_weight": "CPUWeight", "io_weight": "IOWeight"}
_IO: Final[Mapping[str, str]] = {"io_read_bps": "IOReadBandwidthMax", "io_write_bps": "IOWriteBandwidthMax"}


def slice_unit(description: str, limits: LimitValues, disks: Sequence[Disk]) -> str:
    """Return the unit file of a slice."""
    return _file("[Unit]", f"Description={description}", "", "[Slice]", *_ACCOUNTING, *_directives(limits, disks))


def members_drop_in(limits: LimitValues, disks: Sequence[Disk]) -> str:
    """Return the drop-in for the slice of each person of a group."""
    # A person's slice ends with the last thing in it; else it would stay until the next boot with the limits of today.
    unit = ("[Unit]", "StopWhenUnneeded=yes", "")
    return _file(*unit, "[Slice]", *_ACCOUNTING, *_directives(limits, disks))


def drop_in(limits: LimitValues, disks: Sequence[Disk]) -> str:
    """Return a drop-in that only sets limits."""
    return _file("[Slice]", *_directives(limits, disks))


def empty_drop_in(reason: str) -> str:
    """Return a drop-in that sets nothing: it hides the one of the same name for a less specific slice."""
    return _file(f"# {reason}")


def closed_drop_in(section: str, devices: Sequence[str]) -> str:
    """Return a drop-in that closes all devices but these and the harmless ones that systemd leaves open."""
    return _file(f"[{section}]", "DevicePolicy=closed", "DeviceAllow=", *(f"DeviceAllow={one}" for one in devices))


def open_drop_in(reason: str) -> str:
    """Return a drop-in that opens all devices, whatever others before it close."""
    return _file(f"# {reason}", "[Slice]", "DevicePolicy=auto", "DeviceAllow=")


def _directives(limits: LimitValues, disks: Sequence[Disk]) -> Iterable[str]:
    for key in LIMIT_KEYS:
        if key not in limits:
            continue
        value = limits[key]
        if key == "max_cpus":
            yield f"CPUQuota={'' if value is None else f'{value * 100:.2f}'.rstrip('0').rstrip('.') + '%'}"
        elif key in _PLAIN:
            yield f"{_PLAIN[key]}={'infinity' if value is None else value}"
        elif key in _WEIGHTS:
            yield f"{_WEIGHTS[key]}={'' if value is None else value}"
        else:
            # These are lists: without the empty one they would add to those of a less specific drop-in.
            yield f"{_IO[key]}="
            if value is not None:
                yield from (f"{_IO[key]}={disk.path} {value}" for disk in disks)


def _file(*lines: str) -> str:
    return "\n".join((HEADER, *lines)) + "\n"
