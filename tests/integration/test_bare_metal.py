"""The GPUs of a host closed to logins, cron and at, opened by grants: real logins try to open them, in every way.

The nodes of the lab have no driver: opening one that the kernel lets pass says "No such device or address".
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.testhost import LabHost
from tests.integration.killing import KILL_HOOK

CODE = "/root/ds01-bare-metal-test"
LEDGER = f"{CODE}/ledger.db"
OPEN, CLOSED = "No such device or address", "Operation not permitted"
# What anybody runs: opens a node and says what the kernel said.
TRY = """#!/usr/bin/python3
import os, sys
try:
    os.open(sys.argv[1] if len(sys.argv) > 1 else "/dev/nvidia0", os.O_RDWR)
    print("opened")
except OSError as error:
    print(error.strerror)
"""
# Tries again whenever it is asked, for as long as it runs; the answer is a file with the name of the question.
AGENT = """#!/bin/sh
PATH=/usr/local/bin:$PATH
cd && rm -f "$1.in" && mkfifo "$1.in" && exec 3<>"$1.in" && touch "$1.ready"
while read -r question <&3; do
  try > "$1.answer"
  mv "$1.answer" "$1.$question"
done
"""
# Tries in every control group that one can move to.
WANDERER = """#!/bin/sh
find /sys/fs/cgroup -name cgroup.procs -writable 2>/dev/null | while read -r file; do
  echo 0 > "$file" 2>/dev/null || true
  try
done | sort -u
"""
# Holds a node open, whatever it is asked to; with --save it writes a file at the end.
HOLDER = """#!/usr/bin/python3
import os, signal, sys, time
node = os.open("/dev/nvidia9", os.O_RDWR)
def save(*_):
    if "--save" in sys.argv:
        open("saved", "w").close()
        sys.exit()
signal.signal(signal.SIGTERM, save)
open(sys.argv[1], "w").close()
while True:
    time.sleep(60)
"""
# Holds a node where the files of its first thread, which are the process's for who does not look further, show nothing.
HIDER = """#!/usr/bin/python3
import ctypes, mmap, os, signal, socket, sys, threading, time
way, libc = sys.argv[1], ctypes.CDLL(None)
def hold(*_):
    if way == "unshared":
        assert libc.unshare(0x400) == 0  # CLONE_FILES
    global node, memory
    node = os.open("/dev/nvidia8", os.O_RDWR)
    if way == "mapped":
        memory = mmap.mmap(node, 4096, mmap.MAP_PRIVATE)
        os.close(node)
    if way == "on its way":
        one, other = socket.socketpair()
        socket.send_fds(one, [b"."], [node])
        os.close(node)
    open(way.replace(" ", "-"), "w").close()
    while way == "on its way" and not os.path.exists("take"):
        time.sleep(0.1)
    if way == "on its way":
        node = socket.recv_fds(other, 1, 1)[1]
        open("taken", "w").close()
    threading.Event().wait()
threading.Thread(target=hold).start()
if way == "first thread ended":
    libc.syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)  # exit, of this thread alone
"""
CONVERGE = f"""
import json, sys
sys.path.insert(0, sys.argv[1])
from ds01.slices.desired import LoginSpec
from ds01.slices.devices import converge_devices, remove_devices
given, kill_at = json.load(sys.stdin), int(sys.argv[2])
{KILL_HOOK}
if "remove" in given:
    outcome = remove_devices(via="test")
else:
    spec = LoginSpec.from_dict(given["logins"])
    outcome = converge_devices(spec, given["granted"], prove=given["prove"], via="test")
print(json.dumps({{"changes": list(outcome.changes), "problems": list(outcome.problems)}}))
"""
# stdin: {"logins": ..., "grants": [[uid, user, from now in seconds], ...], "grace": seconds}
GRANTS = """
import functools, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ds01.enforce.evict import evict
from ds01.enforce.grants import enforce_grants
from ds01.ledger import Ledger, create, lifecycle, permits
from ds01.slices.desired import LoginSpec
given, path = json.load(sys.stdin), Path(sys.argv[2])
if not path.exists():
    create(path)
