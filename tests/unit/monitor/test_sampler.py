"""A sample says what the machine does, and what could not be looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from ds01.ledger import Ledger, create, leases
from ds01.ledger.devices import take_inventory
from ds01.monitor.cgroups import Group
from ds01.monitor.cputime import tree_ticks
from ds01.monitor.model import Sample, from_json
from ds01.monitor.sampler import Place, Sampler
from lab.nvmlsim import Server
from lab.nvmlsim.control import Kind


def device(sample: Sample, name: str) -> Any:
    return next(found for found in sample.devices or () if found.id == name)


def test_whose_each_process_is_and_what_nobody_holds(
    server: Server, session: Session, place: Place, sleeper: subprocess.Popen[bytes]
) -> None:
    server.attach("0:1", sleeper.pid, 3 << 30, 60)
    server.attach("0:1", os.getpid(), 1 << 30, 0, kind=Kind.GRAPHICS)
    server.leak("1", 2 << 30)
    sample = Sampler(session, place).take()
    assert [found.id for found in sample.devices or ()] == ["0:0", "0:1", "1"]
    busy = device(sample, "0:1")
    found = {process.pid: process for process in busy.processes}
    assert (found[sleeper.pid].memory, found[sleeper.pid].computes) == (3 << 30, True)
    assert found[sleeper.pid].kind in {"user", "system", "container"}
    assert found[sleeper.pid].name
    assert not found[os.getpid()].computes
    assert device(sample, "0:0").processes == ()
    assert device(sample, "1").unexplained == 2 << 30
    # On Ampere nothing tells how busy an instance is; that is no zero.
    assert (busy.busy, device(sample, "1").busy) == (None, 0.0)
    assert sample.containers is None
    assert any("no answer from the engine" in problem for problem in sample.problems)
    assert [(one.user, one.cpu_us, one.memory, one.tasks) for one in sample.slices] == [("alice", 2_500_000, 4096, 7)]
    assert sample.sessions == (("root", 1),)
    assert from_json(sample.to_json()) == sample


def test_leases_name_their_claims(server: Server, session: Session, place: Place) -> None:  # noqa: ARG001
    create(place.ledger)
    inventory = read_inventory(session)
    with Ledger(place.ledger) as ledger, ledger.transaction() as tx:
        take_inventory(tx, inventory)
        tx.set_verified()
        claim = leases.open_claim(tx, uid=5001, user="alice", group_name="student", priority=1, request="{}")
        leases.grant(tx, claim.token, inventory.find("0:1").uuid, expires=tx.now + 60_000)
    sampler = Sampler(session, place)
    sample = sampler.take()
    assert {one.id: one.token for one in sample.devices or ()} == {"0:0": None, "0:1": claim.token, "1": None}
    assert [lease.user for lease in sampler.leases] == ["alice"]


def test_a_driver_that_goes_away_and_comes_back(server: Server, session: Session, place: Place) -> None:
    sampler = Sampler(session, place)
    assert sampler.take().devices
    server.unload_driver()
    without = sampler.take()
    assert (without.gpus, without.devices) == (None, None)
    assert any("NVML" in problem for problem in without.problems)
    # What was seen of the rest is still there.
    assert without.slices
    server.load_driver()
    # MIG instances do not outlast their driver.
    assert [found.id for found in sampler.take().devices or ()] == ["1"]


def test_a_broken_policy_leaves_the_last_one_in_force(session: Session, place: Place) -> None:
    from ds01.policy.problems import PolicyError  # noqa: PLC0415 - only here

    sampler = Sampler(session, place)
    sampler.take()

    def broken(_: Path) -> dict[str, Any]:
        raise PolicyError([])

    object.__setattr__(place, "tables", broken)
    sample = sampler.take()
    assert sampler.tables is not None
    assert any("policy" in problem for problem in sample.problems)


@pytest.fixture
def exporter() -> Iterator[tuple[str, list[str]]]:
    text = [""]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text[0].encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics", text
    server.shutdown()
    server.server_close()


def test_dcgm_tells_of_an_instance_what_nvml_cannot(
    session: Session, place: Place, exporter: tuple[str, list[str]]
) -> None:
    url, text = exporter
    part = read_inventory(session).find("0:1")
    text[0] = (
        f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="0",UUID="{part.gpu_uuid}",GPU_I_ID="{part.gi_id}"}} 0.25\n'
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="1",UUID="{read_inventory(session).find("1").uuid}"}} 77\n'
    )
    tables = place.tables(place.policy)
    tables["monitoring"]["dcgm_exporter"] = url
    object.__setattr__(place, "tables", lambda _: tables)
    sampler = Sampler(session, place)
    sample = sampler.take()
    assert (device(sample, "0:1").busy, device(sample, "0:1").busy_source) == (25.0, "DCGM_FI_PROF_GR_ENGINE_ACTIVE")
    assert device(sample, "0:0").busy is None
    # Where NVML says something itself, it is believed.
    assert (device(sample, "1").busy, device(sample, "1").busy_source) == (0.0, "nvmlDeviceGetUtilizationRates")
    text[0] = "<html>"
    sample = sampler.take()
    assert device(sample, "0:1").busy is None
    assert any("DCGM" in problem for problem in sample.problems)


def test_the_time_of_a_tree_grows_only_when_it_works(sleeper: subprocess.Popen[bytes]) -> None:
    before = tree_ticks(sleeper.pid)
    worker = subprocess.Popen(["sh", "-c", "sh -c 'while :; do :; done' & wait"])
    try:
        first = tree_ticks(worker.pid)
        for _ in range(3000):
            threading.Event().wait(0.02)
            if (tree_ticks(worker.pid) or 0) > (first or 0):
                break
        assert (tree_ticks(worker.pid) or 0) > (first or 0)
    finally:
        subprocess.run(["pkill", "-KILL", "-P", str(worker.pid)], check=False)
        worker.kill()
        worker.wait()
    assert tree_ticks(sleeper.pid) == before
    assert tree_ticks(worker.pid) is None


HIDES = """
import ctypes, os, threading
threading.Thread(target=threading.Event().wait).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit, of this thread alone
"""


def test_a_process_whose_first_thread_has_ended_hides_no_traffic(tmp_path: Path) -> None:
    """Else nothing would be known of its container, and who is not known is never idle."""
    with subprocess.Popen([sys.executable, "-c", HIDES], stdout=subprocess.PIPE) as hidden:
        try:
            assert hidden.stdout is not None
            hidden.stdout.readline()
            stat = Path(f"/proc/{hidden.pid}/stat")
            while stat.read_text().rpartition(")")[2].split()[0] != "Z":
                threading.Event().wait(0.01)
            (tmp_path / "cgroup.procs").write_text(f"{hidden.pid}\n")
            assert Group(tmp_path, "").net_bytes is not None
            (tmp_path / "cgroup.procs").write_text(f"{2**22 + 1}\n{hidden.pid}\n")
            assert Group(tmp_path, "").net_bytes is not None
        finally:
            hidden.kill()
