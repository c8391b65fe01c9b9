"""Limits that the kernel has in force, read from the files of cgroup v1 (hybrid) and v2.

`systemctl show` tells what systemd has read from its unit files, which is not what a running slice has.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .names import cgroup_path
from .spec import WEIGHT_DEFAULT, WEIGHT_KEYS, LimitValues

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")

MIXED: Final = -1
"""Stands for an I/O limit that is not the same on all disks."""

_V1_UNLIMITED: Final = 1 << 60
"""cgroup v1 shows "no limit" as the largest multiple of the page size, close to 2^63."""
_V1_SHARES_PER_WEIGHT: Final = 1024 / 100
"""cpu.shares of a unit with the default weight, 1024, over that weight, 100."""
_SCSI_DISK: Final = "0"
"""What `device/type` says for a disk; an optical drive says 5. Disks that are not SCSI have no such file."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CPU_TOLERANCE: Final = 0.001
_WEIGHT_TOLERANCE: Final = 1


class Disk(NamedTuple):
    """A disk that I/O limits apply to."""

    path: str
    """Device node, e.g. /dev/sda."""
    number: str
    """major:minor."""


def find_disks(root: Path = Path("/")) -> tuple[Disk, ...]:
    """Return the built-in disks and arrays of disks that have a device node.

    LVM and encryption on top of them pass I/O down in the name of whoever caused it. Arrays with parity write in
    nobody's name, so arrays are limited themselves.
    """
    return tuple(
        Disk(f"/dev/{entry.name}", (entry / "dev").read_text().strip())
        for entry in sorted((root / "sys/block").glob("*"))
        if (_is_built_in(entry) or (entry / "md").is_dir()) and (root / "dev" / entry.name).exists()
    )


def _is_built_in(entry: Path) -> bool:
    device = entry / "device"
    # Not by `removable`: the kernel says that of every disk in a hot-swap bay too.
    return device.exists() and _text(device / "type") in {None, _SCSI_DISK} and "/usb" not in str(device.resolve())


