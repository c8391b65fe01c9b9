"""Each check of the host's health says so when what it looks at is broken: on a real systemd, kernel and engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pynvml
import pytest

from ds01.policy import load_policy
from ds01.slices.names import cgroup_path
from lab.testhost import LabHost

CODE = "/root/ds01-health-test"
MB = 1 << 20
# On stdin: which check of which module (`of`), and what it is called with.
LOOK = """
import datetime as dt, importlib, json, sys
from pathlib import Path
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
given = json.load(sys.stdin)
arguments = []
if "slices" in given:
    from ds01.slices.spec import SliceSpec
    arguments.append(SliceSpec.from_dict(given["slices"]))
    if given["check"] == "slices":
        arguments.append(dt.datetime.now(dt.timezone.utc))
if "storage" in given:
    places = {name: SimpleNamespace(**entry) for name, entry in given["storage"].pop("directories", {}).items()}
    arguments.append(SimpleNamespace(storage=SimpleNamespace(**given["storage"], directories=places)))
if "tables" in given:
    arguments.append(given["tables"])
module = importlib.import_module(f"ds01.health.{given['of']}")
found = getattr(module, f"check_{given['check']}")(*arguments, **given.get("named", {}))
print(json.dumps([found.status, found.detail, found.fix, list(found.repair)]))
"""
CONVERGE = """
import datetime as dt, json, sys
sys.path.insert(0, sys.argv[1])
from ds01.slices.apply import converge_slices, remove_slices
from ds01.slices.spec import SliceSpec
given = json.load(sys.stdin)
spec = SliceSpec.from_dict(given) if given else None
now = dt.datetime.now(dt.timezone.utc)
print(len((converge_slices(spec, now, via="test") if spec else remove_slices(via="test")).problems))
"""
LEDGER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ds01.ledger import LEDGER, Ledger, create
LEDGER.parent.mkdir(parents=True, exist_ok=True)
create(LEDGER)
with Ledger() as ledger, ledger.transaction() as tx:
    tx.set_verified()
"""
# As on a host whose kernel or systemd does not know these limits.
DEAF = """#!/bin/sh
for word; do
  shift
  case $word in
    -p | MemoryMax=* | TasksMax=* | MemorySwapMax=*) ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec /usr/bin/systemd-run "$@"
"""
SLICES: dict[str, Any] = {
    "unmanaged": {"memory_max": 100 * MB},
    "groups": {"student": {"aggregate": {"memory_max": 100 * MB, "tasks_max": 60}}},
    "overrides": {}, "members": {"ada": "student"}, "unix_groups": {}, "default_group": "student",
}  # fmt: skip
SET_UP = {"exec-opts": ["native.cgroupdriver=systemd"], "live-restore": True, "features": {"cdi": True}}
RESTART = "systemctl reset-failed docker; systemctl restart docker"


@pytest.fixture(scope="module")
def host(lab_host: LabHost) -> Iterator[LabHost]:
    lab_host.run("mkdir", "-p", CODE)
    for source in ("src/ds01", pynvml.__file__, Path(click.__file__).parent):
        lab_host.copy(source, f"{CODE}/{Path(source).name}")
    yield lab_host
    lab_host.sh(f"rm -rf {CODE} /run/ds01 /var/log/ds01 /var/lib/ds01")


def look(host: LabHost, of: str, check: str, **given: Any) -> tuple[str, str]:
    wish = json.dumps({"of": of, "check": check, **given})
    found = json.loads(host.run("python3", "-c", LOOK, CODE, stdin=wish.encode()).stdout)
    # Whatever is wrong has a way to mend it.
    assert found[0] == "ok" or found[2], found
    return found[0], found[1]


def test_timers_that_do_not_run_and_jobs_that_failed(host: LabHost):
    assert look(host, "services", "timers") == ("failed", "no timer of DS01 is installed")
    unit = "/etc/systemd/system/ds01-probe"
    host.write(f"{unit}.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n")
    host.write(f"{unit}.timer", "[Timer]\nOnCalendar=yearly\n[Install]\nWantedBy=timers.target\n")
    host.sh("systemctl daemon-reload")
    try:
        assert look(host, "services", "timers") == ("failed", "not active: ds01-probe.timer")
        host.sh("systemctl start ds01-probe.timer")
        assert look(host, "services", "timers") == ("ok", "1 active, none is late")
        assert look(host, "services", "jobs")[0] == "ok"
        assert host.run("systemctl", "start", "ds01-probe.service", check=False).returncode != 0
        assert look(host, "services", "jobs") == ("failed", "failed: ds01-probe.service")
    finally:
        host.sh(f"systemctl stop ds01-probe.timer; rm {unit}.*; systemctl reset-failed; systemctl daemon-reload")


def test_limits_that_the_kernel_does_not_keep(host: LabHost):
    assert look(host, "kernel", "memory_kill")[0] == "ok"
    assert look(host, "kernel", "tasks_limit")[0] == "ok"
    host.write("/usr/local/bin/systemd-run", DEAF, 0o755)
    try:
        status, detail = look(host, "kernel", "memory_kill")
        assert (status, "three times its 32M and ended with 0" in detail) == ("failed", True), detail
        assert look(host, "kernel", "tasks_limit")[1].startswith("16 processes were asked for, 16 started")
    finally:
        host.sh("rm /usr/local/bin/systemd-run")


def test_control_groups_that_cannot_enforce(host: LabHost):
    unified = host.run("test", "-e", "/sys/fs/cgroup/cgroup.controllers", check=False).returncode == 0
    status, detail = look(host, "kernel", "cgroups", named={"allow_v1": False})
    assert (status == "ok", "cgroup v1" in detail) == (unified, not unified)
    assert look(host, "kernel", "cgroups", named={"allow_v1": True})[0] == "ok"


