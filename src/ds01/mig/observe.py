"""The GPUs of this host as the planner sees them: layout, offers of the driver, and who uses what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import Device, Gpu
from ds01.gpu.nvml import NvmlError, Session
from ds01.gpu.processes import Processes, read_processes
from ds01.mig.card import Card, RawInstance
from ds01.mig.holders import openers, worker
from ds01.mig.model import GpuState, Holder, Instance
from ds01.mig_geometry import MODELS, model_of


class Leases(Protocol):
    """Who has been promised a device, whether or not a process of theirs uses it now."""

    def holders(self) -> Mapping[str, Sequence[Holder]]:
        """Return who has been promised which device, by its UUID."""

    def withdrawn(self, uuids: Collection[str]) -> AbstractContextManager[Sequence[Holder]]:
        """Keep devices from being promised meanwhile; yields who has been promised one before that."""


class NoLeases:
    """Where no leases are kept, or what comes back is what they are for: only processes count."""

    def holders(self) -> Mapping[str, Sequence[Holder]]:
        """Return nobody."""
        return {}

    def withdrawn(self, uuids: Collection[str]) -> AbstractContextManager[Sequence[Holder]]:  # noqa: ARG002 - the interface
        """Yield nobody."""
        return nullcontext(())


NOBODY = NoLeases()


def observe(session: Session, leases: Leases = NOBODY) -> list[GpuState]:
    """Return all GPUs, in the order of their indices. One that cannot be read says so.

    Raises:
        NvmlError: There is no NVML.
    """
    inventory = read_inventory(session)
    users = _Users(read_processes(session, inventory), leases.holders(), openers())
    states = []
    for gpu in inventory.gpus:
        state = GpuState(
            gpu.index, gpu.uuid, gpu.pci_address, gpu.model, {}, enabled=gpu.mig_enabled, pending=gpu.mig_pending
        )
        if gpu.complete:
            try:
                state = _filled(session, state, gpu, users)
            except NvmlError as error:
                state = replace(state, problem=str(error))
        else:
            found = [problem.message for problem in inventory.problems if problem.gpu_index == gpu.index]
            state = replace(state, problem="; ".join(found))
        states.append(state)
    known = {state.index for state in states}
    for problem in inventory.problems:
        if problem.gpu_index not in known:
            # Not even its UUID could be read: it is there all the same, and nothing may be concluded.
            known.add(problem.gpu_index)
            name = f"GPU {problem.gpu_index}, unreadable"
            states.append(GpuState(problem.gpu_index, name, "", "unknown model", {}, problem=problem.message))
    return sorted(states, key=lambda state: state.index)


def _filled(session: Session, state: GpuState, gpu: Gpu, users: _Users) -> GpuState:
    card = Card(session, gpu.uuid)
    offered = card.shapes() if gpu.mig_capable else {}
    if gpu.mig_capable and not offered:
        # Of a GPU that is not in MIG mode some drivers do not tell the places.
        offered = MODELS.get(model_of(gpu.model, gpu.memory_bytes) or "", {})
    raw = card.instances() if gpu.mig_enabled else []
    instances = tuple(
        _instance(instance, [device for device in gpu.devices if device.gi_id == instance.gi_id], users)
        for instance in raw
    )
    whole = () if gpu.mig_enabled else users.of(gpu.uuid)
    handle = session.call("nvmlDeviceGetHandleByUUID", gpu.uuid)
    others = users.beside(session.call("nvmlDeviceGetMinorNumber", handle), gpu.devices)
    return replace(
        state,
        profiles=offered,
        instances=instances,
        holders=(*whole, *others),
        pci_device_id=session.call("nvmlDeviceGetPciInfo", handle).pciDeviceId,
    )


def _instance(raw: RawInstance, devices: Sequence[Device], users: _Users) -> Instance:
    """Return an instance with its devices: one, unless somebody divided it further."""
    if not devices:
        return Instance(raw.placed, raw.gi_id, raw.compute)
    first, *others = devices
    holders = tuple(dict.fromkeys(holder for device in devices for holder in users.of(device.uuid)))
    further = tuple(device.uuid for device in others)
    return Instance(raw.placed, raw.gi_id, raw.compute, first.uuid, first.id, holders, further)


@dataclass(frozen=True)
class _Users:
    """Who uses devices now, has been promised them, or has their GPU open."""

    processes: Processes
    promised: Mapping[str, Sequence[Holder]]
    opened: dict[int, list[int]]

    def of(self, uuid: str) -> tuple[Holder, ...]:
        """Return who uses a device or has been promised it."""
        found = self.processes[uuid]
        if found.value is None:
            # Unknown is not nobody.
            return (Holder("unknown", f"perhaps somebody: {found.reason or 'the driver tells no processes'}"),)
        return (*(worker(process.pid, process.start_ticks) for process in found.value), *self.promised.get(uuid, ()))

    def beside(self, minor: int, devices: Iterable[Device]) -> tuple[Holder, ...]:
        """Return who else has the node of a GPU open, besides those who use one of its devices."""
        using = {process.pid for device in devices for process in self.processes[device.uuid].value or ()}
        return tuple(worker(pid) for pid in self.opened.get(minor, ()) if pid not in using)