with Ledger(path) as ledger:
    for uid, user, seconds in given["grants"]:
        with ledger.transaction() as tx:
            permits.add(tx, "grants", uid=uid, user=user, kind=permits.BARE_METAL, expires=tx.now + seconds * 1000,
                        reason="a test", approved_by="root")
    found = enforce_grants(LoginSpec.from_dict(given["logins"]), path, dry_run=False,
                           evict=functools.partial(evict, grace_s=given["grace"]))
    with ledger.read() as view:
        told = [[one.kind, one.text] for one in lifecycle.notices(view, given["told"])]
print(json.dumps({"changes": found.changes, "problems": found.problems, "told": told}))
"""
HEALTH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from ds01.health import logins
from ds01.slices.desired import LoginSpec
logins.LEDGER = Path(sys.argv[2])
found = logins.check_devices(LoginSpec.from_dict(json.load(sys.stdin)))
print(f"{found.status} {found.detail}")
"""
Way = Callable[[], str]


class Host:
    """A host on which people are logged in."""

    def __init__(self, lab: LabHost) -> None:
        self.lab = lab
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        self.lab.sh(f"rm -rf {CODE}; mkdir -p {CODE}; ssh-keygen -A; systemctl start ssh cron atd")
        self.lab.copy("src/ds01", f"{CODE}/ds01")
        for name, text in (
            ("try", TRY),
            ("agent", AGENT),
            ("wanderer", WANDERER),
            ("holder", HOLDER),
            ("hider", HIDER),
        ):
            self.lab.write(f"/usr/local/bin/{name}", text, 0o755)
        # Opens as no GPU does: with it a process can hold "a GPU" open.
        self.lab.sh(
            "mknod -m 666 /dev/nvidia9 c 1 3; mknod -m 666 /dev/nvidia8 c 1 5;"
            f"ssh-keygen -q -t ed25519 -N '' -f {CODE}/key"
        )
        for user in ("al", "bo", "ex"):
            self.lab.sh(
                f"useradd --create-home --shell /bin/bash {user}; echo {user}:pass-{user} | chpasswd;"
                f"install -d -m 700 -o {user} /home/{user}/.ssh;"
                f"install -m 600 -o {user} {CODE}/key.pub /home/{user}/.ssh/authorized_keys"
            )

    def uid(self, user: str) -> int:
        return int(self.lab.sh(f"id -u {user}"))

    def ssh(self, user: str, command: str) -> str:
        options = f"-n -i {CODE}/key -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        return self.lab.sh(f'ssh {options} {user}@127.0.0.1 "$(cat <<"E"\n{command}\nE\n)"').strip()

    def cron(self, line: str) -> None:
        """Let al's cron run a line now: at the boot, as it believes."""
        self.lab.run("crontab", "-u", "al", "-", stdin=f"@reboot {line}\n".encode())
        self.lab.sh("systemctl stop cron; rm -f /run/crond.reboot; systemctl reset-failed cron; systemctl start cron")

    def ask(self, agent: str, user: str = "al") -> str:
        """What an agent finds that has been running all the time."""
        question, folder = f"q{next(self._numbers)}", f"/home/{user}"
        self.lab.sh(f"echo {question} > {folder}/{agent}.in")
        self.wait(f"test -e {folder}/{agent}.{question}")
        return self.lab.sh(f"cat {folder}/{agent}.{question}").strip()

    def wait(self, condition: str) -> None:
        end = time.monotonic() + 120
        while self.lab.run("sh", "-c", condition, check=False).returncode != 0:
            assert time.monotonic() < end, f"not so after two minutes: {condition}"
            time.sleep(0.1)

    def result(self, path: str) -> str:
        self.wait(f"test -s {path}")
        return self.lab.sh(f"cat {path}; rm {path}").strip()

    def by_cron(self) -> str:
        self.cron("/usr/local/bin/try > job.tmp && mv job.tmp job.cron")
        return self.result("/home/al/job.cron")

    def by_at(self) -> str:
        self.ssh("al", "echo 'try > job.at.tmp && mv job.at.tmp job.at' | at now 2>/dev/null")
        return self.result("/home/al/job.at")

    def converge(self, granted: list[int] | None = None, *, prove: bool = False, **logins: Any) -> list[str]:
        found = self.attempt(granted, prove=prove, **logins)
        assert found.returncode == 0, found.stderr
        said = json.loads(found.stdout)
        assert said["problems"] == []
        changes: list[str] = said["changes"]
        return changes

    def attempt(self, granted: list[int] | None = None, *, prove: bool = False, kill_at: int = 0, **logins: Any) -> Any:
        given = {"logins": {**CLOSE, **logins}, "granted": granted, "prove": prove}
        return self._python(CONVERGE, given, str(kill_at))

    def remove(self) -> list[str]:
        changes: list[str] = json.loads(self._python(CONVERGE, {"remove": True}, "0").stdout)["changes"]
        return changes

    def grants(self, *grants: tuple[str, int], grace: float = 60, told: str = "al") -> dict[str, Any]:
        """Add grants that end so many seconds from now, and let the job look once."""
        rows = [[self.uid(user), user, seconds] for user, seconds in grants]
        given = {"logins": CLOSE, "grants": rows, "grace": grace, "told": self.uid(told)}
        found = self._python(GRANTS, given, LEDGER)
        assert found.returncode == 0, found.stderr
        said: dict[str, Any] = json.loads(found.stdout)
        assert said["problems"] == []
        return said

    def health(self) -> str:
        return str(self._python(HEALTH, CLOSE, LEDGER).stdout).strip()

    def change_ledger(self, statement: str) -> None:
        program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()"
        self.lab.run("python3", "-c", program, LEDGER, statement)

    def runs(self, user: str, program: str) -> bool:
        return self.lab.run("pgrep", "-u", user, "-f", program, check=False).returncode == 0

    def _python(self, program: str, given: dict[str, Any], *arguments: str) -> Any:
        argv = ["python3", "-c", program, CODE, *arguments]
        return self.lab.run(*argv, stdin=json.dumps(given).encode(), check=False)

    @property
    def al_runs(self) -> dict[str, Way]:
        """Ways of al's own, in what was running before anything changed."""
        return {name: lambda name=name: self.ask(name) for name in ("ssh", "tmux", "user-unit")}  # type: ignore[misc]

    @property
    def al_begins(self) -> dict[str, Way]:
        """Ways of al's own, begun anew."""
        return {
            "ssh command": lambda: self.ssh("al", "try"),
            "systemd --user": lambda: self.ssh("al", "systemd-run --user --pipe --wait --quiet try"),
            "login shell": lambda: self.ssh("al", "bash --login -c try"),
            "away from the session": lambda: self.ssh("al", "setsid --fork --wait try"),
        }

    @property
    def never(self) -> dict[str, Way]:
        """Ways that no grant of al's opens."""
        return {
            "cron": self.by_cron,
            "cron, running before": lambda: self.ask("cron"),
            "at": self.by_at,
            "at, running before": lambda: self.ask("at"),
            "su from another login": lambda: self.ssh("bo", "echo pass-al | su al -c try 2>/dev/null"),
            "somebody else": lambda: self.ssh("bo", "try"),
            "somebody else's control groups": lambda: self.ssh("bo", "wanderer"),
        }


