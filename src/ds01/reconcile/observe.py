"""Look at the engine, the GPUs and the CDI specs. Nothing is changed, and nothing is remembered."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from ds01.cdi.files import SpecFiles
from ds01.engine.api import Engine
from ds01.engine.owners import uid_in_name
from ds01.gpu import reported
from ds01.gpu.attribution import Origin, attribute
from ds01.gpu.health import GpuHealth, assess
from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import Inventory
from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.gpu.patience import LOOK_S, DriverHangsError, Patience
from ds01.gpu.processes import read_processes
from ds01.gpu.readings import Meter
from ds01.ledger import Ledger
from ds01.ledger.rows import ObjectKind

from .containers import seen_container
from .model import Observation, SeenObject, SeenProcess


def observe(engine: Engine, ledger: Ledger, specs: SpecFiles) -> Observation:
    """Return what there is.

    Raises:
        EngineUnavailableError: The engine does not answer, so nothing can be said.
        LedgerError: The ledger cannot be read.
    """
    with ledger.read() as view:
        at = view.now
        known = frozenset(_keys(view.value(_KNOWN)))
        bound = frozenset(json.loads(view.value(_BOUND)))
    runtime = str(engine.info().get("DefaultRuntime", ""))
    # In this order: whatever container a process is in must be among those that are listed afterwards.
    gpus = look_at_gpus()
    containers = tuple(seen_container(found, runtime) for found in engine.containers())
    return Observation(
        at=at,
        containers=containers,
        objects=(*_named(engine, "volume"), *_named(engine, "network")),
        inventory=gpus.inventory,
        health=gpus.health,
        processes=gpus.processes,
        specs=specs.given(),
        known=known,
        bound=bound,
        nvml_trouble=gpus.trouble,
    )


_KNOWN: Final = "SELECT json_group_array(json_array(kind, engine_id)) FROM objects WHERE removed IS NULL"
_BOUND: Final = "SELECT json_group_array(container_id) FROM claims WHERE state = 'open' AND container_id IS NOT NULL"


def _keys(text: str) -> list[tuple[ObjectKind, str]]:
    return [(kind, identity) for kind, identity in json.loads(text)]


def _named(engine: Engine, kind: ObjectKind) -> list[SeenObject]:
    if kind == "volume":
        rows = [(str(row["Name"]), str(row["Name"])) for row in engine.get("/volumes").get("Volumes") or []]
    else:
        rows = [(str(row["Id"]), str(row["Name"])) for row in engine.get("/networks")]
    return [SeenObject(kind, identity, name, uid) for identity, name in rows if (uid := uid_in_name(name)) is not None]


class SeenGpus(NamedTuple):
    """The devices, how they are and who uses them; `trouble` says why one of these is None."""

    inventory: Inventory | None = None
    health: tuple[GpuHealth, ...] = ()
    processes: tuple[SeenProcess, ...] | None = None
    trouble: str = ""


_PATIENCE: Final = Patience()
"""There is one driver."""


def look_at_gpus(limit_s: float = LOOK_S) -> SeenGpus:
    """Ask NVML for everything; without one, or with a driver that hangs, nothing is known."""
    try:
        return _PATIENCE.ask(_ask_nvml, limit_s)
    except DriverHangsError as error:
        return SeenGpus(trouble=str(error))


def _ask_nvml() -> SeenGpus:
    try:
        with Session() as session:
            inventory = read_inventory(session)
            health = assess(inventory, Meter(session).read(inventory), reported.load())
            lists = read_processes(session, inventory)
    except NvmlError as error:
        if error.kind is Kind.UNAVAILABLE:
            return SeenGpus(trouble=str(error))
        raise
    silent = [str(processes.reason) for processes in lists.values() if not processes.known]
    if silent:
        # Who is on one of the devices cannot be said: nobody is taken for gone.
        why = f"NVML does not tell who uses {len(silent)} of {len(lists)} devices: {silent[0]}"
        return SeenGpus(inventory, health, trouble=why)
    found = [process for processes in lists.values() for process in processes.value or ()]
    users = [
        _process(process.device_uuid, attribute(process.pid, process.start_ticks))
        for process in found
        if process.kind != "graphics"
    ]
    return SeenGpus(inventory, health, tuple(users))


def _process(device: str, origin: Origin) -> SeenProcess:
    return SeenProcess(
        device=device,
        pid=origin.pid,
        start_ticks=origin.start_ticks,
        container_id=origin.container_id,
        uid=origin.uid if origin.uid is not None else origin.real_uid,
        name=origin.unit or origin.command or f"process {origin.pid}",
    )
