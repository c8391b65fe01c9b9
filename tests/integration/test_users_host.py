"""People on a real host: accounts that can log in, traps in homes, interruptions, full disks, two runs at once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost
from tests.unit.users.people_keys import key

CODE = "/opt/people-test"
DRIVER = f"""
import json, os, pathlib, signal, sys
sys.path.insert(0, "{CODE}")
from ds01.users.bulk import run
from ds01.problems import ApplyError, RefusedError
request = json.load(sys.stdin)
os.umask(request.pop("umask", 0o077))
if left := request.pop("killed_after_renames", None):
    rename = pathlib.Path.rename
    def last_rename(path, target):
        global left
        done = rename(path, target)
        left -= str(target).startswith("/etc/")
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    pathlib.Path.rename = last_rename
try:
    print(json.dumps(run(request, check=request.pop("check", False))))
except RefusedError as error:
    print(json.dumps({{"refused": [str(problem) for problem in error.problems]}}))
except ApplyError as error:
    print(json.dumps({{"error": str(error)}}))
"""


class People:
    """The bulk code on the host, as the module calls it."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def run(self, people: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
        """Apply a list of people."""
        request = {"people": people, "scratch_base": "/scratch", **config}
        return json.loads(self.host.run("python3", f"{CODE}/driver.py", stdin=json.dumps(request).encode()).stdout)

    def checked(self) -> None:
        """The system's own checkers are content."""
        self.host.sh("pwck -r -q && grpck -r")

    def killed(self, people: list[dict[str, Any]], *, prefix: str = "", **config: Any) -> bool:
        """Apply a list in a run that is killed; say whether it was.

        Between two files no checker is content, but whoever has an account then has all of it.
        """
        request = {"people": people, "scratch_base": "/scratch", **config}
        command = f"{prefix} python3 {CODE}/driver.py"
        done = self.host.run("sh", "-c", command, stdin=json.dumps(request).encode(), check=False)
        incomplete = (
            "getent passwd | awk -F: '/^k/ {print $1, $4, $6}' | while read -r login gid home; do "
            'test -d "$home" && getent group "$gid" >/dev/null && getent shadow "$login" >/dev/null '
            '&& id -nG "$login" | grep -qw ds01-users || echo "$login"; done'
        )
        assert self.host.sh(incomplete) == ""
        return done.returncode == 137


@pytest.fixture
def people(lab_host: LabHost) -> Iterator[People]:
    lab_host.sh(f"mkdir -p {CODE} /opt/before && cp -a /etc/passwd /etc/shadow /etc/group /etc/gshadow /opt/before/")
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    yield People(lab_host)
    lab_host.sh(
        "mkdir -p /scratch; find /home /scratch -mindepth 1 -maxdepth 1 -exec rm -rf {} +; cp -a /opt/before/* /etc/; "
        f"rm -rf {CODE} /opt/before /scratch /var/lib/ds01/offboard /var/lib/ds01/archive"
    )


def person(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "groups": ["ds01-users"], **more}


def test_the_prediction_is_what_happens_and_the_second_run_does_nothing(people: People):
    wanted = [
        person("anna", ssh_keys=[key(1)], expires="2099-01-31", comment="Anna Ångström"),
        person("mary-ann.Jones"),
        person("h.baker@example.org", ssh_keys=[key(2)]),
        person("nobody.knows@example.org"),
    ]
    predicted = people.run(wanted, check=True)
    assert people.host.sh("getent passwd anna; ls /scratch 2>&1", check=False).count("\n") <= 1
    done = people.run(wanted)
    assert done["changes"] == predicted["changes"]
    assert done["created"] == ["anna", "mary-ann.Jones"]
    assert done["unresolved"] == ["nobody.knows@example.org"]
    again = people.run(wanted)
    assert (again["changed"], again["changes"]) == (False, [])
    people.checked()
    assert "h.baker" not in people.host.sh("cat /etc/passwd /etc/shadow")
    shown = people.host.sh("stat -c '%n %U %a' /home/* /scratch/* /home/anna/.ssh /home/anna/.ssh/authorized_keys")
    assert "/home/anna/.ssh/authorized_keys anna 600" in shown
    assert "/home/h.baker@example.org h.baker@example.org 700" in shown
    assert "/scratch/mary-ann.Jones mary-ann.Jones 700" in shown
    assert "ds01-users" in people.host.sh("id -nG h.baker@example.org")
    assert people.host.sh("stat -c %s /var/log/lastlog 2>/dev/null || echo 0").strip() == "0"


