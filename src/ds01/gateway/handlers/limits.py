"""Limits of one container by the policy, in the engine's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ds01.gateway.refusals import Refused
from ds01.policy.resolver import Resolved
from ds01.policy.units import format_number, format_size
from ds01.slices.kernel import Disk

_NANO: Final = 1_000_000_000
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
"""Kept small enough for hundreds of containers; without a size, one loop fills the disk of all."""
CPU_SHARES_MAX: Final = 1024

Warnings = list[str]


def apply(
    host: dict[str, Any], limits: Resolved, warnings: Warnings, *, cpus_here: int, disks: Iterable[Disk] = ()
) -> None:
    """Set the limits of a container: what was asked for, but not more than the policy allows.

    Args:
        host: The HostConfig, changed in place.
        limits: What its owner may use.
        warnings: What the owner is told.
        cpus_here: CPUs of this host; the engine refuses more.
        disks: The disks of this host, each of which has the limits of reading and writing.
    """
    values = limits.values
    _cpus(host, values["max_cpus"], warnings, cpus_here)
    host["Memory"] = _least("memory", host.get("Memory"), values["memory"], warnings)
    swap = values["memory_swap"]
    asked = host.get("MemorySwap")
    if swap is not None:
        # Swap is on top of memory, so it cannot be less; -1 would be without end.
        asked = swap if asked in {None, 0, -1} else min(asked, swap)
        host["MemorySwap"] = max(asked, host["Memory"] or 0)
    if host.get("MemoryReservation") and host["Memory"]:
        host["MemoryReservation"] = min(host["MemoryReservation"], host["Memory"])
    host["ShmSize"] = _least("shm_size", host.get("ShmSize"), values["shm_size"], warnings)
    _pids(host, values["pids_limit"], warnings)
    host["CpuShares"] = min(host.get("CpuShares") or 0, CPU_SHARES_MAX)
    for field, key in (("BlkioDeviceReadBps", "io_read_bps"), ("BlkioDeviceWriteBps", "io_write_bps")):
        if values[key] is not None:
            host[field] = [{"Path": disk.path, "Rate": values[key]} for disk in disks]
    host["LogConfig"] = _LOG


def clamp_update(wanted: dict[str, Any], limits: Resolved, warnings: Warnings) -> dict[str, Any]:
    """Return a change of limits that stays within the policy's. Raises Refused when it does not."""
    values = limits.values
    for field, key, scale in (("Memory", "memory", 1), ("NanoCpus", "max_cpus", _NANO), ("PidsLimit", "pids_limit", 1),
                              ("MemorySwap", "memory_swap", 1), ("MemoryReservation", "memory", 1)):  # fmt: skip
        limit = values[key]
        asked = wanted.get(field)
        if asked is None or limit is None:
            continue
        if asked <= 0 or asked > limit * scale:
            raise Refused(403, f"{field} {asked} is not within your limit {key} = {_text(key, limit)}", f"limits.{key}",
                          "`check-limits` shows what you may use")  # fmt: skip
    quota, period = wanted.get("CpuQuota"), wanted.get("CpuPeriod") or 100_000
    if quota is not None and values["max_cpus"] is not None and not 0 < quota <= values["max_cpus"] * period:
        raise Refused(403, f"CpuQuota {quota} is not within your limit max_cpus = {values['max_cpus']}",
                      "limits.max_cpus", "use --cpus")  # fmt: skip
    if (policy := wanted.get("RestartPolicy")) is not None:
        wanted = wanted | {"RestartPolicy": restart_policy(policy, warnings)}
    if "CpuShares" in wanted:
        wanted = wanted | {"CpuShares": min(max(wanted["CpuShares"], 0), CPU_SHARES_MAX)}
    return wanted


def restart_policy(wanted: dict[str, Any] | None, warnings: Warnings) -> dict[str, Any]:
    """Return a restart policy under which no container starts unasked, after a reboot or a stop for idling."""
    name = (wanted or {}).get("Name") or "no"
    if name in {"no", "on-failure"}:
        return {"Name": name, "MaximumRetryCount": max((wanted or {}).get("MaximumRetryCount") or 0, 0)}
    if name not in {"always", "unless-stopped"}:
        raise Refused(400, f"RestartPolicy.Name: {name[:40]!r}: expected no or on-failure", "api.field")
    warnings.append(f"--restart {name} became on-failure: containers do not start by themselves on a shared server")
    return {"Name": "on-failure", "MaximumRetryCount": 3}


def _cpus(host: dict[str, Any], limit: float | None, warnings: Warnings, cpus_here: int) -> None:
    period = host.pop("CpuPeriod", None) or 100_000
    quota = host.pop("CpuQuota", None)
    asked = host.get("NanoCpus") or (quota * _NANO // period if quota and quota > 0 else 0)
    most = cpus_here * _NANO if limit is None else min(cpus_here * _NANO, round(limit * _NANO))
    if asked > most:
        warnings.append(f"CPUs: {format_number(asked / _NANO)} became your limit {format_number(most / _NANO)}")
    host["NanoCpus"] = min(asked, most) if asked > 0 else most


def _least(key: str, asked: int | None, limit: int | None, warnings: Warnings) -> int:
    asked = asked if asked and asked > 0 else 0
    if limit is None:
        return asked
    if asked > limit:
        warnings.append(f"{key}: {format_size(asked)} became your limit {format_size(limit)}")
    return min(asked, limit) if asked else limit


def _pids(host: dict[str, Any], limit: int | None, warnings: Warnings) -> None:
    asked = host.get("PidsLimit") or 0
    if limit is None:
        host["PidsLimit"] = asked if asked > 0 else None
        return
    if asked > limit:
        warnings.append(f"pids_limit: {asked} became your limit {limit}")
    # The engine reads 0 and less as without end.
    host["PidsLimit"] = min(asked, limit) if asked > 0 else limit


def _text(key: str, value: Any) -> str:
    return format_size(value) if key.startswith("memory") else format_number(value)
