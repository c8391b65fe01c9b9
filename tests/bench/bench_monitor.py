"""Eight GPUs with seven instances each, 200 containers: a scrape, a sample, and keeping it.

A scrape is compared with one of the same number of bytes that nobody had to think about, a sample with one bare look at
the inventory, and keeping a sample with writing its bytes to a file. The table is the result; only ratios are asserted.
"""

from __future__ import annotations

import http.server
import os
import threading
import urllib.request
from pathlib import Path
from typing import Any

from ds01.gpu.inventory import read_inventory
from ds01.gpu.nvml import Session
from ds01.ledger.rows import LiveLease
from ds01.monitor import metrics
from ds01.monitor.history import History, read_after
from ds01.monitor.model import ContainerSample, Sample
from ds01.monitor.sampler import Place, Sampler
from ds01.monitor.service import Reporter, Service
from lab.nvmlsim.testing import MakeServer
from tests.bench.timing import RUNS, median_ms


def container(number: int) -> ContainerSample:
    return ContainerSample(
        id=f"{number:064x}", name=f"work{number}._.{5000 + number}", uid=5000 + number, user=f"user{number}",
        group="student", type="docker", interface="compose", managed=True, protected=False, running=True, created=1,
        token=None, names=(), cpu_us=1, memory=1, io_bytes=1, net_bytes=1,
    )  # fmt: skip


def books(sample: Sample) -> metrics.Books:
    devices, containers = sample.devices or (), sample.containers or ()
    leases = tuple(
        LiveLease(number, f"{number:032x}", device.uuid, "running", None, 1, None, one.uid or 0, one.user, "student", 1,
                  "{}", one.id, one.name)
        for number, (device, one) in enumerate(zip(devices, containers, strict=False))
    )  # fmt: skip
    return metrics.Books(leases=leases, members={one.user: "student" for one in containers})


def fetch(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        body: bytes = answer.read()
    return body


def test_scrape_and_sample(nvml_server: MakeServer, tmp_path: Path) -> None:
    server = nvml_server(["A100-80"] * 8, {gpu: ["1g.10gb"] * 7 for gpu in range(8)})
    for gpu in range(8):
        for part in range(7):
            server.attach(f"{gpu}:{part}", os.getpid(), 1 << 28)
    place = Place(
        ledger=tmp_path / "ledger.db", reported=tmp_path / "events.json", engine=tmp_path / "no-engine",
        tables=lambda _: {"admins": {"users": [], "groups": []}, "monitoring": {}},
    )  # fmt: skip
    with Session() as session:
        sampler = Sampler(session, place)
        sampler.take()
        bare = median_ms(lambda: read_inventory(session))
        sampling = median_ms(sampler.take)
        sample = sampler.take()
        service = Service(sampler, session, Reporter(place.reported))
    full = Sample(
        at=sample.at, boot=sample.boot, boot_ms=sample.boot_ms, took_ms=1, gpus=sample.gpus, devices=sample.devices,
        containers=tuple(container(number) for number in range(200)),
    )  # fmt: skip
    shown = books(full)
    render = median_ms(lambda: metrics.page(full, shown))
    service.page = metrics.page(full, shown)
    service.serve(0)
    assert service._server is not None

    class Plain(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(service.page)

        def log_message(self, *_: Any) -> None:
            pass

    plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Plain)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    scrape = median_ms(lambda: fetch(service._server.server_address[1]))  # type: ignore[union-attr]  # asserted above
    bytes_alone = median_ms(lambda: fetch(plain.server_address[1]))
    service.serve(None)
    plain.shutdown()
    kept = History(tmp_path / "h" / "samples.db")
    keep = median_ms(lambda: kept.add(full))
    text = full.to_json().encode()
    write = median_ms(lambda: (tmp_path / "plain").write_bytes(text))
    read = median_ms(lambda: list(read_after(0, tmp_path / "h" / "samples.db")), 5) / RUNS
    rows = [
        ("scrape", scrape, "the same bytes, served plainly", bytes_alone),
        ("render the page (once a sample)", render, "a scrape", scrape),
        ("take a sample", sampling, "the inventory alone", bare),
        ("keep a sample", keep, "write its bytes to a file", write),
        ("read one back", read, "keep it", keep),
    ]
    size = kept._database.execute("SELECT avg(length(body)) FROM samples").fetchone()[0]
    print(
        f"\n{len(service.page) >> 10} KiB of metrics; a sample is {len(text) >> 10} KiB, {size / 1024:.1f} KiB as kept"
    )
    for what, took, than, baseline in rows:
        print(f"{what:34} {took:8.2f} ms  {took / baseline:7.1f} x {than}")
    # A scrape is a page that is there already, however many devices there are.
    assert scrape < 3 * bytes_alone
