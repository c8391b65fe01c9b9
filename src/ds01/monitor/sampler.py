"""Take a sample: devices, processes, containers, slices; whatever fails leaves its own part unknown and no other."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ds01.engine.api import Engine, EngineUnavailableError
from ds01.gpu import reported
from ds01.gpu.attribution import attribute, person
from ds01.gpu.health import assess
from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import Device, GpuProcess, Inventory
from ds01.gpu.nvml import NvmlError, Session
from ds01.gpu.patience import LOOK_S, DriverHangsError, Patience
from ds01.gpu.processes import Processes, read_processes, unexplained_memory
from ds01.gpu.readings import Meter, Readings
from ds01.ledger import LEDGER, Ledger, LedgerError, LedgerMissingError, disk, leases, system_clock
from ds01.ledger.clock import Clock
from ds01.ledger.rows import LiveLease
from ds01.monitor import cgroups, dcgm
from ds01.monitor.containers import Containers, infrastructure
from ds01.monitor.cputime import tree_ticks
from ds01.monitor.model import ContainerSample, DeviceSample, GpuSample, ProcessSample, Sample
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables
from ds01.policy.nss import is_admin
from ds01.policy.problems import PolicyError

SESSIONS: Final = Path("/run/systemd/sessions")


@dataclass(frozen=True)
class Place:
    """Where everything is; tests have their own."""

    ledger: Path = LEDGER
    policy: Path = Path(DEFAULT_PATH)
    cgroups: Path = cgroups.ROOT
    sessions: Path = SESSIONS
    reported: Path = reported.REPORTED
    engine: Path | None = None
    """The engine's socket; None: wherever it listens."""
    driver_s: float = LOOK_S
    """How long the driver is waited for."""
    tables: Callable[[Path], dict[str, Any]] = field(default=load_tables)
    """Reads the policy."""


class Sampler:
    """Takes samples, one after the other; it keeps what makes the next one cheap. For one thread."""

    def __init__(self, session: Session, place: Place | None = None, *, clock: Clock = system_clock) -> None:
        """Sample through an NVML session, which may not be open yet."""
        self._session = session
        self._place = place or Place()
        self._clock = clock
        self._meter = Meter(session)
        self._patience = Patience()
        self._containers = Containers()
        self.tables: dict[str, Any] | None = None
        """The policy in force; the last valid one while it is broken, None before there was any."""
        self.leases: list[LiveLease] = []
        self.disk: dict[int, int] = {}
        """Bytes that people's containers, volumes and images take, by uid, as it was measured last."""
        self.driver_hangs = False
        """Whether the driver did not answer the last time."""

    def take(self) -> Sample:
        """Return what there is now. Raises nothing that the machine can cause."""
        began = time.perf_counter()
        moment = self._clock()
        problems: list[str] = []
        settings = self._settings(problems)
        self.leases = self._leases(problems)
        # In this order: whatever container a process is in must be among those that are listed afterwards.
        gpus, devices = self._gpus(settings, problems)
        groups = cgroups.find(self._place.cgroups)
        containers = self._engine(groups, problems)
        return Sample(
            at=moment.wall_ms,
            boot=moment.boot,
            boot_ms=moment.boot_ms,
            took_ms=round((time.perf_counter() - began) * 1000, 1),
            gpus=gpus,
            devices=_owned(devices, containers),
            containers=containers,
            slices=cgroups.read_slices(groups),
            sessions=_sessions(self._place.sessions),
            problems=tuple(problems),
        )

    def _settings(self, problems: list[str]) -> Mapping[str, Any]:
        try:
            self.tables = self._place.tables(self._place.policy)
        except PolicyError as error:
            problems.append(f"the policy cannot be used: {len(error.errors)} problems")
        found: Mapping[str, Any] = (self.tables or {}).get("monitoring", {})
        return found

    def _leases(self, problems: list[str]) -> list[LiveLease]:
        try:
            with Ledger(self._place.ledger) as ledger, ledger.read() as view:
                self.disk = disk.totals(view)
                return leases.live(view)
        except LedgerMissingError:
            return []
        except LedgerError as error:
            problems.append(str(error))
            return []

    def _gpus(
        self, settings: Mapping[str, Any], problems: list[str]
    ) -> tuple[tuple[GpuSample, ...] | None, tuple[DeviceSample, ...] | None]:
        try:
            inventory, readings, processes = self._patience.ask(self._ask_driver, self._place.driver_s)
        except NvmlError as error:
            self.driver_hangs = isinstance(error, DriverHangsError)
            problems.append(str(error))
            return None, None
        self.driver_hangs = False
        problems += [problem.message for problem in inventory.problems]
        health = {one.gpu_uuid: one for one in assess(inventory, readings, reported.load(self._place.reported))}
        busy = _dcgm(settings.get("dcgm_exporter"), problems)
        held = {lease.device: lease.token for lease in self.leases}
        gpus = tuple(
            GpuSample(
                index=gpu.index,
                uuid=gpu.uuid,
                model=gpu.model,
                mig=gpu.mig_enabled,
                state=str(health[gpu.uuid].state) if gpu.uuid in health else "ok",
                power_mw=readings.gpus[gpu.uuid].power_mw.value,
                energy_mj=readings.gpus[gpu.uuid].energy_mj.value,
                temperature_c=readings.gpus[gpu.uuid].temperature_c.value,
            )
            for gpu in inventory.gpus
        )
        devices = tuple(
            _device(device, readings, processes, busy, held.get(device.uuid)) for device in inventory.devices
        )
        return gpus, devices

    def _ask_driver(self) -> tuple[Inventory, Readings, Processes]:
        inventory = read_inventory(self._session)
        return inventory, self._meter.read(inventory), read_processes(self._session, inventory)

    def _engine(self, groups: cgroups.Groups, problems: list[str]) -> tuple[ContainerSample, ...] | None:
        tables = self.tables or {"admins": {"users": [], "groups": []}}
        try:
            engine = Engine(self._place.engine, timeout=10.0)
            return self._containers.look(
                engine, groups, infrastructure(tables), lambda uid, user: is_admin(tables, uid, user)
            )
        except EngineUnavailableError as error:
            problems.append(str(error))
            return None


