"""Watching and ending at full size: 8 GPUs with seven instances each, 200 containers, 2,000 processes.

What the monitor costs is its CPU time for one look, as a share of the 15 seconds between two, compared with the
inventory alone; a pass is compared with listing the containers, an event with appending its bytes. MINUTES=10 lets the
monitor run for ten minutes, at its own pace and with its listener, instead of a few looks one after the other.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ds01 import events
from ds01.engine.api import Engine
from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from ds01.ledger import create
from ds01.lifecycle import passes
from ds01.monitor.history import History
from ds01.monitor.sampler import Place, Sampler
from ds01.monitor.service import Reporter, Service
from ds01.policy import load_policy
from lab.nvmlsim.testing import MakeServer

MINUTES = float(os.environ.get("MINUTES", "0"))
LOOKS = int(MINUTES * 4) or 4
INTERVAL_S = 15
CONTAINERS = 200
PROCESSES = 2_000
EVENTS = 1_000
# In a process of its own, so that its work is not counted as the monitor's.
ENGINE = """
import http.server, json, socketserver, sys
COUNT = int(sys.argv[2])
def row(number):
    return {"Id": f"{number:064x}", "Names": [f"/work{number}._.{5000 + number}"], "State": "running"}
def inspected(number):
    return {"Id": f"{number:064x}", "Name": f"/work{number}._.{5000 + number}", "Created": "2026-11-01T00:00:00Z",
            "State": {"Running": True, "Status": "running", "StartedAt": "2026-11-01T00:00:00Z"},
            "Config": {"Labels": {"ds01.managed": "true"}, "Env": ["A=b"] * 20},
            "HostConfig": {"Devices": [{"PathOnHost": f"/dev/nvidia{number % 8}"}], "Binds": ["/home/a:/b"] * 5}}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        part = self.path.split("/")
        found = {"info": {"DefaultRuntime": "runc"}, "_ping": "OK"}.get(part[-1]) or (
            [row(n) for n in range(COUNT)] if "?all" in self.path else inspected(int(part[-2], 16)))
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
    def address_string(self): return ""
class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 64
server = Server(sys.argv[1], Handler)
print("ready", flush=True)
server.serve_forever()
"""


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "engine.sock"
    with running(sys.executable, "-c", ENGINE, str(path), str(CONTAINERS)):
        yield path


def cpu_ms(action: Callable[[], object], runs: int) -> float:
    """CPU time of this process for one run."""
    began = time.process_time()
    for _ in range(runs):
        action()
    return (time.process_time() - began) * 1000 / runs


def looks(service: Service, kept: History, latest: Path) -> None:
    """Let the monitor look, all at once or as it does."""
    if MINUTES:
        threading.Timer(MINUTES * 60, service.stop).start()
        service.run(kept, latest)
    else:
        for _ in range(LOOKS):
            service.look(kept, latest)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def show(rows: list[tuple[str, float, str, float]]) -> None:
    print()
    for what, took, than, baseline in rows:
        print(f"{what:44} {took:9.3f} ms  {took / baseline:7.1f} x {than}")


def test_a_look_and_a_pass(nvml_server: MakeServer, engine: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("default_group: student\ngroups: {student: {members: [a]}}\nmonitoring: {metrics_port: null}\n")
    tables = load_policy(policy).policy.tables
    ledger, history = tmp_path / "ledger.db", tmp_path / "h" / "samples.db"
    create(ledger)
    server = nvml_server(["A100-80"] * 8, {gpu: ["1g.10gb"] * 7 for gpu in range(8)})
    place = Place(ledger=ledger, reported=tmp_path / "events.json", engine=engine, tables=lambda _: tables)
    family = f"for i in $(seq {PROCESSES // 56}); do sleep 3600 & done; echo; wait"
    with Session() as session:
        parents = [running("sh", "-c", family) for _ in range(56)]
        try:
            for number, parent in enumerate(parents):
                server.attach(f"{number // 7}:{number % 7}", parent.__enter__().pid, 1 << 28)
            alone = cpu_ms(lambda: read_inventory(session), 10)
            service = Service(Sampler(session, place), session, Reporter(place.reported))
            kept = History(history)
            service.look(kept, tmp_path / "latest.json")
            before = resident_mib()
            look = cpu_ms(lambda: looks(service, kept, tmp_path / "latest.json"), 1) / LOOKS
            grown = resident_mib() - before
        finally:
            for parent in parents:
                parent.__exit__(None, None, None)
    where = passes.Place(ledger=ledger, history=history, engine=engine, tables=lambda _: tables, patience_s=0)
    listing = cpu_ms(Engine(engine).containers, 3)
    # It reads what the monitor kept since the last one, here all looks; those after it read one.
    first = cpu_ms(lambda: passes.everything(where), 1)
    again = cpu_ms(lambda: passes.everything(where), 3)
    share = look / INTERVAL_S / 10
    print(f"\n{LOOKS} looks: {share:.2f} % of a CPU; {before:.0f} MiB after the first, {grown:+.1f} MiB since")
    show(
        [
            ("a look: sample, keep, page", look, "the inventory alone", alone),
            ("a pass of the rules over all these looks", first, "listing the containers", listing),
            ("a pass of the rules", again, "listing the containers", listing),
        ]
    )
    # Judging is not what a pass costs: asking the engine is.
    assert again < 6 * listing
    assert grown < 16


def test_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "no-journal")

    def record() -> None:
        events.record(
            "container.create", subject={"kind": "container", "name": "a"}, decision="allowed", reason="r" * 80
        )

    began = time.perf_counter()
    for _ in range(EVENTS):
        record()
    took = (time.perf_counter() - began) * 1000 / EVENTS
    line = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)[-1]
    target = os.open(tmp_path / "plain", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    began = time.perf_counter()
    for _ in range(EVENTS):
        os.write(target, line)
    plain = (time.perf_counter() - began) * 1000 / EVENTS
    os.close(target)
    print(f"\n{1000 / took:.0f} events a second")
    show([("an event", took, "its bytes appended", plain)])
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == EVENTS