def test_who_may_log_in(people: People):
    host = people.host
    host.sh(
        "rm -f /tmp/k /tmp/k.pub; ssh-keygen -qt ed25519 -N '' -f /tmp/k; ssh-keygen -A >/dev/null; "
        "mkdir -p /run/sshd; "
        "/usr/sbin/sshd -p 2299 -o PidFile=/run/sshd-test.pid"
    )
    mine = host.sh("cat /tmp/k.pub").strip()
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    login = f"ssh -n -i /tmp/k -p 2299 {options} -l {{}} localhost id -un"
    try:
        people.run([person("past")])
        people.run(
            [
                person("anna", ssh_keys=[mine]),
                person("past", ssh_keys=[mine], expires="2020-01-01"),
                person("h.baker@example.org", ssh_keys=[mine]),
            ]
        )
        assert host.sh(login.format("anna")) == "anna\n"
        assert host.sh(login.format("h.baker@example.org")) == "h.baker@example.org\n"
        assert host.run("sh", "-c", login.format("past"), check=False).returncode != 0
        people.run([person("anna"), person("past", ssh_keys=[mine])])
        assert host.run("sh", "-c", login.format("anna"), check=False).returncode != 0
        assert host.sh(login.format("past")) == "past\n"
    finally:
        host.sh("kill $(cat /run/sshd-test.pid); rm -f /tmp/k /tmp/k.pub")


