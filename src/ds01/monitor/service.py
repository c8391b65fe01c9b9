"""The service: sample at a steady pace, listen to the GPUs, serve the last page of metrics."""

from __future__ import annotations

import faulthandler
import http.server
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ds01 import events
from ds01.gpu import reported
from ds01.gpu.attribution import person
from ds01.gpu.nvml import NvmlError, Session
from ds01.gpu.watch import GpuEvent, Watch
from ds01.gpu.xid import xid
from ds01.host.supervisor import notify
from ds01.monitor import history, metrics
from ds01.monitor.counts import EventCounts
from ds01.monitor.model import DeviceSample, Sample
from ds01.monitor.sampler import Sampler

INTERVAL_S: Final = 15.0
_LISTEN_S: Final = 5.0
_AGAIN_S: Final = 5.0
_REQUEST_S: Final = 5.0
_REPORT_S: Final = 60.0
"""Longest time between two signs of life, whatever the interval of the policy."""
_DEAF_S: Final = 60.0
"""Who listens comes by every few seconds; without a sign for so long, it hangs."""
_SAID_AGAIN_S: Final = 600.0
"""The same error on the same instance is recorded no sooner."""


class Reporter:
    """Keeps what the GPUs report where all who judge them find it, and records it with whose work it hit."""

    def __init__(self, path: Path = reported.REPORTED, clock: Callable[[], float] = time.monotonic) -> None:
        """Go on with what was reported since the boot."""
        self._path = path
        self._clock = clock
        self._said: dict[tuple[Any, ...], float] = {}
        self.events = reported.load(path)
        self.sample: Sample | None = None

    def forget(self) -> None:
        """Begin anew: the driver was loaded again, and with that all GPUs were reset."""
        self.events = ()
        self._save()

    def take(self, event: GpuEvent) -> None:
        """Note one event. Raises nothing."""
        if event.kind == "layout":
            return  # The next sample shows it.
        self.events = reported.remember(self.events, event)
        self._save()
        key = (event.kind, event.gpu_uuid, event.gi_id, event.ci_id, event.data)
        if self._clock() - self._said.get(key, float("-inf")) < _SAID_AGAIN_S:
            return
        self._said[key] = self._clock()
        device = self._device(event)
        known = None if event.xid is None else xid(event.xid)
        users = sorted({process.user for process in (device.processes if device else None) or () if process.user})
        events.record(
            "health.fail",
            actor=events.this_process("monitor"),
            subject={
                "kind": "device",
                "name": device.id if device else event.gpu_uuid,
                "gpu": device.uuid if device else event.gpu_uuid,
            },
            decision="warned",
            rule=event.kind,
            reason=f"Xid {event.xid}: {known.meaning}" if known else f"the GPU reported: {event.kind}",
            fix=known.fix if known else None,
            details={"data": event.data, "users": users, "instance": event.gi_id},
        )

    def _device(self, event: GpuEvent) -> DeviceSample | None:
        """Return the device it happened on, if that is certain."""
        devices = (self.sample.devices if self.sample else None) or ()
        found = [one for one in devices if one.gpu_uuid == event.gpu_uuid and event.gi_id in {None, one.gi_id}]
        return found[0] if len(found) == 1 else None

    def _save(self) -> None:
        try:
            reported.save(self.events, self._path)
        except OSError as error:
            _say(f"what the GPUs report cannot be kept: {error}")