def test_slices_that_are_not_what_the_policy_says(host: LabHost):
    def converge(data: dict[str, Any] | None) -> None:
        assert host.run("python3", "-c", CONVERGE, CODE, stdin=json.dumps(data).encode()).stdout == "0\n"

    ada = "ds01-student-ada.slice"
    converge(SLICES)
    try:
        host.sh(f"systemd-run --quiet --unit=ds01-health-probe --slice={ada} sleep 1000")
        assert look(host, "kernel", "slices", slices=SLICES)[0] == "ok"
        assert look(host, "kernel", "newcomer", slices=SLICES)[0] == "ok"
        path = cgroup_path(ada)
        files = f"/sys/fs/cgroup/{path}/pids.max", f"/sys/fs/cgroup/pids/{path}/pids.max"
        host.run("sh", "-c", 'if [ -e "$1" ]; then echo 77 > "$1"; else echo 77 > "$2"; fi', "sh", *files)
        assert look(host, "kernel", "slices", slices=SLICES) == ("failed", f"set {ada}: tasks_max 77 -> 60")
        # Whoever comes for the first time gets what the group's file says.
        host.sh("rm -r /etc/systemd/system/ds01-student-.slice.d; systemctl daemon-reload")
        status, detail = look(host, "kernel", "newcomer", slices=SLICES)
        assert (status, "tasks_max is" in detail) == ("failed", True), detail
    finally:
        host.sh("systemctl stop ds01-health-probe; systemctl stop ds01.slice || true")
        converge(None)


def test_an_engine_that_is_not_set_up_or_open_to_others(host: LabHost):
    host.sh("mkdir -p /etc/docker; useradd intruder")
    try:
        host.write("/etc/docker/daemon.json", json.dumps(SET_UP))
        host.sh(RESTART)
        assert look(host, "engine", "engine")[0] == "ok"
        host.sh("chown root:root /run/docker.sock; chmod 600 /run/docker.sock")
        assert look(host, "engine", "engine_access") == ("ok", "only root")
        host.sh("gpasswd --add intruder docker")
        assert look(host, "engine", "engine_access") == ("failed", "in group docker: intruder")
        host.sh("gpasswd --delete intruder docker; chmod 666 /run/docker.sock")
        assert "can be opened by others than root" in look(host, "engine", "engine_access")[1]
        host.write("/etc/docker/daemon.json", json.dumps(SET_UP | {"live-restore": False}))
        host.sh(RESTART)
        assert look(host, "engine", "engine") == ("failed", "not in force: live-restore")
        host.sh("systemctl stop docker.socket docker.service")
        assert look(host, "engine", "engine")[0] == look(host, "engine", "addresses")[0] == "failed"
    finally:
        host.sh(f"userdel intruder; rm -f /etc/docker/daemon.json; {RESTART}")


def test_gpus_that_do_not_answer(host: LabHost):
    assert look(host, "gpus", "nvml")[0] == "ok"
    host.sh("nvmlsim driver unload")
    try:
        assert look(host, "gpus", "nvml")[0] == "failed"
    finally:
        host.sh("nvmlsim driver load")


def test_a_ledger_that_cannot_be_used(host: LabHost):
    policy = Path(__file__).parents[2] / "inventory/resource-limits.yaml"
    tables = load_policy(policy).policy.tables
    assert look(host, "gpus", "ledger", tables=tables)[0] == "failed"
    host.run("python3", "-c", LEDGER, CODE)
    assert look(host, "gpus", "ledger", tables=tables)[0] == "ok"
    host.sh("truncate --size=40000 /var/lib/ds01/ledger.db; rm -f /var/lib/ds01/ledger.db-*")
    status, detail = look(host, "gpus", "ledger", tables=tables)
    assert (status, "ledger.db" in detail) == ("failed", True), detail


def test_places_without_their_flags_or_rights(host: LabHost):
    host.sh("mkdir -p /srv/h; mount -t tmpfs -o nosuid,nodev none /srv/h")
    try:
        asked = {"home_root": "/srv/h", "scratch_root": "/srv/h", "nosuid_nodev": True}
        assert look(host, "storage", "mounts", storage=asked)[0] == "ok"
        host.sh("mount -o remount,nosuid,dev /srv/h")
        assert look(host, "storage", "mounts", storage=asked) == ("failed", "; ".join(["/srv/h: not nodev"] * 2))
        host.sh("install -d -m 2770 -o root -g games /srv/h/all")
        wanted = {"owner": "root", "group": "games", "mode": 0o2770, "acl": []}
        shared = {"directories": {"/srv/h/all": wanted}}
        assert look(host, "storage", "directories", storage=shared)[0] == "ok"
        host.sh("chmod 2777 /srv/h/all")
        status, detail = look(host, "storage", "directories", storage=shared)
        assert (status, "2777, not root:games 2770" in detail) == ("failed", True), detail
        assert look(host, "storage", "directories", storage={"directories": {"/srv/h/none": wanted}})[0] == "failed"
    finally:
        host.sh("umount /srv/h; rmdir /srv/h")


def test_a_clock_that_follows_nobody(host: LabHost):
    said = look(host, "host", "clock")
    assert said == ("ok", "in a container: that of the machine below")
    host.write("/usr/local/bin/systemd-detect-virt", "#!/bin/sh\nexit 1\n", 0o755)
    try:
        for answer, status in (("yes", "ok"), ("no", "warning"), ("", "warning")):
            host.write("/usr/local/bin/timedatectl", f"#!/bin/sh\necho {answer}\n", 0o755)
            assert look(host, "host", "clock")[0] == status
    finally:
        host.sh("rm -f /usr/local/bin/systemd-detect-virt /usr/local/bin/timedatectl")
