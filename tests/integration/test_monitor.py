"""The monitor beside a real engine: whose each GPU process is, what containers use, and that it outlives the engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pynvml
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.testhost import LabHost

CODE = "/root/ds01-monitor-test"
# The host has no validator; the tables of the policy are what the service would get from its cache.
MAIN = f"""
import sys
sys.path.insert(0, "{CODE}")
from ds01.gpu.nvml import Session
from ds01.monitor.history import History
from ds01.monitor.sampler import Place, Sampler
from ds01.monitor.service import Reporter, Service
tables = {{"admins": {{"users": [], "groups": []}}, "members": {{}}, "monitoring": {{"metrics_port": 9101}}}}
session = Session()
service = Service(Sampler(session, Place(tables=lambda _: tables)), session, Reporter(), interval_s=0.3)
service.run(History())
"""

START = (
    f"systemd-run --quiet --unit=monitored -p ProtectSystem=full -p MemoryMax=512M python3 {CODE}/main.py;"
    "for _ in $(seq 900); do curl --silent http://127.0.0.1:9101/metrics >/dev/null && exit; sleep 0.1; done; exit 1"
)


@pytest.fixture(scope="module")
def host(lab_host: LabHost) -> Iterator[LabHost]:
    lab_host.run("mkdir", "-p", CODE)
    for source in ("src/ds01", pynvml.__file__, Path(prometheus_client.__file__).parent):
        lab_host.copy(source, f"{CODE}/{Path(source).name}")
    lab_host.write(f"{CODE}/main.py", MAIN)
    lab_host.sh(
        "id ada 2>/dev/null || useradd --uid 4801 --create-home ada; mkdir -p /run/ds01 /var/lib/ds01 /etc/docker;"
        """echo '{"exec-opts": ["native.cgroupdriver=systemd"]}' >/etc/docker/daemon.json;"""
        "systemctl reset-failed docker; systemctl restart docker;"
        f"{START}"
    )
    yield lab_host
    lab_host.sh(
        "docker rm --force work._.4801 raw deep >/dev/null; systemctl stop monitored 'mon-*'; userdel --remove ada;"
        f"rm -rf {CODE} /run/ds01/monitor /var/lib/ds01/monitor /etc/docker/daemon.json;"
        "systemctl reset-failed docker; systemctl restart docker"
    )


def latest(host: LabHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.sh("cat /run/ds01/monitor/latest.json"))
    return found


def until(host: LabHost, done: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if host.run("test", "-e", "/run/ds01/monitor/latest.json", check=False).returncode == 0:
            sample = latest(host)
            if done(sample):
                return sample
        time.sleep(0.3)
    raise AssertionError(f"not seen: {host.sh('systemctl status monitored || true')}\n{sample}")


def metrics(host: LabHost) -> dict[str, list[Any]]:
    text = host.sh("curl --silent --fail http://127.0.0.1:9101/metrics")
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def test_processes_containers_and_slices_are_whose_they_are(host: LabHost) -> None:
    run = "docker run --detach --cgroup-parent ds01-student-ada.slice --name"
    # A fifth of a second of the processor, whatever that is in steps here.
    spin = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    worker = f"sh -c 'until [ $(cut -d\" \" -f14 /proc/1/stat) -ge 20 ]; do {spin}; done; exec sleep 4871'"
    owned = host.sh(f"{run} work._.4801 ds01-lab/base {worker}").strip()
    host.sh("docker run --detach --name raw --device /dev/nvidia1 ds01-lab/base sleep 4872")
    # Root's own: it asks for no GPU, and may make nodes of all of them.
    host.sh("docker run --detach --device-cgroup-rule 'c 195:* rwm' --name deep ds01-lab/base sleep 4874")
    host.sh("systemd-run --quiet --unit=mon-job --uid=ada sleep 4873")
    pids = {}
    for number, device in ((4871, "0"), (4872, "1"), (4873, "2"), (4874, "3")):
        script = f"for _ in $(seq 1200); do pgrep --full '^([^ ]*/)?sleep {number}$' && exit; sleep 0.1; done; exit 1"
        pids[device] = int(host.sh(script))
        host.run("nvmlsim", "attach", device, str(pids[device]), "--memory", "700")
    sample = until(host, lambda found: sum(len(one["processes"]) for one in found["devices"] or ()) == 4)
    found = {device["id"]: device["processes"] for device in sample["devices"] if device["processes"]}
    mine, raw, job = (found[device][0] for device in ("0", "1", "2"))
    assert (mine["pid"], mine["kind"], mine["container"], mine["uid"]) == (pids["0"], "container", owned, 4801)
    assert (raw["kind"], raw["uid"], raw["user"]) == ("container", None, "")
    assert (job["kind"], job["uid"], job["user"], job["name"]) == ("user", 4801, "ada", "mon-job.service")
    assert mine["memory"] == 700 << 20
    container = next(one for one in sample["containers"] if one["id"] == owned)
    assert container["cpu_us"] > 100_000
    assert container["memory"] > 0
    assert container["net_bytes"] is not None
    assert [(one["group"], one["user"]) for one in sample["slices"]] == [("student", "ada")]
    assert sample["slices"][0]["tasks"] >= 1
    page = metrics(host)
    unmanaged = {one.labels["container"]: one.labels["access_type"] for one in page["ds01_unmanaged_gpu_container"]}
    # Whose container it is makes no lease.
    assert unmanaged == {"raw": "device", "deep": "other", "work._.4801": "other"}
    assert page["ds01_unmanaged_gpu_running"][0].value == 3


def test_it_outlives_the_engine(host: LabHost) -> None:
    host.sh("systemctl stop docker.socket docker.service")
    sample = until(host, lambda found: found["containers"] is None)
    # Processes are still seen: the kernel says in which container each is.
    assert sum(len(one["processes"]) for one in sample["devices"]) >= 1
    assert "ds01_containers_total" not in {name for name, rows in metrics(host).items() if rows}
    host.sh("systemctl reset-failed docker; systemctl start docker.socket docker.service; docker rm --force raw deep")
    until(host, lambda found: found["containers"] is not None and "raw" not in str(found["containers"]))
    assert host.sh("systemctl show -P NRestarts monitored").strip() == "0"


def test_one_that_hangs_with_the_driver_is_started_anew(host: LabHost) -> None:
    host.sh("systemctl stop monitored")
    start = "systemd-run --quiet --unit=mon-watched -p WatchdogSec=20s -p LimitCORE=0 -p Restart=always"
    host.sh(f"{start} python3 {CODE}/main.py")
    restarts = "for _ in $(seq 1200); do [ $(systemctl show -P NRestarts mon-watched) -ge 1 ] && exit; sleep 0.1; done"
    try:
        first = until(host, lambda found: found["devices"])
        host.run("nvmlsim", "driver", "hang")
        host.sh(f"{restarts}; exit 1")
        assert "watchdog" in host.sh("journalctl --sync; journalctl --unit=mon-watched --output=cat").lower()
        host.run("nvmlsim", "driver", "wake")
        until(host, lambda found: found["devices"] and found["at"] > first["at"])
    finally:
        host.sh(f"nvmlsim driver wake; systemctl stop mon-watched; {START}")


def test_nobody_else_reads_the_samples(host: LabHost) -> None:
    for path in ("/run/ds01/monitor/latest.json", "/var/lib/ds01/monitor/samples.db"):
        assert host.run("runuser", "-u", "ada", "--", "cat", path, check=False).returncode == 1
    assert host.sh("ss -Hltn 'sport = :9101' | tr -s ' ' | cut -d' ' -f4").split() == ["127.0.0.1:9101"]