class Service:
    """Everything that runs. `stop` ends it."""

    def __init__(
        self, sampler: Sampler, session: Session, reporter: Reporter, *, interval_s: float | None = None
    ) -> None:
        """Prepare.

        Args:
            sampler: Takes the samples.
            session: NVML, shared by the sampler and the listener.
            reporter: Takes what the GPUs report.
            interval_s: Seconds between samples; None: as the policy says.
        """
        self._sampler = sampler
        self._session = session
        self._reporter = reporter
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._counts = EventCounts()
        self._said: dict[str, float] = {}
        self._listened = time.monotonic()
        self._server: http.server.ThreadingHTTPServer | None = None
        self.page = b""

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    def run(self, kept: history.History, latest: Path = history.LATEST) -> None:
        """Sample until `stop`."""
        threading.Thread(target=self.listen, name="gpu events", daemon=True).start()
        while not self._stopping.is_set():
            began = time.monotonic()
            self.look(kept, latest)
            self._report()
            settings = (self._sampler.tables or {}).get("monitoring", {})
            try:
                self.serve(settings.get("metrics_port"))
            except OSError as error:
                fix = "end what listens there, or choose another monitoring.metrics_port"
                self._say({f"port {settings['metrics_port']}: no metrics: {error.strerror}: {fix}"})
            pause = self._interval_s or float(settings.get("sample_interval", INTERVAL_S))
            self._pause(max(0.1, pause - (time.monotonic() - began)))
        self.serve(None)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stopping.wait(min(left, _REPORT_S)):
            self._report()

    def _report(self) -> None:
        """Tell systemd that all goes on. Without this for some minutes it begins anew: what hangs may never end."""
        if not self._sampler.driver_hangs and time.monotonic() - self._listened < _DEAF_S:
            notify("WATCHDOG=1")

    def serve(self, port: int | None) -> None:
        """Serve the metrics on a port of this host alone; None: on none. Raises OSError."""
        if self._server is not None and self._server.server_address[1] != port:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        if self._server is None and port is not None:
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def look(self, kept: history.History, latest: Path) -> None:
        """Take one sample and put it everywhere. Raises nothing that the machine can cause."""
        sample = self._sampler.take()
        self._reporter.sample = sample
        problems = set(sample.problems)
        try:
            kept.add(sample)
            history.write_latest(sample, latest)
        except (OSError, sqlite3.Error) as error:
            problems.add(f"a sample was lost: {error}")
        tables = self._sampler.tables or {}
        self.page = metrics.page(
            sample,
            metrics.Books(
                leases=tuple(self._sampler.leases),
                members=dict(tables.get("members", {})),
                events=self._counts.counts(),
                reported=self._reporter.events,
                disk_bytes=_disk_bytes(),
                people_bytes={person(uid): size for uid, size in self._sampler.disk.items()},
            ),
        )
        self._say(problems)

    def _say(self, problems: set[str]) -> None:
        """Say what was not said within the last minutes."""
        now = time.monotonic()
        self._said = {text: at for text, at in self._said.items() if now - at < _SAID_AGAIN_S}
        for problem in sorted(problems - set(self._said)):
            _say(problem)
            self._said[problem] = now

    def listen(self) -> None:
        """Take what the GPUs report, whatever happens to their driver meanwhile."""
        generation = 0
        while not self._stopping.is_set():
            self._listened = time.monotonic()
            try:
                self._session.renew()
                if generation not in {0, self._session.generation}:
                    self._reporter.forget()
                generation = self._session.generation
                present = self._present()
                with Watch(self._session) as watch:
                    while self._present() == present and not self._stopping.is_set():
                        self._listened = time.monotonic()
                        for event in watch.events(_LISTEN_S):
                            self._reporter.take(event)
            except NvmlError:
                # The sampler meets the same and says it.
                self._stopping.wait(_AGAIN_S)

    def _present(self) -> frozenset[str]:
        """Return the GPUs of the last sample: another set needs another registration."""
        sample = self._reporter.sample
        return frozenset(gpu.uuid for gpu in (sample.gpus if sample else None) or ())


def _handler(service: Service) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            found = {"/metrics": service.page, "/health": b"ok\n"}.get(self.path)
            self.send_response(200 if found is not None else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_: Any) -> None:
            """Say nothing: there is a request every few seconds."""

    return Handler


def main() -> None:
    """Run until SIGTERM."""
    # What each thread was at when systemd's watchdog ended it is in the journal.
    faulthandler.enable()
    session = Session()
    service = Service(Sampler(session), session, Reporter())
    signal.signal(signal.SIGTERM, lambda *_: service.stop())
    signal.signal(signal.SIGINT, lambda *_: service.stop())
    kept = history.History()
    try:
        service.run(kept)
    finally:
        kept.close()
        session.close()


def _disk_bytes() -> dict[str, int]:
    found = {}
    for kind, path in (
        ("events", events.EVENTS_FILE),
        ("samples", history.HISTORY),
        ("ledger", history.HISTORY.parents[1] / "ledger.db"),
    ):
        try:
            found[kind] = path.stat().st_size
        except OSError:
            continue
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the journal has it
