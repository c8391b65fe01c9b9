"""The inventory against the simulated server: whatever is there, and whatever happens while it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01.gpu.inventory import read_inventory
from ds01.gpu.model import FULL, Device, Inventory, NoDeviceError, ProblemKind
from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.mig_geometry import MODELS, Slot, place
from lab.nvmlsim import Server
from lab.nvmlsim.testing import MakeServer

SHAPES = MODELS["A100-80GB"]
FIRST = ["3g.40gb", "2g.20gb", "1g.10gb"]
SECOND = [("2g.20gb", 0), ("1g.10gb", 2), ("2g.20gb", 4)]

slots = st.lists(st.sampled_from([name for name in SHAPES if "+me" not in name]), max_size=7).filter(
    lambda names: place([Slot(name) for name in names], SHAPES) is not None
)
servers = st.lists(st.none() | slots, min_size=1, max_size=3)


@pytest.fixture
def session(nvml_server: MakeServer) -> Iterator[Session]:
    nvml_server(["A100-80"])
    with Session() as opened:
        yield opened


def truth(server: Server) -> dict[str, tuple[Any, ...]]:
    """What the simulator knows of every device, by UUID."""
    found: dict[str, tuple[Any, ...]] = {}
    for gpu in server.state()["gpus"]:
        if not gpu["mig"]:
            found[gpu["uuid"]] = (gpu["uuid"], gpu["index"], None, None, None, FULL)
        for instance in gpu["instances"]:
            for part in instance["compute"]:
                key = (gpu["uuid"], gpu["index"], instance["id"], part["id"], instance["start"], instance["profile"])
                found[part["uuid"]] = key
    return found


def seen(device: Device) -> tuple[Any, ...]:
    start = None if device.placement is None else device.placement.start
    return (device.gpu_uuid, device.gpu_index, device.gi_id, device.ci_id, start, device.profile)


def relayout(server: Server, gpu: int, layout: list[Any]) -> None:
    server.set_mig(gpu, enabled=False)
    server.set_mig(gpu, enabled=True)
    for slot in layout:
        server.add_instance(gpu, *((slot,) if isinstance(slot, str) else slot))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=servers)
def test_every_device_is_found_as_it_is(wanted: list[list[str] | None], nvml_server: MakeServer) -> None:
    placed = {}
    for index, names in enumerate(wanted):
        if names is not None:
            starts = place([Slot(name) for name in names], SHAPES)
            assert starts is not None
            placed[index] = list(zip(names, starts, strict=True))
    server = nvml_server(["A100-80"] * len(wanted), placed)
    with Session() as opened:
        found = read_inventory(opened)
    assert {device.uuid: seen(device) for device in found.devices} == truth(server)
    assert found.complete
    for gpu in found.gpus:
        assert [device.mig_index for device in gpu.devices] == (
            [*range(len(gpu.devices))] if gpu.mig_enabled else [None]
        )
        for device in gpu.devices:
            assert device.weight == (1 if device.profile == FULL else SHAPES[device.profile].compute / 7)
            assert 0 < device.memory_bytes <= (gpu.memory_bytes or 0)
            assert device.placement is None or device.placement.size == SHAPES[device.profile].memory
            assert found.find(device.id) is found.find(device.uuid) is device
            if device.mig_index is not None:
                assert found.find(f"MIG-{gpu.uuid}/{device.gi_id}/{device.ci_id}") is device
    empty = [problem.gpu_index for problem in found.problems]
    assert empty == [index for index, names in enumerate(wanted) if names == []]


def test_a_divided_gpu_is_no_device(nvml_server: MakeServer, session: Session) -> None:
    nvml_server(["A100-80", "H200-141"], {0: FIRST})
    found = read_inventory(session)
    with pytest.raises(NoDeviceError, match="divided"):
        found.find("0")
    with pytest.raises(NoDeviceError, match="divided"):
        found.find(found.gpus[0].uuid)
    assert found.find("1").model == found.gpus[1].model != found.gpus[0].model
    assert found.driver_version


def test_a_gpu_without_instances_and_one_that_waits_for_a_reset(nvml_server: MakeServer, session: Session) -> None:
    server = nvml_server(["A100-80", "A100-80"], {0: []})
    server.attach("1", os.getpid(), 1 << 30)
    read_inventory(session)
    handle = session.call("nvmlDeviceGetHandleByIndex", 1)
    session.call("nvmlDeviceSetMigMode", handle, 1)
    found = read_inventory(session)
    assert [problem.kind for problem in found.problems] == [ProblemKind.NO_INSTANCES, ProblemKind.MODE_PENDING]
    assert found.complete
    assert (found.gpus[1].mig_enabled, found.gpus[1].mig_pending) == (False, True)
    assert [device.id for device in found.devices] == ["1"]


def test_a_lost_gpu_is_a_problem_of_its_own(nvml_server: MakeServer, session: Session) -> None:
    server = nvml_server(["A100-80"] * 3, {1: FIRST})
    before = read_inventory(session)
    server.fault(1, "lost", 1)
    found = read_inventory(session)
    assert [problem.kind for problem in found.problems] == [ProblemKind.LOST]
    assert found.problems[0].gpu_index == 1
    assert found.problems[0].fix
    assert [device.id for device in found.devices] == ["0", "2"]
    assert not any(found.is_gone(device) for device in before.devices)
    server.fault(1, "lost", 0)
    assert read_inventory(session) == before


def test_after_a_reboot_each_device_leads_to_its_place(nvml_server: MakeServer, session: Session) -> None:
    server = nvml_server(["A100-80", "A100-80"], {0: SECOND})
    before = read_inventory(session)
    server.reboot()
    bare = read_inventory(session)
    assert [bare.is_gone(device) for device in before.devices] == [True, True, True, False]
    for profile, start in reversed(SECOND):
        server.add_instance(0, profile, start)
    after = read_inventory(session)
    for device in before.devices:
        now = after.successor(device)
        assert now is not None
        assert seen(now)[-2:] == seen(device)[-2:]
        assert (now.uuid == device.uuid) == (device.profile == FULL)


def test_a_driver_that_is_reloaded_is_taken_up_again(nvml_server: MakeServer, session: Session) -> None:
    server = nvml_server(["A100-80"], {0: FIRST})
    assert len(read_inventory(session).devices) == 3
    generation = session.generation
    server.unload_driver()
    for _ in range(2):
        with pytest.raises(NvmlError) as raised:
            read_inventory(session)
        assert raised.value.kind is Kind.UNAVAILABLE
        assert "modprobe" in str(raised.value)
    server.load_driver()
    assert read_inventory(session).gpus[0].devices == ()
    assert session.generation > generation


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(NvmlError, match="closed") as raised:
        session.call("nvmlDeviceGetCount")
    assert raised.value.kind is Kind.UNAVAILABLE
    assert len(read_inventory(session).devices) == 1


class Interrupted(Session):
    """A session in which something happens to the server right before one call of many."""

    def __init__(self, at: int, happens: Callable[[], None]) -> None:
        super().__init__()
        self.left = at
        self.happens = happens

    def call(self, function: str, *arguments: Any) -> Any:
        if self.left == 0:
            self.happens()
        self.left -= 1
        return super().call(function, *arguments)


def lose(server: Server) -> None:
    server.fault(0, "lost", 1)


def divide_anew(server: Server) -> None:
    relayout(server, 0, SECOND)


def undivide(server: Server) -> None:
    server.set_mig(0, enabled=False)


def reload(server: Server) -> None:
    server.unload_driver()
    server.load_driver()


@pytest.mark.parametrize("happens", [lose, divide_anew, undivide, reload, Server.reboot, Server.unload_driver])
def test_whatever_happens_at_any_call_no_device_is_half_true(
    happens: Callable[[Server], None], nvml_server: MakeServer
) -> None:
    def make() -> Server:
        return nvml_server(["A100-80", "A100-80"], {0: FIRST})

    make()
    with Interrupted(-1, lambda: None) as counting:
        undisturbed = ending(read_inventory(counting))
    calls = -counting.left - 1
    assert calls > 40
    endings = set()
    for at in range(calls):
        server = make()
        known = truth(server)

        def strike(server: Server = server) -> None:
            happens(server)

        with Interrupted(at, strike) as session:
            if happens is Server.unload_driver:
                with pytest.raises(NvmlError) as raised:
                    read_inventory(session)
                assert raised.value.kind is Kind.UNAVAILABLE
                continue
            found = read_inventory(session)
        known |= truth(server)
        for device in found.devices:
            assert seen(device) == known[device.uuid]
        endings.add(ending(found))
    # The strike was felt.
    assert happens is Server.unload_driver or endings - {undisturbed}


def ending(found: Inventory) -> str:
    return f"{[device.profile for device in found.devices]} {[problem.kind for problem in found.problems]}"


CHANGER = """
import json, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lab.nvmlsim import Server
from tests.unit.gpu.test_gpu_inventory import FIRST, SECOND, relayout, truth
server = Server(Path(sys.argv[2]))
for number in range(10**9):
    relayout(server, 0, (FIRST, SECOND, ["1g.10gb"] * 7)[number % 3])
    print(json.dumps(truth(server)), flush=True)
