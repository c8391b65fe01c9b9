"""Storage on a real host: what the kernel lets people do in shared, protected and private directories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost

CODE = "/opt/storage-test"
DRIVER = f"""
import json, os, sys
os.umask(0o077)
sys.path.insert(0, "{CODE}")
from ds01.storage import setup
from ds01.problems import RefusedError
request = json.load(sys.stdin)
check = request.pop("check", False)
try:
    print(json.dumps(setup.undo(check=check) if request.pop("undo", False) else setup.run(request, check=check)))
except RefusedError as error:
    print(json.dumps({{"refused": [str(problem) for problem in error.problems]}}))
"""
POLICY = {
    "directories": {
        "/collaborative": {"group": "ds01-users", "mode": "2770", "acl": ["group:ds01-users:rwx"]},
        "/readonly": {"group": "ds01-users", "mode": 0o2750, "acl": ["group:ds01-admin:rwx"]},
    }
}
# Everything that must be as before, once the role has been taken off again.
STATE = (
    "find /etc/systemd /var/lib/ds01 2>/dev/null | sort; ls -ld /srv/data; getfacl -p /srv/data; "
    "grep -E ' /(home|scratch|mnt/own) ' /proc/self/mountinfo || true"
)


class Storage:
    """The storage code on the host, as the module calls it."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def run(self, **config: Any) -> dict[str, Any]:
        """Apply a policy, or undo it."""
        return json.loads(self.host.run("python3", f"{CODE}/driver.py", stdin=json.dumps(config).encode()).stdout)

    def as_user(self, name: str, script: str, umask: str = "077") -> int:
        """The exit status of a script that a person runs."""
        return self.host.run("su", name, "-s", "/bin/sh", "-c", f"umask {umask}; {script}", check=False).returncode


@pytest.fixture
def storage(lab_host: LabHost) -> Iterator[Storage]:
    lab_host.sh(
        f"mkdir -p {CODE} /opt/before && cp -a /etc/passwd /etc/shadow /etc/group /etc/gshadow /opt/before/; "
        "groupadd -r ds01-users; groupadd -r ds01-admin; for n in ua ub; do useradd -m -G ds01-users $n; done; "
        "useradd -m -G ds01-users,ds01-admin uc; useradd -m ud; mkdir -p /srv/data"
    )
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    result = Storage(lab_host)
    yield result
    result.run(undo=True)
    lab_host.sh(
        "rm -rf /collaborative /readonly /scratch /srv/data /home/u?; cp -a /opt/before/* /etc/; rm -rf /opt/before; "
        f"rm -rf {CODE}; systemctl daemon-reload"
    )


def test_predicted_done_and_done_once(storage: Storage):
    predicted = storage.run(**POLICY, check=True)
    assert "mountinfo" not in storage.host.sh("ls -d /collaborative /scratch 2>/dev/null || true")
    assert storage.run(**POLICY)["changes"] == predicted["changes"]
    assert storage.run(**POLICY)["changed"] is False
    assert storage.host.sh("systemctl is-active home.mount scratch.mount") == "active\nactive\n"


def test_who_may_do_what(storage: Storage):
    storage.run(**POLICY)
    assert (
        storage.as_user("ua", "echo one > /collaborative/f; mkdir /collaborative/d; echo x > /collaborative/d/g") == 0
    )
    assert (
        storage.as_user("ub", "echo two >> /collaborative/f; echo y >> /collaborative/d/g; touch /collaborative/d/h")
        == 0
    )
    assert storage.host.sh("stat -c %G /collaborative/f /collaborative/d/g") == "ds01-users\nds01-users\n"
    assert storage.as_user("ud", "ls /collaborative") != 0
    assert storage.as_user("uc", "echo set > /readonly/data") == 0
    assert storage.as_user("ua", "cat /readonly/data") == 0
    assert storage.as_user("ua", "echo mine > /readonly/data") != 0
    assert storage.as_user("ua", "touch /readonly/mine") != 0
    assert storage.as_user("ua", "ls /scratch") != 0


def test_no_setuid_programs_and_devices_also_after_a_reboot(storage: Storage):
    host = storage.host
    host.sh("install -d -m 0711 /scratch; install -d -o ua -m 0700 /scratch/ua")
    escalate = "cp /usr/bin/id {0}/id; chmod 4755 {0}/id; chmod 711 {0}"
    assert storage.as_user("ua", escalate.format("/home/ua")) == 0
    assert "euid" in host.sh("su ub -s /bin/sh -c /home/ua/id")
    host.sh("mknod -m 666 /home/ua/null c 1 3")
    assert storage.as_user("ua", "cat /home/ua/null") == 0
    inside = "cd /home/ua; exec sleep 600 > /home/ua/open 2>&1"
    session = f"setpriv --reuid ua --regid ua --clear-groups sh -c '{inside}' & echo $! > /run/pid"
    host.run("sh", "-c", f"({session}) < /dev/null > /dev/null 2>&1")
    storage.run(**POLICY)
    host.sh("kill -0 $(cat /run/pid)")
    assert "euid" not in host.sh("su ub -s /bin/sh -c /home/ua/id")
    assert storage.as_user("ua", "cat /home/ua/null") != 0
    assert storage.as_user("ua", "cp /usr/bin/id /scratch/ua/; echo ok > /home/ua/file") == 0
    host.sh("kill $(cat /run/pid)")
    host.reboot()
    assert "euid" not in host.sh("su ub -s /bin/sh -c /home/ua/id")
    assert storage.as_user("ua", "cat /home/ua/null && test -s /home/ua/file") != 0
    assert storage.run(**POLICY)["changed"] is False


