"""Whose is a process? Asked on a host with a real engine, real logins and real services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost

CODE = "/root/ds01-attribution-test"
ASK = f"""
import dataclasses, json, sys
sys.path.insert(0, "{CODE}")
from ds01.gpu.attribution import attribute
print(json.dumps([dataclasses.asdict(attribute(int(pid))) for pid in sys.argv[1:]]))
"""
STARTED = "for _ in $(seq 1200); do pgrep --full '^([^ ]*/)?sleep {0}$' && exit; sleep 0.1; done; exit 1"


@pytest.fixture(scope="module")
def host(lab_host: LabHost) -> Iterator[LabHost]:
    lab_host.run("mkdir", "-p", CODE)
    lab_host.copy("src/ds01", f"{CODE}/ds01")
    lab_host.sh("id ada 2>/dev/null || useradd --uid 4801 --create-home ada; loginctl enable-linger ada")
    yield lab_host
    lab_host.sh(
        "docker rm --force attributed >/dev/null; systemctl stop 'attributed-*'; pkill -KILL -U ada || true;"
        f"loginctl disable-linger ada; systemctl stop user-4801.slice; userdel --remove ada; rm -r {CODE}"
    )


def ask(host: LabHost, *pids: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.run("python3", "-c", ASK, *pids).stdout)
    return found


def pid_of(host: LabHost, number: int) -> str:
    return host.sh(STARTED.format(number)).strip()


def test_a_container_whatever_user_is_in_it(host: LabHost) -> None:
    full = host.sh("docker run --detach --name attributed --user 4801 ds01-lab/base sleep 4811").strip()
    host.sh("docker exec --detach --user 0 attributed sleep 4812")
    for number, uid in ((4811, 4801), (4812, 0)):
        (found,) = ask(host, pid_of(host, number))
        assert (found["kind"], found["engine"], found["container_id"]) == ("container", "docker", full)
        assert (found["real_uid"], found["uid"], found["command"]) == (uid, None, "sleep")


def test_a_login_also_in_disguise(host: LabHost) -> None:
    """ada's own service manager lets her name control groups as she likes."""
    disguise = f"docker-{'a' * 64}.scope"
    own = "runuser -u ada -- env XDG_RUNTIME_DIR=/run/user/4801 systemd-run --quiet --user"
    host.sh(
        f"until systemctl --quiet is-active user@4801.service; do sleep 0.1; done; {own} sleep 4822;"
        f"{own} --scope --unit={disguise} sleep 4821 </dev/null >/dev/null 2>&1 &"
    )
    for number in (4821, 4822):
        (found,) = ask(host, pid_of(host, number))
        assert (found["kind"], found["uid"], found["container_id"]) == ("user", 4801, None), found


def test_a_job_that_a_service_runs_for_a_person(host: LabHost) -> None:
    host.sh("systemd-run --quiet --unit=attributed-job --uid=ada sleep 4831")
    (found,) = ask(host, pid_of(host, 4831))
    assert (found["kind"], found["uid"], found["unit"]) == ("user", 4801, "attributed-job.service")


def test_the_login_uid_outlives_a_change_of_user(host: LabHost) -> None:
    """cron gives no user slice, but a login uid, and what it starts may become another user."""
    job = "echo 4801 > /proc/self/loginuid; exec sleep 4841"
    host.run("systemd-run", "--quiet", "--unit=attributed-cron", "sh", "-c", job)
    (found,) = ask(host, pid_of(host, 4841))
    assert (found["kind"], found["uid"], found["real_uid"]) == ("user", 4801, 0)


def test_a_daemon(host: LabHost) -> None:
    host.sh("systemd-run --quiet --unit=attributed-daemon sleep 4851")
    daemon, first = ask(host, pid_of(host, 4851), "1")
    assert (daemon["kind"], daemon["uid"], daemon["unit"]) == ("system", None, "attributed-daemon.service")
    assert first["kind"] == "system"


def test_a_display_in_the_way_is_the_systems_and_how_to_stop_it_is_said(host: LabHost) -> None:
    host.sh("cp $(command -v sleep) /usr/local/bin/Xorg; systemd-run --quiet --unit=attributed-display Xorg 4852")
    pid = host.sh("until pgrep --exact Xorg; do sleep 0.1; done").split()[-1]
    ask_worker = f"from ds01.mig.holders import worker; print(json.dumps(worker({pid})._asdict()))"
    script = f"import json, sys; sys.path.insert(0, {CODE!r}); {ask_worker}"
    found = json.loads(host.run("python3", "-c", script).stdout)
    assert (found["owner"], found["daemon"]) == ("system", True)
    assert found["fix"] == "systemctl stop display-manager"


def test_what_may_not_be_looked_at_is_not_taken_for_gone(host: LabHost) -> None:
    host.sh("mount -o remount,hidepid=2 /proc")
    try:
        script = ASK.replace("attribute(int(pid))", "attribute(1)")
        host.sh(f"cp -r {CODE} /tmp/attribution; chmod -R a+rX /tmp/attribution")
        script = script.replace(CODE, "/tmp/attribution")
        done = host.run("setpriv", "--reuid=4801", "--regid=4801", "--clear-groups", "python3", "-c", script, "1")
        (found,) = json.loads(done.stdout)
        assert (found["kind"], found["start_ticks"]) == ("unknown", None)
        assert "ask as root" in found["reason"]
    finally:
        host.sh("mount -o remount,hidepid=0 /proc; rm -rf /tmp/attribution")


def test_who_only_has_a_gpu_open_is_found_wherever_it_runs(host: LabHost) -> None:
    """A display, a debugger: no process of the GPU, yet its mode cannot change under them."""
    host.sh("mknod /dev/nvidia77 c 1 3")
    host.sh("setsid sleep 4861 </dev/nvidia77 >/dev/null 2>&1 &")
    opened = "sh -c 'exec sleep 4862 </dev/nvidia77'"
    host.sh(f"docker run --detach --rm --name attributed-open --device /dev/nvidia77 ds01-lab/base {opened}")
    ask_openers = "from ds01.mig.holders import openers; print(json.dumps(openers()))"
    script = f"import json, sys; sys.path.insert(0, {CODE!r}); {ask_openers}"
    try:
        expected = sorted(int(pid_of(host, number)) for number in (4861, 4862))
        assert json.loads(host.run("python3", "-c", script).stdout)["77"] == expected
    finally:
        host.sh("docker rm --force attributed-open; pkill --full '^sleep 4861'; rm /dev/nvidia77")