TRAPS = {
    "directory to /etc": "rm -rf .ssh; ln -s /etc .ssh",
    "file to shadow": "ln -sf /etc/shadow .ssh/authorized_keys",
    "dangling": "ln -sf /etc/new-file .ssh/authorized_keys",
    "pipe": "rm .ssh/authorized_keys; mkfifo .ssh/authorized_keys",
    "directory": "rm .ssh/authorized_keys; mkdir .ssh/authorized_keys",
    "root's": "rm .ssh/authorized_keys; sudo_touch",
    "closed": "chmod 500 .ssh",
    "another's home": "rm -rf .ssh; ln -s /home/victim/.ssh .ssh",
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_a_trap_hurts_only_who_laid_it(people: People, trap: str):
    host = people.host
    people.run([person("anna", ssh_keys=[key(1)]), person("victim", ssh_keys=[key(2)])])
    if "sudo_touch" in trap:
        host.sh("rm /home/anna/.ssh/authorized_keys; touch /home/anna/.ssh/authorized_keys")
    else:
        host.sh(f"cd /home/anna && su anna -c '{trap}'")
    state = (
        "stat -c '%n %a %u %g %Y' /etc /etc/shadow /home/victim/.ssh/authorized_keys; sha256sum /etc/shadow; ls /etc"
    )
    before = host.sh(state)
    done = people.run([person("anna", ssh_keys=[key(3)]), person("victim", ssh_keys=[key(2)])])
    assert host.sh(state) == before
    assert any(line.startswith("anna: ") for line in done["warnings"])
    changed = people.run([person("anna", ssh_keys=[key(3)]), person("victim", ssh_keys=[key(4)])])
    assert [change["login"] for change in changed["changes"]] == ["victim"]
    assert key(4) in host.sh("cat /home/victim/.ssh/authorized_keys")


def test_a_link_swapped_in_for_a_home_is_not_followed(people: People):
    people.run([person("anna")])
    # Only a badly kept /home lets a user do this; the state of the link is looked at all the same.
    people.host.sh(
        "chmod 1777 /home; rm -rf /home/anna; setpriv --reuid anna --regid anna --clear-groups ln -s /etc /home/anna"
    )
    try:
        done = people.run([person("anna", ssh_keys=[key(1)])])
    finally:
        people.host.sh("chmod 755 /home; rm -f /home/anna")
    assert any("a link that root did not lay" in line for line in done["warnings"])
    assert people.host.sh("stat -c '%a %U' /etc") == "755 root\n"


def test_all_problems_and_nothing_changed(people: People):
    before = people.host.sh("cat /etc/passwd /etc/group; ls /home")
    refused = people.run(
        [person("root"), person("sshd"), person("anna", uid=998), person("bob", groups=["nonesuch"]), person("c")]
    )
    assert len(refused["refused"]) == 4
    refused = people.run([person("sshd"), person("bob", groups=["nonesuch"]), person("anna", uid=1722830498)])
    assert [line.split(": ")[0] for line in refused["refused"]] == [
        "people.anna.uid",
        "people.sshd",
        "people.bob.groups",
    ]
    assert people.host.sh("cat /etc/passwd /etc/group; ls /home") == before


def test_a_full_disk_makes_nobody(people: People):
    host = people.host
    host.sh("mkdir /mnt/small && mount -t tmpfs -o size=600k,nr_inodes=200 none /mnt/small")
    try:
        before = host.sh("sha256sum /etc/passwd /etc/shadow /etc/group /etc/gshadow")
        done = people.run(
            [person(f"s{number}", ssh_keys=[key(number)]) for number in range(100)], home_base="/mnt/small"
        )
        assert "No space left" in done["error"]
        assert host.sh("ls -A /mnt/small") == ""
        assert host.sh("sha256sum /etc/passwd /etc/shadow /etc/group /etc/gshadow") == before
        host.sh("mount -o remount,size=20m,nr_inodes=5000 /mnt/small")
        again = people.run(
            [person(f"s{number}", ssh_keys=[key(number)]) for number in range(100)], home_base="/mnt/small"
        )
        assert len(again["created"]) == 100
        people.checked()
    finally:
        host.sh("umount /mnt/small && rmdir /mnt/small")


def test_a_run_killed_anywhere_is_finished_by_the_next(people: People):
    wanted = [person(f"k{number}", ssh_keys=[key(number)]) for number in range(150)]
    delays = (0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)
    ends = [people.killed(wanted, prefix=f"timeout -s KILL {delay}") for delay in delays]
    assert any(ends)
    people.run(wanted)
    assert people.run(wanted)["changed"] is False
    people.checked()
    assert people.host.sh("ls -A /home /scratch | grep -c '^k'").strip() == "300"
    assert people.host.sh("ls -A /home /scratch /etc | grep -c 'ds01-new' || true").strip() == "0"
    assert people.host.sh("for d in /home/k*; do stat -c '%n %U' $d; done | awk '$1 != \"/home/\" $2'") == ""


def test_a_run_killed_between_two_account_files_is_finished_by_the_next(people: People):
    people.run([person("anna")])
    ends = []
    for renames in range(1, 12):
        wanted = [person(f"k{renames}n{number}", ssh_keys=[key(number)]) for number in range(3)]
        ends.append(people.killed(wanted, killed_after_renames=renames))
        people.run(wanted)
        assert people.run(wanted)["changed"] is False
        people.checked()
    # passwd, shadow, group and gshadow, with the former version of each.
    assert ends == [True] * 8 + [False] * 3


def test_two_runs_and_useradd_at_once(people: People):
    command = ["docker", "exec", "-i", people.host.name, "python3", f"{CODE}/driver.py"]
    runs = []
    for letter in "ab":
        request = {"people": [person(f"{letter}{number}") for number in range(60)], "scratch_base": "/scratch"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        runs.append((process, json.dumps(request)))
    add = "for i in 1 2 3 4 5; do until useradd x$i; do sleep 1; done; done"
    other = subprocess.Popen(["docker", "exec", people.host.name, "sh", "-c", add])
    outputs = [json.loads(process.communicate(request)[0]) for process, request in runs]
    # It gives up after 15 seconds, and is asked again.
    assert other.wait(300) == 0
    assert [len(output["created"]) for output in outputs] == [60, 60]
    people.checked()
    uids = people.host.sh("getent passwd | awk -F: '/^[abx][0-9]+:/ {print $3}'").split()
    assert len(uids) == len(set(uids)) == 125


def test_foreign_lines_survive(people: People):
    people.host.sh(
        "printf 'odd:*:5000:5000:Caf\\351:/nonexistent:/usr/sbin/nologin\\n' >> /etc/passwd; "
        "echo 'odd:x:5000:' >> /etc/group"
    )
    before = people.host.sh("head -c -0 /etc/passwd | sha256sum; wc -c < /etc/passwd").split()
    people.run([person("anna")])
    assert people.host.sh(f"head -c {before[2]} /etc/passwd | sha256sum").split()[0] == before[0]


def test_semester_of_500(people: People):
    wanted = [person(f"s{number:04}", ssh_keys=[key(number)], expires="2099-03-31") for number in range(500)]
    assert len(people.run(wanted)["created"]) == 500
    moved = people.run(wanted[:-1])
    assert (moved["changed"], moved["unlisted"]) == (False, ["s0499"])
    people.checked()
    assert people.host.sh("id -un s0499") == "s0499\n"


def test_while_the_directory_is_silent_everybody_else_may_change_accounts(people: People):
    host = people.host
    # Whoever asks this source of names waits for an answer that does not come.
    host.sh("cd /var/lib/extrausers; mv passwd passwd.kept; mkfifo passwd")
    host.write("/opt/people-test/request", json.dumps({"people": [person("n.ito@example.org")]}))
    try:
        host.sh(f"python3 {CODE}/driver.py < {CODE}/request > /dev/null 2>&1 & echo $! > {CODE}/pid; sleep 2")
        lock = "import fcntl; fcntl.lockf(open('/etc/.pwd.lock', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        host.run("python3", "-c", lock)
        host.sh(f"kill -0 $(cat {CODE}/pid)")
    finally:
        host.sh(f"kill -KILL $(cat {CODE}/pid); cd /var/lib/extrausers; rm passwd; mv passwd.kept passwd")