CLOSE = {"close_gpus": True, "exempt_users": ["ex"]}


def said(ways: dict[str, Way]) -> dict[str, str]:
    return {name: way() for name, way in ways.items()}


def all_say(ways: dict[str, Way], answer: str) -> None:
    assert said(ways) == dict.fromkeys(ways, answer)


@pytest.fixture(scope="module")
def people(lab_host: LabHost) -> Host:
    """A host on which al runs something in every way there is."""
    host = Host(lab_host)
    host.prepare()
    host.ssh("al", "setsid --fork agent ssh > /dev/null 2>&1")
    host.ssh("al", "tmux new-session -d 'agent tmux'")
    host.ssh("al", "loginctl enable-linger 2>/dev/null; systemd-run --user --quiet agent user-unit")
    host.ssh("al", "echo 'agent at' | at now 2>/dev/null")
    host.cron("/usr/local/bin/agent cron")
    for name in ("ssh", "tmux", "user-unit", "at", "cron"):
        host.wait(f"test -e /home/al/{name}.ready")
    return host


@pytest.fixture
def host(people: Host) -> Iterator[Host]:
    """The same host, open as a host without DS01 is."""
    people.remove()
    yield people
    # The brackets keep it from meaning its own shell.
    left = "held saved mapped unshared first-thread-ended on-its-way take taken"
    people.lab.sh("pkill -f '[h]older held' || true; pkill -KILL -f '[b]in/hider' || true")
    people.lab.sh(f"rm -f {LEDGER}*; for home in /home/*; do (cd $home && rm -f {left}); done")
    people.remove()


