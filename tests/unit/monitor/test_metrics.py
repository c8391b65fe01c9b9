"""What Prometheus gets: text for its own parser, every name that the documentation promises, no invented zero."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ds01.events import timestamp
from ds01.gpu.nvml import Session
from ds01.gpu.watch import GpuEvent
from ds01.ledger.rows import LiveLease
from ds01.monitor.counts import EventCounts
from ds01.monitor.metrics import Books, page
from ds01.monitor.model import ContainerSample, ProcessSample, Sample
from ds01.monitor.sampler import Place, Sampler
from lab.nvmlsim import Server

DOCUMENTED = Path(__file__).parents[3] / "docs/monitoring.md"
HOSTILE = 'x"},evil{\\\n'


def container(name: str, **others: object) -> ContainerSample:
    values = {
        "id": name.ljust(64, "0"), "name": name, "uid": 5001, "user": "alice", "group": "student", "type": "docker",
        "interface": "docker", "managed": True, "protected": False, "running": True, "created": 1, "token": None,
        "names": (), "cpu_us": 1, "memory": 2,
    }  # fmt: skip
    return ContainerSample(**{**values, **others})  # type: ignore[arg-type]  # a table of values


def lease(device: str, container_id: str) -> LiveLease:
    return LiveLease(
        1, "t" * 32, device, "running", None, 1, None, 5001, "alice", "student", 1, "{}", container_id, "a"
    )


def values(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def one(found: dict[str, dict[tuple[tuple[str, str], ...], float]], name: str, **labels: str) -> float:
    return next(value for key, value in found[name].items() if set(labels.items()) <= set(key))


def full(session: Session, place: Place) -> tuple[Sample, Books]:
    sample = Sampler(session, place).take()
    devices = {device.id: device for device in sample.devices or ()}
    containers = (
        container("a", interface="compose"),
        container(HOSTILE, user="bob", uid=5002, names=("all",), managed=False),
        container("c", names=("0",), running=False, protected=True),
    )
    reported = tuple(GpuEvent("xid", devices["0:1"].gpu_uuid, 5, 0, 94, datetime.now(UTC)) for _ in range(3))
    books = Books(
        leases=(lease(devices["0:1"].uuid, containers[0].id),),
        members={"alice": "student", "bob": "student"},
        events=Counter({("lifecycle.stop", "idle_timeout"): 2, ("container.create", ""): 5}),
        reported=reported,
        disk_bytes={"events": 10},
        people_bytes={"alice": 5},
    )
    return replace(sample, containers=containers), books


def test_the_page_says_what_is_there(
    server: Server, session: Session, place: Place, sleeper: subprocess.Popen[bytes]
) -> None:
    server.attach("0:1", sleeper.pid, 3 << 30, 60)
    found = values(page(*full(session, place)))
    assert one(found, "ds01_gpu_allocated", gpu_slot="0:1", user="alice", interface="compose", profile="2g.20gb") == 1
    assert one(found, "ds01_user_gpu_equivalents", user="alice") == 2 / 7
    assert one(found, "ds01_device_memory_used_bytes", slot="0:1") >= 3 << 30
    assert one(found, "ds01_device_processes", slot="0:1") == 1
    assert one(found, "ds01_containers_total", status="running", interface="docker") == 1
    assert one(found, "ds01_unmanaged_gpu_container", container=HOSTILE, access_type="all", running="true") == 1
    assert found["ds01_unmanaged_gpu_count"] == {(): 1}
    assert one(found, "ds01_gpu_xid_events_total", xid="94", gpu_i_id="5") == 3
    assert one(found, "ds01_lifecycle_events_total", action="idle_kill") == 2
    assert one(found, "ds01_lifecycle_events_total", action="oom_kill") == 0
    assert one(found, "ds01_events_24h_total", event_type="container.create") == 5
    assert one(found, "ds01_user_cpu_usage_seconds_total", user="alice", group="student") == 2.5
    assert one(found, "ds01_group_members_total", group="student") == 2
    assert one(found, "ds01_gpu_state", gpu="0", state="ok") == 1


def test_a_container_on_a_gpu_it_never_asked_for_is_seen_by_its_process(session: Session, place: Place) -> None:
    sample = Sampler(session, place).take()
    ours, deep = container("a", token="t" * 32), container("deep", user="", uid=None, managed=False)
    used = tuple(
        replace(
            device,
            processes=tuple(
                ProcessSample(number, 1, "container", one.id, None, "", "python", 1, 1, computes=True)
                for number, one in enumerate((ours, deep, deep))
            ),
        )
        for device in sample.devices or ()
    )
    quiet = container("quiet", managed=False)
    found = values(page(replace(sample, devices=used, containers=(ours, deep, quiet)), Books()))
    count = str(len(used))
    assert found["ds01_unmanaged_gpu_container"] == {
        (("access_type", "other"), ("container", "deep"), ("gpu_count", count), ("running", "true"), ("user", "")): 1
    }
    assert found["ds01_unmanaged_gpu_running"] == {(): 1}


def test_what_is_not_known_has_no_line(session: Session, place: Place, server: Server) -> None:
    found = values(page(Sampler(session, place).take(), Books()))
    # An A100 says of a whole GPU how busy it is, of its instances it does not.
    assert {dict(key)["slot"] for key in found["ds01_device_utilization_ratio"]} == {"1"}
    assert not {"ds01_containers_total", "ds01_unmanaged_gpu_count"} & found.keys()
    server.unload_driver()
    blind = values(page(Sampler(session, place).take(), Books()))
    assert not {name for name in blind if name.startswith(("ds01_device_", "ds01_gpu_capacity", "ds01_mig_mapping"))}
    assert blind["ds01_monitor_problems"] == {(): 2}


def test_every_documented_metric_is_emitted_and_every_emitted_one_documented(
    server: Server, session: Session, place: Place, sleeper: subprocess.Popen[bytes]
) -> None:
    server.attach("1", sleeper.pid, 3 << 30, 60)
    found = values(page(*full(session, place)))
    documented = set(re.findall(r"^\| `(ds01_\w+)", DOCUMENTED.read_text(), re.MULTILINE))
    assert {name for name in found if found[name]} - {name for name in found if name.endswith("_created")} == documented


def test_events_are_counted_once_over_a_rotation_and_forgotten_after_a_day(tmp_path: Path) -> None:
    log, now = tmp_path / "events.jsonl", [1_795_341_600.0]
    counts = EventCounts(log, clock=lambda: now[0])
    assert not counts.counts()

    def write(kind: str, torn: str = "") -> None:
        stamp = datetime.fromtimestamp(now[0], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with log.open("a") as stream:
            stream.write(json.dumps({"ts": stamp, "type": kind, "rule": "r"}) + "\n" + torn)

    write("gpu.lease")
    write("gpu.lease", torn='{"ts": ')
    assert counts.counts() == {("gpu.lease", "r"): 2}
    assert counts.counts() == {("gpu.lease", "r"): 2}
    log.rename(tmp_path / "events.jsonl.1")
    write("gpu.release")
    write("user.made-up")
    assert counts.counts() == {("gpu.lease", "r"): 2, ("gpu.release", "r"): 1}
    now[0] += 12 * 3600
    write("gpu.lease")
    now[0] += 13 * 3600
    assert counts.counts() == {("gpu.lease", "r"): 1}
    os.truncate(log, 0)
    now[0] += 20 * 3600
    assert not counts.counts()


def test_a_clock_that_ran_ahead_for_a_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    log, now = tmp_path / "events.jsonl", [1_795_341_600.0]
    counts = EventCounts(log, clock=lambda: now[0])

    def write(kind: str) -> None:
        with log.open("a") as stream:
            stream.write(json.dumps({"ts": timestamp(now[0]), "type": kind, "rule": "r"}) + "\n")

    for jump in (400 * 86_400, -400 * 86_400):
        write("gpu.lease")
        counts.counts()
        now[0] += jump
    # Back again: whatever was written meanwhile is of today, and no longer than that.
    for _ in range(3):
        now[0] += 3600
        write("gpu.release")
        assert counts.counts()["gpu.release", "r"] >= 1
    now[0] += 30 * 3600
    assert not counts.counts()
    write("gpu.lease")
    assert counts.counts() == {("gpu.lease", "r"): 1}
