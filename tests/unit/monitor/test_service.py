"""The service: steady whatever happens to the driver, and what GPUs report reaches whoever grants them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds01 import events
from ds01.gpu import reported
from ds01.gpu.nvml import Session
from ds01.gpu.watch import GpuEvent
from ds01.gpu.xid import State
from ds01.monitor.history import History, read_after, read_latest
from ds01.monitor.sampler import Place, Sampler
from ds01.monitor.service import Reporter, Service
from ds01.reconcile.observe import look_at_gpus
from lab.nvmlsim import Server


def until(done: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def log(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where events go; what GPUs reported is where everybody reads it."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setattr(events, "EVENTS_FILE", path)
    monkeypatch.setattr(reported, "REPORTED", place.reported)
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "no-journal")
    return path


def test_it_goes_on_through_a_reload_of_the_driver_and_reports_errors(
    server: Server, session: Session, place: Place, tmp_path: Path, log: Path
) -> None:
    reporter = Reporter(place.reported)
    service = Service(Sampler(session, place), session, reporter, interval_s=0.05)
    kept, latest = History(tmp_path / "h/samples.db"), tmp_path / "run/latest.json"
    runner = threading.Thread(target=service.run, args=(kept, latest))
    runner.start()
    try:
        until(lambda: service.page and reporter.sample and reporter.sample.devices)
        # Again and again, since nobody says when the GPUs are listened to.
        until(lambda: server.xid("0:1", 95) or len(reported.load()) >= 2)
        seen = look_at_gpus()
        assert seen.inventory is not None
        health = {gpu.gpu_index: gpu for gpu in seen.health}
        assert health[0].of_device(seen.inventory.find("0:1"))[0] is State.UNHEALTHY
        assert health[0].of_device(seen.inventory.find("0:0"))[0] is State.OK
        until(log.exists)
        event = json.loads(log.read_text().splitlines()[0])
        assert (event["type"], event["subject"]["name"], event["rule"]) == ("health.fail", "0:1", "xid")
        assert len(log.read_text().splitlines()) == 1, "the same error is recorded once"
        server.unload_driver()
        until(lambda: reporter.sample and reporter.sample.devices is None)
        server.load_driver()
        until(lambda: reporter.sample and reporter.sample.devices)
        # The reset that a reload is ends what was reported before.
        until(lambda: reported.load() == ())
        until(lambda: server.xid("1", 79) or {event.xid for event in reported.load()} == {79})
    finally:
        service.stop()
        runner.join(60)
    assert not runner.is_alive()
    assert read_latest(latest) == list(read_after(0, tmp_path / "h/samples.db"))[-1][1]


def test_a_driver_that_hangs_costs_what_it_knows_and_is_reported_to_systemd(
    server: Server, session: Session, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    systemd.setblocking(False)  # noqa: FBT003 - the only argument there is
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

    def signs() -> int:
        """How many signs of life came since the last call."""
        number = 0
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(100) == b"WATCHDOG=1":
                number += 1
        return number

    reporter = Reporter(place.reported)
    service = Service(Sampler(session, replace(place, driver_s=0.2)), session, reporter, interval_s=0.05)
    runner = threading.Thread(target=service.run, args=(History(tmp_path / "samples.db"), tmp_path / "latest.json"))
    runner.start()
    try:
        until(lambda: reporter.sample and reporter.sample.devices and signs())
        server.hang_driver()
        until(lambda: reporter.sample and reporter.sample.devices is None)
        blind = reporter.sample
        assert blind is not None
        assert any("the driver did not answer" in problem for problem in blind.problems)
        assert [one.user for one in blind.slices] == ["alice"], "the rest is still seen"
        signs()
        # It goes on looking, and says nothing of it to systemd, which ends it after a while.
        until(lambda: reporter.sample and reporter.sample.at > blind.at + 500)
        assert signs() == 0
        server.hang_driver(hangs=False)
        until(lambda: reporter.sample and reporter.sample.devices and signs())
        # It looked again at what may have changed meanwhile.
        assert json.loads((tmp_path / "latest.json").read_text())["devices"]
    finally:
        server.hang_driver(hangs=False)
        service.stop()
        runner.join(60)
        systemd.close()
    assert not runner.is_alive()


def test_metrics_are_served_on_the_loopback_only_and_move_with_the_policy(
    session: Session, place: Place, tmp_path: Path
) -> None:
    service = Service(Sampler(session, place), session, Reporter(place.reported))
    service.look(History(tmp_path / "samples.db"), tmp_path / "latest.json")
    service.serve(0)
    server = service._server
    assert server is not None
    assert server.server_address[0] == "127.0.0.1"
    port = server.server_address[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"ds01_monitor_sample_timestamp_seconds" in answer.read()
    service.serve(port)
    assert service._server is server
    service.serve(None)
    assert service._server is None
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")


def test_a_disk_that_is_full_costs_the_sample_and_no_more(
    session: Session, place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(Sampler(session, place), session, Reporter(place.reported))
    kept = History(tmp_path / "samples.db")
    kept.close()
    (tmp_path / "file").write_text("")
    for _ in range(3):
        service.look(kept, tmp_path / "file/latest.json")
    assert service.page
    assert capsys.readouterr().err.count("a sample was lost") == 1


def test_the_policy_says_how_often(session: Session, place: Place, tmp_path: Path) -> None:
    service = Service(Sampler(session, place), session, Reporter(place.reported))
    runner = threading.Thread(target=service.run, args=(History(tmp_path / "s.db"), tmp_path / "latest.json"))
    runner.start()
    until(lambda: service.page)
    time.sleep(0.3)
    assert len(list(read_after(0, tmp_path / "s.db"))) == 1
    assert runner.is_alive()
    service.stop()
    runner.join(60)
    assert not runner.is_alive()


def test_what_gpus_report_is_bounded_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "gpu-events.json"
    known: tuple[GpuEvent, ...] = (GpuEvent("xid", "GPU-a", 1, 0, 79, datetime.now(UTC)),)
    for number in range(5000):
        known = reported.remember(known, GpuEvent("xid", "GPU-b", None, None, 13, datetime.fromtimestamp(number, UTC)))
    assert len(known) == 101
    assert known[0].xid == 79
    reported.save(known, path)
    assert reported.load(path) == known
    assert path.stat().st_mode & 0o777 == 0o644
    path.write_text('[{"kind": 1}]')
    assert reported.load(path) == ()