def test_every_way_is_open_before_and_closed_after_also_where_it_was_running(host: Host):
    all_say(host.al_runs | host.al_begins | host.never, OPEN)
    # Files that are closed to their group are closed to containers, too.
    modes = "stat --format '%n %A %U %G' /dev/nvidia*"
    before = host.lab.sh(modes)
    host.converge()
    assert host.lab.sh(modes) == before
    all_say(host.al_runs | host.al_begins | host.never, CLOSED)
    assert host.ssh("al", "wanderer") == CLOSED
    assert host.ssh("al", "for node in /dev/nvidiactl /dev/nvidia-uvm; do try $node; done | sort -u") == CLOSED
    assert host.ssh("al", "for node in /dev/null /dev/zero /dev/urandom; do try $node; done | sort -u") == "opened"
    assert host.converge() == []
    changes = host.remove()
    assert "remove user-.slice.d/55-ds01-devices.conf" in changes
    all_say(host.al_runs | host.al_begins, OPEN)
    assert host.lab.sh("find /etc/systemd/system /run/systemd -name '5?-ds01-*' -o -name '50-Device*'") == ""


def test_the_exempt_and_root_are_not_closed_out(host: Host):
    host.converge()
    assert host.ssh("ex", "try") == OPEN
    assert host.lab.sh("systemd-run --quiet --pipe --wait --slice=user-0.slice try").strip() == OPEN
    # Who is exempt no more is closed out at once, and the other way round.
    host.converge(exempt_users=["al"])
    assert host.ssh("ex", "try") == CLOSED
    all_say(host.al_runs, OPEN)
    # A directory that does not answer takes nobody's exemption away.
    host.lab.sh("sed -i.known /^al:/d /etc/passwd")
    silent = host.converge(exempt_users=["al"])
    host.lab.sh("mv /etc/passwd.known /etc/passwd")
    assert silent == []


def test_a_grant_opens_at_once_and_nothing_else_and_closes_at_once(host: Host):
    host.converge()
    host.converge([host.uid("al")])
    all_say(host.al_runs | host.al_begins, OPEN)
    all_say(host.never, CLOSED)
    # Provisioning knows nothing of grants, and leaves them.
    assert host.converge(None, prove=True) == []
    assert host.ssh("al", "try") == OPEN
    host.converge([])
    all_say(host.al_runs | host.al_begins, CLOSED)


def test_what_was_opened_behind_its_back_is_closed_when_it_is_looked_at(host: Host):
    host.converge()
    unit = f"user-{host.uid('al')}.slice"
    host.lab.sh(f"systemctl set-property --runtime {unit} 'DeviceAllow=/dev/nvidia0 rw'")
    assert host.ssh("al", "try") == OPEN
    # It tries the control node, as GPU programs do first.
    host.lab.sh(f"systemctl set-property --runtime {unit} 'DeviceAllow=/dev/nvidiactl rw'")
    host.converge(prove=True)
    all_say(host.al_runs | host.al_begins, CLOSED)
    host.lab.sh(f"rm -r /run/systemd/system.control/{unit}.d; systemctl daemon-reload")


def test_health_tries_it_out_in_a_new_login_and_in_each_service(host: Host):
    assert host.health().startswith("failed GPUs of the host can be opened by logins, ")
    host.converge()
    assert host.health().startswith("ok closed to logins and to ")
    assert "cron.service" in host.health()
    host.lab.sh("systemctl set-property --runtime cron.service 'DeviceAllow=/dev/nvidiactl rw'")
    assert host.health() == "failed GPUs of the host can be opened by cron.service"
    host.converge(prove=True)
    host.lab.sh("rm -r /run/systemd/system.control/cron.service.d; systemctl daemon-reload")


def test_a_run_killed_at_any_step_is_finished_by_the_next(host: Host):
    host.converge()
    al, steps = host.uid("al"), 0
    while True:
        steps += 1
        killed = host.attempt([al], kill_at=steps)
        if killed.returncode == 0:
            break
        assert killed.returncode == 137, killed.stderr
        host.converge([])
        assert host.ask("ssh") == CLOSED, steps
        assert host.converge([], prove=True) == []
    # At least: a marker, a directory, the file, the reload and the try.
    assert steps > 5
    assert host.ask("ssh") == OPEN