class Cgroups:
    """The cgroup files of a host."""

    def __init__(self, root: Path = CGROUP_ROOT, disks: Sequence[Disk] = ()) -> None:
        """Look at the hierarchies mounted at `root`."""
        self._root = root
        self._disks = disks
        self.version = 2 if (root / "cgroup.controllers").exists() else 1

    def live_slices(self, top: str) -> Iterator[str]:
        """Yield the names of the slices at and below `top` that exist in the kernel."""
        base = self._base()
        start = base / cgroup_path(top)
        if not start.is_dir():
            return
        names = [top]
        for folder, below, _ in os.walk(start):
            # Only slices have slices of ours in them: a container may have one of any name below its own cgroup, and
            # what ends while this looks is mostly a container's.
            below[:] = [
                name for name in below if name.endswith(".slice") and Path(folder, name) == base / cgroup_path(name)
            ]
            names += below
        yield from sorted(names, key=cgroup_path)

    def exists(self, name: str) -> bool:
        """Whether the kernel has this slice."""
        return (self._base() / cgroup_path(name)).is_dir()

    def _base(self) -> Path:
        return self._root if self.version == 2 else self._root / "systemd"  # noqa: PLR2004 - the version

    def read(self, name: str) -> dict[str, float | int | None]:
        """Return the limits of a slice; a key that this kernel cannot limit is missing.

        A slice whose controller is not switched on has no limit of that kind.
        """
        path = cgroup_path(name)
        return self._read_v2(self._root / path) if self.version == 2 else self._read_v1(path)  # noqa: PLR2004

    def memory_needed(self, name: str) -> int:
        """Return the bytes of a slice that are no files, which the kernel cannot just drop; 0 if it is not known."""
        path = cgroup_path(name)
        if self.version == 2:  # noqa: PLR2004 - the version
            text, keys = _text(self._root / path / "memory.stat"), ("anon", "shmem")
        else:
            text, keys = _text(self._root / "memory" / path / "memory.stat"), ("total_rss", "total_shmem")
        counted = dict(line.split() for line in (text or "").splitlines())
        return sum(int(counted.get(key, 0)) for key in keys)

    def _read_v2(self, path: Path) -> dict[str, float | int | None]:
        controllers = set((self._root / "cgroup.controllers").read_text().split())
        values: dict[str, float | int | None] = {}
        if "memory" in controllers:
            values["memory_max"] = _number(path / "memory.max")
            values["memory_high"] = _number(path / "memory.high")
            if (path / "memory.swap.max").exists():
                values["swap_max"] = _number(path / "memory.swap.max")
        if "pids" in controllers:
            values["tasks_max"] = _number(path / "pids.max")
        if "cpu" in controllers:
            quota, _, period = (_text(path / "cpu.max") or "max 100000").partition(" ")
            values["max_cpus"] = None if quota == "max" else int(quota) / int(period)
            values["cpu_weight"] = int(_text(path / "cpu.weight") or WEIGHT_DEFAULT)
        if "io" in controllers:
            # io.bfq.weight has another scale, onto which systemd maps the weight.
            if (weight := _text(path / "io.weight")) is not None:
                values["io_weight"] = int(weight.split()[1] if weight.startswith("default") else weight.split()[0])
            if self._disks:
                lines = [line.split() for line in (_text(path / "io.max") or "").splitlines()]
                limits = {line[0]: dict(item.split("=", 1) for item in line[1:]) for line in lines if line}
                values["io_read_bps"] = self._of_all_disks(lambda disk: limits.get(disk, {}).get("rbps", "max"))
                values["io_write_bps"] = self._of_all_disks(lambda disk: limits.get(disk, {}).get("wbps", "max"))
        return values

    def _read_v1(self, path: Path | object) -> dict[str, float | int | None]:
        values: dict[str, float | int | None] = {}
        if (memory := self._root / "memory").is_dir():
            limit = _number(memory / str(path) / "memory.limit_in_bytes")
            values["memory_max"] = None if limit is None or limit >= _V1_UNLIMITED else limit
        if (pids := self._root / "pids").is_dir():
            values["tasks_max"] = _number(pids / str(path) / "pids.max")
        if (cpu := self._root / "cpu").is_dir():
            quota = _number(cpu / str(path) / "cpu.cfs_quota_us")
            period = _number(cpu / str(path) / "cpu.cfs_period_us")
            values["max_cpus"] = None if quota is None or quota < 0 or not period else quota / period
            shares = _number(cpu / str(path) / "cpu.shares")
            values["cpu_weight"] = WEIGHT_DEFAULT if shares is None else round(shares / _V1_SHARES_PER_WEIGHT)
        if (blkio := self._root / "blkio").is_dir() and self._disks:
            for key, name in (("io_read_bps", "read"), ("io_write_bps", "write")):
                text = _text(blkio / str(path) / f"blkio.throttle.{name}_bps_device") or ""
                limits = dict(line.split(None, 1) for line in text.splitlines())
                values[key] = self._of_all_disks(lambda disk, found=limits: found.get(disk, "max"))  # type: ignore[misc]
        return values

    def _of_all_disks(self, limit_of: Callable[[str], str]) -> int | None:
        found = {limit_of(disk.number) for disk in self._disks}
        if len(found) > 1:
            return MIXED
        [text] = found
        return None if text == "max" else int(text)


def differences(
    wanted: LimitValues, actual: Mapping[str, float | int | None]
) -> dict[str, tuple[float | int | None, float | int | None]]:
    """Return {key: (actual, wanted)} for the limits that the kernel has otherwise; what it cannot limit is left out."""
    return {
        key: (actual[key], value)
        for key, value in wanted.items()
        if key in actual and not _same(key, actual[key], value)
    }


def _same(key: str, actual: float | None, wanted: float | None) -> bool:
    if key in WEIGHT_KEYS:
        return abs((actual or WEIGHT_DEFAULT) - (wanted or WEIGHT_DEFAULT)) <= _WEIGHT_TOLERANCE
    if actual is None or wanted is None:
        return actual is wanted
    if key == "max_cpus":
        return math.isclose(actual, wanted, rel_tol=_CPU_TOLERANCE)
    if key in {"memory_max", "memory_high", "swap_max"}:
        # The kernel counts pages.
        return int(actual) // _PAGE == int(wanted) // _PAGE
    return actual == wanted


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # The slice ended while its file was open.
        if error.errno == errno.ENODEV:
            return None
        raise


def _number(path: Path) -> int | None:
    text = _text(path)
    return None if text is None or text == "max" else int(text)