"""


def test_a_layout_that_changes_all_the_time_gives_no_wrong_device(nvml_server: MakeServer, tmp_path: Path) -> None:
    server = nvml_server(["A100-80", "A100-80"], {0: FIRST})
    known = truth(server)
    root = Path(__file__).parents[3]
    log = tmp_path / "log"
    found: list[Inventory] = []
    with (
        log.open("w") as stream,
        subprocess.Popen([sys.executable, "-c", CHANGER, root, server.path], stdout=stream, cwd=root) as changer,
        Session() as session,
    ):
        try:
            while log.stat().st_size == 0:
                assert changer.poll() is None
                time.sleep(0.05)
            end, enough, uuids = time.monotonic() + 4, time.monotonic() + 120, set[str]()
            while (now := time.monotonic()) < end or (len(uuids) <= 20 and now < enough):
                found.append(read_inventory(session))
                uuids |= {device.uuid for device in found[-1].devices}
            # A layout is logged when it is whole: wait for the one that was seen last.
            size = log.stat().st_size
            while log.stat().st_size < size + 2000:
                time.sleep(0.05)
        finally:
            changer.kill()
    layouts = log.read_text().splitlines()[:-1]
    for line in layouts:
        known |= {uuid: tuple(values) for uuid, values in json.loads(line).items()}
    gpu = server.state()["gpus"][0]
    known[gpu["uuid"]] = (gpu["uuid"], 0, None, None, None, FULL)
    devices = {device.uuid: seen(device) for inventory in found for device in inventory.devices}
    assert devices == {uuid: known[uuid] for uuid in devices}
    assert min(len(layouts), len(found), len(devices)) > 20
    for inventory in found:
        assert "1" in {device.id for device in inventory.devices}
        unread = {ProblemKind.CHANGING, ProblemKind.UNREADABLE} & {problem.kind for problem in inventory.problems}
        assert inventory.gpus[0].complete == inventory.complete == (not unread)
        assert inventory.complete or not inventory.gpus[0].devices


def test_threads_share_a_session_while_it_is_closed_and_opened(nvml_server: MakeServer, session: Session) -> None:
    nvml_server(["A100-80", "A100-80"], {0: FIRST})
    expected = read_inventory(session)
    found: list[Inventory] = []
    failed: list[NvmlError] = []

    def read() -> None:
        for _ in range(60):
            try:
                found.append(read_inventory(session))
            except NvmlError as error:
                failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        session.close()
        session.open()
    assert len(found) + len(failed) == 240
    assert {error.kind for error in failed} <= {Kind.UNAVAILABLE}
    assert read_inventory(session) == expected
    assert found
    assert all(inventory == expected for inventory in found)


def test_compute_instances_that_share_a_gpu_instance(nvml_server: MakeServer, session: Session) -> None:
    """What `nvidia-smi mig -cgi 3g.40gb; nvidia-smi mig -cci 0,0,0` makes: three devices with one placement."""
    nvml_server(["A100-80"], {0: []})

    def divide() -> None:
        parent = session.call("nvmlDeviceGetHandleByIndex", 0)
        shape = session.call("nvmlDeviceGetGpuInstanceProfileInfo", parent, 2)  # 3 slices
        instance = session.call("nvmlDeviceCreateGpuInstance", parent, shape.id)
        for _ in range(3):
            session.call("nvmlGpuInstanceCreateComputeInstance", instance, 0)  # 1 slice

    read_inventory(session)
    divide()
    before = read_inventory(session)
    devices = before.devices
    assert [device.profile for device in devices] == ["1c.3g.40gb"] * 3
    assert {device.weight for device in devices} == {1 / 7}
    assert len({device.placement for device in devices}) == 1
    assert sorted(device.ci_id or 0 for device in devices) == [0, 1, 2]
    assert len({device.uuid for device in devices}) == 3
    nvml_server(["A100-80"], {0: []})
    read_inventory(session)
    divide()
    after = read_inventory(session)
    for device in devices:
        moved = replace(device, gpu_uuid=after.gpus[0].uuid)
        now = after.successor(moved)
        assert now is not None
        assert (now.ci_id, now.placement) == (device.ci_id, device.placement)
