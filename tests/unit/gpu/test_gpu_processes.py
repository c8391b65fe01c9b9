"""Who is on which device."""

from __future__ import annotations

from collections.abc import Callable

from ds01.gpu.attribution import attribute, start_ticks
from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import GpuProcess, Measured
from ds01.gpu.nvml import Session
from ds01.gpu.processes import UNEXPLAINED_MIN_BYTES, read_processes, unexplained_memory
from ds01.gpu.readings import Meter
from lab.nvmlsim import Server
from lab.nvmlsim.control import Kind

Sleeper = Callable[[], int]
GIB = 1 << 30


def test_each_process_is_on_its_device(session: Session, server: Server, sleeper: Sleeper) -> None:
    pids = {name: sleeper() for name in ("0:0", "0:1", "1", "2:2")}
    for number, (name, pid) in enumerate(pids.items()):
        server.attach(name, pid, (number + 1) * GIB)
    found = read_inventory(session)
    processes = read_processes(session, found)
    assert processes.keys() == {device.uuid for device in found.devices}
    for number, (name, pid) in enumerate(pids.items()):
        device = found.find(name)
        (process,) = processes[device.uuid].value or ()
        assert (process.pid, process.memory.value, process.kind) == (pid, (number + 1) * GIB, "compute")
        assert (process.device_uuid, process.gpu_uuid) == (device.uuid, device.gpu_uuid)
        assert (process.gi_id, process.ci_id) == (device.gi_id, device.ci_id)
        assert process.start_ticks == start_ticks(pid) is not None
        assert attribute(process.pid, process.start_ticks).command == "sleep"
    assert processes[found.find("3").uuid].value == ()


def test_a_process_on_several_devices_and_several_on_one(session: Session, server: Server, sleeper: Sleeper) -> None:
    many = [sleeper() for _ in range(12)]
    for pid in many:
        server.attach("1", pid, GIB)
    server.attach("3", many[0], GIB)
    server.attach("3", many[1], GIB, kind=Kind.GRAPHICS)
    server.attach("3", many[0], GIB, kind=Kind.GRAPHICS)
    server.attach("3", many[2], GIB, kind=Kind.HOLDER)
    found = read_inventory(session)
    processes = read_processes(session, found)
    assert [process.pid for process in processes[found.find("1").uuid].value or ()] == sorted(many)
    listed = {process.pid: process.kind for process in processes[found.find("3").uuid].value or ()}
    assert listed == {many[0]: "compute", many[1]: "graphics"}


def test_memory_that_nobody_holds_is_noticed(session: Session, server: Server, sleeper: Sleeper) -> None:
    server.attach("1", sleeper(), 3 * GIB)
    server.attach("0:1", sleeper(), 3 * GIB)

    def rest(name: str) -> Measured[int]:
        found = read_inventory(session)
        uuid = found.find(name).uuid
        used = Meter(session).read(found).devices[uuid].memory_used
        return unexplained_memory(used, read_processes(session, found)[uuid])

    for name in ("1", "0:1", "0:0", "3"):
        assert rest(name).value == 0
    for name in ("1", "0:1"):
        server.leak(name, 4 * GIB)
        assert abs((rest(name).value or 0) - 4 * GIB) < UNEXPLAINED_MIN_BYTES
    server.fault(1, "lost", 1)
    found = read_inventory(session)
    assert not any(device.gpu_index == 1 for device in found.devices)


def test_what_is_not_told_is_unknown(session: Session, server: Server) -> None:
    found = read_inventory(session)
    uuid = found.find("1").uuid
    server.fault(1, "lost", 1)
    lost = read_processes(session, found)[uuid]
    assert (lost.state, lost.value) == ("unknown", None)
    assert unexplained_memory(Measured.of(5 * GIB, "a"), lost).state == "unknown"
    silent = GpuProcess(1, 1, Measured.unsupported("b"), uuid, uuid, None, None, "compute")
    assert unexplained_memory(Measured.of(5 * GIB, "a"), Measured.of((silent,), "b")).state == "unknown"