def _dcgm(url: str | None, problems: list[str]) -> dcgm.Readings:
    if not url:
        return {}
    try:
        return dcgm.fetch(url)
    except dcgm.DcgmError as error:
        problems.append(str(error))
        return {}


def _device(
    device: Device, readings: Readings, processes: Processes, busy: dcgm.Readings, token: str | None
) -> DeviceSample:
    reading, known = readings.devices[device.uuid], processes[device.uuid]
    counter, source = reading.utilisation.value, reading.utilisation.source
    if counter is None and (found := dcgm.of_device(busy, device)) is not None:
        counter, source = found
    return DeviceSample(
        id=device.id,
        uuid=device.uuid,
        gpu_uuid=device.gpu_uuid,
        gpu_index=device.gpu_index,
        gi_id=device.gi_id,
        profile=device.profile,
        weight=device.weight,
        memory_total=reading.memory_total.value,
        memory_used=reading.memory_used.value,
        busy=counter,
        busy_source=source if counter is not None else f"{source}: {reading.utilisation.state}",
        processes=None if known.value is None else tuple(map(_process, known.value)),
        unexplained=unexplained_memory(reading.memory_used, known).value,
        token=token,
    )


def _process(process: GpuProcess) -> ProcessSample:
    origin = attribute(process.pid, process.start_ticks)
    uid = origin.uid if origin.kind == "user" else None
    return ProcessSample(
        pid=process.pid,
        start_ticks=process.start_ticks,
        kind=origin.kind,
        container=origin.container_id,
        uid=uid,
        user="" if uid is None else person(uid),
        name=origin.unit or origin.command,
        memory=process.memory.value,
        cpu_ticks=None if origin.kind == "unknown" else tree_ticks(process.pid),
        computes=process.kind != "graphics",
    )


def _owned(
    devices: tuple[DeviceSample, ...] | None, containers: tuple[ContainerSample, ...] | None
) -> tuple[DeviceSample, ...] | None:
    """Say whose the processes in containers are."""
    if devices is None or containers is None:
        return devices
    owners = {container.id: container for container in containers}

    def named(process: ProcessSample) -> ProcessSample:
        owner = owners.get(process.container or "")
        return process if owner is None else replace(process, uid=owner.uid, user=owner.user)

    return tuple(
        device if device.processes is None else replace(device, processes=tuple(map(named, device.processes)))
        for device in devices
    )


def _sessions(directory: Path) -> tuple[tuple[str, int], ...]:
    """Return who is logged in over the network, and how often."""
    found: dict[str, int] = {}
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return ()
    for entry in entries:
        try:
            # Beside each session is the pipe that stands for it, and reading that one waits for its end.
            if not entry.is_file(follow_symlinks=False):
                continue
            lines = Path(entry).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue  # It ended.
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        if values.get("REMOTE") == "1" and values.get("CLASS") == "user" and values.get("UID", "").isdecimal():
            try:
                user = pwd.getpwuid(int(values["UID"])).pw_name
            except KeyError:
                user = values["UID"]
            found[user] = found.get(user, 0) + 1
    return tuple(sorted(found.items()))
