"""What two people's logins see of each other, by every way of logging in, on a real host."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.testhost import LabHost
from tests.integration.roles import Tasks

CODE = "/root/privacy-test"
ADMINS = {"users": ["root", "erin"], "groups": ["ds01-admin"]}
# Everything that must be as before, once the role has been taken off again.
PLACES = "/etc/pam.d /etc/dbus-1 /etc/security /etc/tmpfiles.d /usr/share/pam-configs /var/lib/pam /var/tmp"
STATE = f"find {PLACES} -type f | sort | xargs cat"
CHECK = """
import dataclasses, json, sys
sys.path.insert(0, "{}")
from ds01.health.privacy import check_privacy
print(json.dumps(dataclasses.asdict(check_privacy())))
"""


apply = Tasks("privacy", policy_resolved={"admins": ADMINS})


def health(host: LabHost) -> dict[str, Any]:
    return json.loads(host.run("python3", "-c", CHECK.format(CODE)).stdout)


class People:
    """What people do in logins of theirs."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def su(self, name: str, script: str) -> str:
        """In a login shell."""
        return self.host.run("su", "--login", name, "--command", f"exec 2>&1\n{script}", check=False).stdout

    def service(self, name: str, script: str) -> str:
        """By their own systemd."""
        uid = self.host.sh(f"id -u {name}").strip()
        self.host.sh(f"systemctl start user@{uid}.service")
        return self.su(
            name, f"export XDG_RUNTIME_DIR=/run/user/{uid}; systemd-run --user -q --wait --pipe sh -c '{script}'"
        )

    def job(self, name: str, script: str) -> str:
        """As cron, at and ssh start a command: a session that no terminal belongs to."""
        return self.host.run(
            "systemd-run", "-q", "--collect", "--wait", "--pipe", f"-pUser={name}", "-pPAMName=cron", "sh", "-c",
            f"exec 2>&1\n{script}", check=False,
        ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def people(lab_host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    lab_host.sh(
        "groupadd -f ds01-admin; for n in alice bob erin; do useradd -m -s /bin/bash $n; done;"
        "groupadd -f sudo; useradd -m -s /bin/bash -G ds01-admin gus; useradd -m -s /bin/bash -G sudo sue;"
        f"mkdir -p {CODE}"
    )
    lab_host.copy("src/ds01", f"{CODE}/")
    assert health(lab_host)["status"] == "failed"
    before = lab_host.sh(STATE)
    directory = tmp_path_factory.mktemp("play")
    # The bus may have seen the new file by itself.
    assert re.search("changed=[23] ", apply(lab_host, directory))
    yield People(lab_host)
    lab_host.sh("find /tmp/.ds01-private /var/tmp/.ds01-private -type f -delete; pkill -u alice,bob || :;"
                "timeout 60 sh -c 'while pgrep -u alice,bob; do sleep 0.1; done';"
                # In one of the two, nobody has logged in since the boot.
                "rm -rf /tmp/.ds01-private/*")  # fmt: skip
    apply(lab_host, directory, "remove")
    assert lab_host.sh(STATE) == before
    assert "changed=0 " in apply(lab_host, directory, "remove")
    assert lab_host.sh("ls -d /tmp/.ds01* /var/tmp/.ds01* 2>/dev/null || :") == ""
    assert "/proc/1" in People(lab_host).su("bob", "ls -d /proc/1")


def test_a_second_run_changes_nothing(people: People, tmp_path: Path):
    assert "changed=0 " in apply(people.host, tmp_path)
    assert health(people.host)["status"] == "ok"


@pytest.mark.parametrize("place", ["/tmp", "/var/tmp"])
def test_one_person_has_one_directory_that_nobody_else_reaches(people: People, place: str):
    ways = (people.su, people.service, people.job)
    for number, way in enumerate(ways):
        way("alice", f"echo hers-{number} >{place}/file-{number}; chmod -R a+rwX {place}/file-{number}")
    for way in ways:
        assert way("alice", f"cat {place}/file-*").split() == ["hers-0", "hers-1", "hers-2"]
        tried = (
            f"cat {place}/file-0; ls -A {place}; ls -lR {place}/.ds01-private; cat {place}/.ds01-private/alice/file-0"
        )
        said = way("bob", tried)
        assert "hers" not in said
        assert "file-1" not in said
    # From within her login, with his password, somebody is still himself.
    assert "hers" not in people.host.run(
        "nsenter", f"--mount=/proc/{_pid(people, 'alice')}/ns/mnt", "su", "bob", "-c", f"cat {place}/file-0 2>&1",
        check=False,
    ).stdout  # fmt: skip
    people.host.sh("pkill -u alice sleep")


def _pid(people: People, name: str) -> str:
    pid = people.su(name, "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!").strip()
    people.host.sh(f"timeout 60 sh -c 'until grep -qx sleep /proc/{pid}/comm; do sleep 0.1; done'")
    return pid


def test_nobody_sees_what_others_run(people: People):
    pid = _pid(people, "alice")
    for way in (people.su, people.service, people.job):
        said = way("bob", f"ls -d /proc/{pid}; cat /proc/{pid}/cmdline; ps -eo user:20,pid | grep -v ^bob")
        assert [line for line in said.splitlines() if "No such file" not in line and "USER" not in line] == []
        assert pid in way("alice", "ps -eo pid,args").split()
    # A user namespace of his own lifts nothing that root has mounted over.
    said = people.su("bob", f"unshare -Urm sh -c 'umount /proc; mount -t proc proc /proc; ls -d /proc/{pid}'")
    assert f"\n/proc/{pid}\n" not in f"\n{said}"
    people.host.sh(f"kill {pid}")


def test_systemd_tells_members_nothing_of_what_others_run(people: People):
    pid = _pid(people, "alice")
    slices = f"user-{people.host.sh('id -u alice').strip()}.slice"
    manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
    unit = f"/org/freedesktop/systemd1/unit/{slices.replace('-', '_2d').replace('.', '_2e')}"
    ways = {
        "all": f"busctl call {manager} GetUnitProcesses s {slices}",
        "one": f"busctl call org.freedesktop.systemd1 {unit} org.freedesktop.systemd1.Slice GetProcesses",
        "status": f"systemctl status {slices}",
    }
    for name, way in ways.items():
        for said in (people.su("bob", way), people.job("bob", way)):
            assert "sleep" not in said, (name, said)
            assert "Access denied" in said, (name, said)
        for admin in ("root", "erin", "gus", "sue"):
            assert "sleep 600" in people.su(admin, way), (name, admin)
    # The rest of systemd answers everybody as before.
    assert "Tasks:" in people.su("bob", f"systemctl status {slices}")
    assert people.su("bob", "systemctl is-active dbus.service") == "active\n"
    assert "user.slice" in people.service("bob", "systemctl --user status")
    people.host.sh(f"kill {pid}")


def test_a_bus_that_reads_the_rule_no_more_is_found_and_told(people: People, tmp_path: Path):
    rule, ask = "/etc/dbus-1/system.d/ds01-privacy.conf", "systemctl status init.scope 2>&1"
    people.host.sh(f"rm {rule}; systemctl reload dbus")
    assert "Access denied" not in people.su("bob", ask)
    assert "systemctl-status" in health(people.host)["detail"]
    assert re.search("changed=[12] ", apply(people.host, tmp_path))
    assert "Access denied" in people.su("bob", ask)
    assert health(people.host)["status"] == "ok"


@pytest.mark.parametrize("admin", ["erin", "gus", "sue", "root"])
def test_administrators_see_and_mount_for_everybody(people: People, admin: str):
    people.host.sh("echo everybody >/tmp/seen")
    assert people.su(admin, "cat /tmp/seen; ls -d /proc/1") == "everybody\n/proc/1\n"
    same = people.su(admin, "readlink /proc/self/ns/mnt")
    assert same == people.host.sh("readlink /proc/self/ns/mnt")
    people.host.sh("rm /tmp/seen")


def test_what_is_mounted_later_reaches_logins(people: People):
    # As systemd has it on every host that is no container.
    people.host.sh("mount --make-shared /; mkdir -p /srv/later")
    pid = _pid(people, "alice")
    try:
        people.host.sh("mount -t tmpfs later /srv/later; touch /srv/later/there")
        assert people.host.sh(f"nsenter --mount=/proc/{pid}/ns/mnt ls /srv/later") == "there\n"
    finally:
        people.host.sh(f"umount /srv/later; kill {pid}; mount --make-private /")


def test_the_mounts_of_a_login_name_nothing_that_others_bind_and_the_hosts_stay(people: People):
    pins, hers = "/run/ds01/binds", "/home/alice/secret-project"
    # As the gateway has them, on a host whose mounts are all shared.
    people.host.sh(f"""mount --make-rshared /; mkdir -p {pins} {hers}; mount -t tmpfs pins {pins}
    mount --make-private {pins}; mkdir {pins}/one {pins}/two; mount --bind {hers} {pins}/one""")
    pid = _pid(people, "bob")
    try:
        people.host.sh(f"mount --bind {hers} {pins}/two")
        assert people.host.sh(f"cat /proc/{pid}/mountinfo").count("binds") == 0
        for way in (people.su, people.service, people.job):
            assert way("bob", "grep -c -e binds -e secret /proc/self/mountinfo") == "0\n"
        there = people.host.sh("findmnt -rno TARGET").split()
        assert [path for path in there if path.startswith(pins)] == [pins, f"{pins}/one", f"{pins}/two"]
        # Run by hand, as root in the namespace of the host, it leaves everything as it is.
        assert people.host.run("/etc/security/namespace.d/ds01-processes", check=False).returncode != 0
        assert people.host.sh("findmnt -rno TARGET").split() == there
    finally:
        people.host.sh(f"umount -R {pins}; rm -r /run/ds01; rmdir {hers}; kill {pid}; mount --make-rprivate /")


def test_services_see_what_they_always_saw(people: People):
    people.su("alice", "true")
    assert "hidepid" not in people.host.sh("findmnt -no options /proc")
    assert people.host.sh("systemd-run -q --wait --pipe ls -d /proc/1") == "/proc/1\n"
    uid = people.host.sh("id -u alice").strip()
    assert f"user-{uid}.slice" in people.su(
        "alice", "loginctl show-session $XDG_SESSION_ID -P Name; cat /proc/self/cgroup"
    )


def test_nobody_logs_in_without(people: People):
    people.host.sh("chown bob /tmp/.ds01-private")
    try:
        assert "in" not in people.su("alice", "echo in").split()
        assert people.su("erin", "echo in") == "in\n"
        assert health(people.host)["status"] == "failed"
    finally:
        people.host.sh("chown root /tmp/.ds01-private")


def test_after_a_boot(people: People):
    people.host.reboot()
    assert people.host.sh("stat -c '%U %a' /tmp/.ds01-private") == "root 0\n"
    assert health(people.host)["status"] == "ok"