def test_a_directory_that_is_its_own_file_system(storage: Storage):
    host = storage.host
    host.sh(
        "mkdir -p /mnt/own; echo 'tmpfs /mnt/own tmpfs size=1m,mode=711,noatime 0 0' >> /etc/fstab; "
        "systemctl daemon-reload; mount /mnt/own"
    )
    try:
        before = host.sh(STATE)
        storage.run(scratch_root="/mnt/own", nosuid_nodev=True)
        flags = host.sh("findmnt -no OPTIONS /mnt/own")
        assert {"nosuid", "nodev", "noatime"} <= set(flags.strip().split(","))
        assert storage.run(scratch_root="/mnt/own")["changed"] is False
        host.sh("umount /mnt/own; systemctl start mnt-own.mount")
        assert {"nosuid", "nodev", "noatime"} <= set(host.sh("findmnt -no OPTIONS /mnt/own").strip().split(","))
        storage.run(undo=True)
        assert "nosuid" not in host.sh("findmnt -no OPTIONS /mnt/own")
        after = [line for line in host.sh(STATE).splitlines() if "/mnt/own" not in line]
        assert after == [line for line in before.splitlines() if "/mnt/own" not in line]
    finally:
        host.sh("umount /mnt/own; rmdir /mnt/own; sed -i '\\,/mnt/own,d' /etc/fstab; systemctl daemon-reload")


def test_a_file_system_that_did_not_come_up_is_not_hidden(storage: Storage):
    host = storage.host
    host.sh("mkdir -p /mnt/own; echo 'tmpfs /mnt/own tmpfs noauto 0 0' >> /etc/fstab; systemctl daemon-reload")
    try:
        [refused] = storage.run(scratch_root="/mnt/own")["refused"]
        assert "systemctl start mnt-own.mount" in refused
        assert host.sh("ls /etc/systemd/system | grep -c '[.]mount$' || true").strip() == "0"
    finally:
        host.sh("rmdir /mnt/own; sed -i '\\,/mnt/own,d' /etc/fstab; systemctl daemon-reload")


def test_a_link_laid_on_the_way_to_a_directory_is_not_followed(storage: Storage):
    host = storage.host
    nested = {"directories": {**POLICY["directories"], "/collaborative/courses/x": {"mode": "2770"}}}
    storage.run(**nested)
    assert host.sh("stat -c '%a %U:%G' /collaborative/courses /collaborative/courses/x") == (
        "755 root:ds01-users\n2770 root:ds01-users\n"
    )
    assert storage.run(**nested)["changed"] is False
    host.sh("mkdir -p -m 0700 /srv/data/x")
    assert storage.as_user("ua", "cd /collaborative && mv courses gone && ln -s /srv/data courses") == 0
    [refused] = storage.run(**nested)["refused"]
    assert "/collaborative/courses/x" in refused
    assert host.sh("stat -c '%a %U:%G' /srv/data/x; ls -d /collaborative/courses") == (
        "700 root:root\n/collaborative/courses\n"
    )
    host.sh("rm /collaborative/courses")


def test_undone_without_a_trace_and_without_loss(storage: Storage):
    host = storage.host
    host.sh("chown ua:ua /srv/data; chmod 1751 /srv/data; setfacl -m u:ub:r-x /srv/data")
    before = host.sh(STATE)
    policy = {"directories": {**POLICY["directories"], "/srv/data": {"mode": "2770"}}}
    storage.run(**policy)
    storage.as_user("ua", "echo keep > /collaborative/f; (cd /home/ua && sleep 30) & ")
    assert storage.run(undo=True)["changed"]
    assert host.sh(STATE) == before
    assert host.sh("cat /collaborative/f; ls -d /readonly /scratch 2>/dev/null || true") == "keep\n"
    assert storage.run(undo=True)["changed"] is False


def test_what_does_not_fit_the_host(storage: Storage):
    storage.host.sh("ln -s /tmp /linked")
    try:
        refused = storage.run(
            directories={"/etc": {}, "/linked": {}, "/a": {"group": "nonesuch"}, "/b": {"owner": "nobody-at-all"}},
            quotas="required",
        )["refused"]
    finally:
        storage.host.sh("rm /linked")
    assert len(refused) == 6
    assert storage.host.sh("ls -d /a /b /etc/systemd/system/home.mount 2>/dev/null || true") == ""


def test_missing_quotas_are_said(storage: Storage):
    done = storage.run(**POLICY)
    assert done["quota"]["home"]["supported"] is False
    assert done["quota"]["home"]["fix"]
    assert any(line.startswith("home: ") for line in done["warnings"])


def test_what_somebody_else_mounted_over_a_protected_directory_stays(storage: Storage):
    host = storage.host
    storage.run(**POLICY)
    host.sh("mount -t tmpfs theirs /scratch; touch /scratch/theirs")
    try:
        done = storage.run(undo=True)
        assert host.sh("ls /scratch") == "theirs\n"
        [warning] = done["warnings"]
        assert warning.startswith("/scratch: something else is mounted over it")
        assert host.sh("findmnt -no OPTIONS /home || true") == ""
    finally:
        host.sh("umount /scratch; umount /scratch")