def test_a_grant_is_over_at_its_time_although_nothing_ran_and_ends_what_it_let_in(host: Host):
    host.converge()
    host.grants(("al", 3600))
    assert host.ask("tmux") == OPEN
    host.ssh("al", "setsid --fork holder held --save > /dev/null 2>&1")
    # Handed on, or opened by whatever means: it has a GPU open, and may not.
    host.ssh("bo", "setsid --fork holder held > /dev/null 2>&1")
    host.ssh("ex", "setsid --fork holder held > /dev/null 2>&1")
    for user in ("al", "bo", "ex"):
        host.wait(f"test -e /home/{user}/held")
    # The time is over while nothing of DS01 runs.
    host.change_ledger("UPDATE grants SET expires = created + 1")
    found = host.grants(grace=10)
    all_say(host.al_runs | host.al_begins, CLOSED)
    assert host.lab.run("test", "-e", "/home/al/saved", check=False).returncode == 0, found
    assert [user for user in ("al", "bo", "ex") if host.runs(user, "holder held")] == ["ex"]
    ended = [line for line in found["changes"] if line.startswith("process ")]
    assert sorted(line.rpartition("; it ")[2] for line in ended) == ["ended", "was killed"]
    assert [kind for kind, _ in found["told"]] == ["notice"]
    events = [json.loads(line) for line in host.lab.sh("cat /var/log/ds01/events.jsonl").splitlines()]
    mine = [one for one in events if one["type"] in {"grant.expire", "lifecycle.stop"}]
    assert sorted(one["details"]["user"] for one in mine[-3:]) == ["al", "al", "bo"]
    # Once is enough, for all of it.
    again = host.grants()
    assert again["changes"] == []
    assert again["told"] == found["told"]


def test_nobody_hides_what_they_opened_from_the_end_of_their_grant(host: Host):
    host.converge()
    host.grants(("al", 3600))
    ways = ("mapped", "unshared", "first thread ended", "on its way")
    for way in ways:
        host.ssh("al", f"setsid --fork hider '{way}' > /dev/null 2>&1")
        host.wait(f"test -e /home/al/{way.replace(' ', '-')}")
    host.change_ledger("UPDATE grants SET expires = created + 1")
    found = host.grants(grace=10)
    assert len([line for line in found["changes"] if line.startswith("process ")]) == 3, found
    assert [way for way in ways if host.runs("al", f"hider {way}")] == ["on its way"]
    # Long after the end it has it again.
    host.change_ledger("UPDATE grants SET created = created - 86400000, expires = expires - 86400000, ended = 1")
    host.lab.sh("touch /home/al/take")
    host.wait("test -e /home/al/taken")
    found = host.grants(grace=10)
    assert [line.rpartition("; it ")[2] for line in found["changes"]] == ["ended"], found
    assert not host.runs("al", "hider")


def test_a_grant_by_a_clock_that_was_ahead_is_no_longer_than_it_was_given_for(host: Host):
    host.converge()
    host.grants(("al", 3600))
    host.change_ledger("UPDATE grants SET created = created + 34560000000, expires = expires + 34560000000")
    host.grants()
    assert host.ssh("al", "try") == OPEN
    # The hour after the clock was put right is over.
    host.change_ledger("UPDATE grants SET created = created - 3600000, expires = expires - 3600000")
    host.grants()
    assert host.ssh("al", "try") == CLOSED


def test_what_ran_before_there_were_grants_is_left_alone(host: Host):
    host.ssh("al", "setsid --fork holder held > /dev/null 2>&1")
    host.wait("test -e /home/al/held")
    host.converge()
    # The first grant is a second away: processes and grants are dated by the hundredth.
    time.sleep(1)
    host.grants(("al", 3600))
    host.change_ledger("UPDATE grants SET expires = created + 1")
    found = host.grants(grace=1)
    assert "the grant of al is over" in found["changes"]
    assert host.runs("al", "holder held")


def test_people_are_told_once_before_the_end(host: Host):
    host.converge()
    host.grants(("al", 3600))
    host.change_ledger("UPDATE grants SET created = created - 3000000, expires = expires - 3000000")
    for _ in range(2):
        assert [kind for kind, _ in host.grants()["told"]] == ["warning"]


def test_a_boot_closes_and_the_job_opens_again(host: Host):
    host.converge()
    host.grants(("al", 3600))
    host.lab.reboot()
    host.lab.sh("systemctl start ssh; mknod -m 666 /dev/nvidia9 c 1 3 || true")
    assert host.ssh("al", "try") == CLOSED
    host.grants()
    assert host.ssh("al", "try") == OPEN
