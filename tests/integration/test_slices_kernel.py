"""Slices on a real systemd: what reaches the kernel, and what an interrupted, doubled or starved run leaves."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ds01.slices.names import cgroup_path, escape, user_slice
from tests.integration.killing import KILL_HOOK

MB = 1 << 20
UNITS = "/etc/systemd/system"
CODE = "/root/ds01-slices-test"
# The host's own Python runs the package as Ansible ships it. stdin: {"spec": ...}, {"logins": ...} or {"remove": ...};
# argv: the time, and at which of its steps that change something the run is killed (0: never).
DRIVER = f"""
import datetime as dt, json, sys
sys.path.insert(0, sys.argv[1])
from ds01.slices.apply import converge_logins, converge_slices, remove_logins, remove_slices
from ds01.slices.desired import LoginSpec
from ds01.slices.spec import SliceSpec
data, now, kill_at = json.load(sys.stdin), dt.datetime.fromisoformat(sys.argv[2]), int(sys.argv[3])
{KILL_HOOK}
if "spec" in data:
    outcome = converge_slices(SliceSpec.from_dict(data["spec"]), now, via="test")
elif "logins" in data:
    outcome = converge_logins(LoginSpec.from_dict(data["logins"]), via="test")
else:
    outcome = {{"slices": remove_slices, "logins": remove_logins}}[data["remove"]](via="test")
print(json.dumps({{"changes": outcome.plan.lines(), "problems": outcome.problems}}))
"""
NOW = "2026-06-15T12:00:00+00:00"
DATA: dict[str, Any] = {
    "unmanaged": {"memory_max": 100 * MB},
    "groups": {
        "student": {"aggregate": {"max_cpus": 0.5, "memory_max": 100 * MB, "tasks_max": 60, "cpu_weight": 50}},
        "faculty": {"aggregate": {"memory_max": 200 * MB, "tasks_max": 40}, "group_aggregate": {"max_cpus": 1.5}},
    },
    "overrides": {"bob": {"group": "student", "aggregate": {"memory_max": 150 * MB}, "expires": "2026-06-15"}},
    "members": {"alice": "student", "bob": "student", "mary-ann": "student", "dave": "faculty"},
    "unix_groups": {},
    "default_group": "student",
}


def spec(**changes: Any) -> dict[str, Any]:
    return {"spec": {**DATA, **changes}}


def student(**limits: Any) -> dict[str, Any]:
    return {"student": {"aggregate": {**DATA["groups"]["student"]["aggregate"], **limits}}}


class Host:
    """A lab host with the package on it."""

    def __init__(self, lab_host: Any) -> None:
        self.lab = lab_host

    def converge(self, data: dict[str, Any], now: str = NOW, prefix: str = "") -> list[str]:
        outcome = self.attempt(data, now, prefix)
        assert outcome.returncode == 0, outcome.stderr
        result = json.loads(outcome.stdout)
        assert result["problems"] == []
        changes: list[str] = result["changes"]
        return changes

    def attempt(
        self, data: dict[str, Any], now: str = NOW, prefix: str = "", kill_at: int = 0
    ) -> subprocess.CompletedProcess[str]:
        command = f"{prefix} exec python3 -c '{DRIVER}' {CODE} {now} {kill_at}"
        found: subprocess.CompletedProcess[str] = self.lab.run(
            "sh", "-c", command, stdin=json.dumps(data).encode(), check=False
        )
        return found

    def start(self, name: str, command: str = "sleep 1000") -> None:
        """Keep a process running in a slice."""
        self.lab.run("systemd-run", "--quiet", f"--unit={probe(name)}", f"--slice={name}", *command.split())

    def stop(self, name: str) -> None:
        self.lab.run("systemctl", "stop", probe(name), check=False)

    def kernel(self, name: str, version_1: str, version_2: str) -> str:
        """Return a limit as the kernel's file has it, on either version of cgroups."""
        path = cgroup_path(name)
        files = [f"/sys/fs/cgroup/{path}/{version_2}", f"/sys/fs/cgroup/{version_1.replace('*', str(path))}"]
        return str(self.lab.run("sh", "-c", 'cat "$1" 2>/dev/null || cat "$2"', "sh", *files).stdout.strip())

    def memory(self, name: str) -> str:
        return self.kernel(name, "memory/*/memory.limit_in_bytes", "memory.max")

    def tasks(self, name: str) -> str:
        return self.kernel(name, "pids/*/pids.max", "pids.max")

    def files(self) -> list[str]:
        return sorted(self.lab.sh(f"cd {UNITS}; find . -path './ds01*' -type f | cut -c3-").split())

    def text(self, name: str) -> str:
        return str(self.lab.run("cat", f"{UNITS}/{name}").stdout)


def probe(name: str) -> str:
    return f"probe-{name.removesuffix('.slice')}.service"


def slice_of(user: str, group: str = "student") -> str:
    return user_slice(group, user)


@pytest.fixture
def host(lab_host):
    lab_host.sh(f"rm -rf {CODE}; mkdir -p {CODE}")
    lab_host.copy("src/ds01", f"{CODE}/ds01")
    host = Host(lab_host)
    host.converge({"remove": "slices"})
    yield host
    lab_host.sh(
        "systemctl stop 'probe-*' 2>/dev/null; systemctl reset-failed; systemctl stop ds01.slice 2>/dev/null; true"
    )
    host.converge({"remove": "slices"})
    host.converge({"remove": "logins"})
    assert host.files() == []
    lab_host.sh(f"rm -rf {CODE} /run/ds01 /var/log/ds01")


def test_the_limit_of_the_group_kills_at_its_memory_and_not_below(host: Host):
    host.converge(spec())
    for user in ("alice", "mary-ann", "h.baker@example.org"):
        name = slice_of(user)
        run = ["systemd-run", "--quiet", "--scope", f"--slice={name}", "busybox", "dd", "if=/dev/zero", "of=/dev/null"]
        assert host.lab.run(*run, "bs=40M", "count=1", check=False).returncode == 0
        assert host.lab.run(*run, "bs=140M", "count=1", check=False).returncode == 137


def test_an_override_counts_in_the_kernel_until_it_expires(host: Host):
    host.converge(spec())
    bob = slice_of("bob")
    run = ["systemd-run", "--quiet", "--scope", f"--slice={bob}", "busybox", "dd", "if=/dev/zero", "of=/dev/null"]
    assert host.lab.run(*run, "bs=120M", "count=1", check=False).returncode == 0
    host.start(bob)
    assert host.memory(bob) == str(150 * MB)
    changes = host.converge(spec(), now="2026-06-16T00:00:00+00:00")
    assert f"remove {bob}.d/60-override.conf" in changes
    assert host.memory(bob) == str(100 * MB)
    assert host.lab.run(*run, "bs=120M", "count=1", check=False).returncode == 137


def test_a_changed_limit_reaches_a_slice_in_use(host: Host):
    host.converge(spec())
    name = slice_of("mary-ann")
    host.start(name)
    assert (host.memory(name), host.tasks(name)) == (str(100 * MB), "60")
    for memory, tasks in ((300 * MB, 90), (80 * MB, 30)):
        changes = host.converge(spec(groups=DATA["groups"] | student(memory_max=memory, tasks_max=tasks)))
        assert any(change.startswith(f"set {name}:") for change in changes)
        assert (host.memory(name), host.tasks(name)) == (str(memory), str(tasks))
    host.converge(spec(groups=DATA["groups"] | student(memory_max=None, tasks_max=None, max_cpus=None)))
    assert host.tasks(name) == "max"
    assert int(host.memory(name).replace("max", str(1 << 62))) > 1 << 60
    assert host.lab.run("systemctl", "is-active", probe(name)).stdout.strip() == "active"


def test_a_limit_changed_behind_systemd_is_a_change_and_put_right(host: Host):
    host.converge(spec())
    name = slice_of("alice")
    host.start(name)
    assert host.converge(spec()) == []
    path = cgroup_path(name)
    files = f"/sys/fs/cgroup/{path}/pids.max", f"/sys/fs/cgroup/pids/{path}/pids.max"
    host.lab.run("sh", "-c", 'if [ -e "$1" ]; then echo 77 > "$1"; else echo 77 > "$2"; fi', "sh", *files)
    assert host.converge(spec()) == ["reload systemd", f"set {name}: tasks_max 77 -> 60"]
    assert host.tasks(name) == "60"
    assert host.converge(spec()) == []


def test_a_group_as_a_whole_is_capped_while_in_use(host: Host):
    host.converge(spec())
    host.start(slice_of("dave", "faculty"))
    group = {"aggregate": {}, "group_aggregate": {"memory_max": 300 * MB, "tasks_max": 99}}
    host.converge(spec(groups=DATA["groups"] | {"faculty": group}))
    assert (host.memory("ds01-faculty.slice"), host.tasks("ds01-faculty.slice")) == (str(300 * MB), "99")


def test_a_person_who_changes_group_is_capped_in_the_old_slice_until_it_ends(host: Host):
    host.converge(spec())
    old = slice_of("alice")
    host.start(old)
    moved = spec(members={**DATA["members"], "alice": "faculty"})
    assert f"write {old}.d/60-moved.conf" in host.converge(moved)
    assert (host.memory(old), host.tasks(old)) == (str(100 * MB), "40")
    assert host.converge(moved) == []
    host.stop(old)
    assert host.converge(moved) == [f"remove {old}.d/60-moved.conf", "reload systemd"]
    host.start(slice_of("alice", "faculty"))
    assert host.tasks(slice_of("alice", "faculty")) == "40"


def test_a_person_is_moved_by_the_groups_of_the_directory_service(host: Host):
    name = slice_of("n.ito@example.org")
    host.start(name)
    by_directory = spec(unix_groups={"gpu-research@example.org": "faculty"})
    assert f"write {name}.d/60-moved.conf" in host.converge(by_directory)
    assert host.tasks(name) == "40"


def test_people_of_a_group_that_is_gone_keep_a_limit(host: Host):
    host.converge(spec())
    name = slice_of("dave", "faculty")
    host.start(name)
    host.converge(spec(groups=student(), members={"dave": "student"}))
    assert "ds01-faculty.slice" not in host.files()
    assert (host.memory(name), host.tasks(name)) == (str(100 * MB), "60")


def test_other_peoples_files_stay(host: Host):
    host.lab.sh(f"mkdir -p {UNITS}/ds01-student-bob.slice.d")
    host.lab.write(f"{UNITS}/ds01-student-bob.slice.d/99-local.conf", "[Slice]\nTasksMax=50\n")
    host.lab.write(f"{UNITS}/ds01-own.slice", "[Slice]\n")
    host.converge(spec())
    host.converge({"remove": "slices"})
    assert host.files() == ["ds01-own.slice", "ds01-student-bob.slice.d/99-local.conf"]
    host.lab.sh(f"rm -r {UNITS}/ds01-student-bob.slice.d {UNITS}/ds01-own.slice")


def test_removal_lifts_the_limits_of_slices_in_use(host: Host):
    host.converge(spec())
    name = slice_of("alice")
    host.start(name)
    host.converge({"remove": "slices"})
    assert host.tasks(name) == "max"
    assert host.files() == []


def test_a_strict_umask_does_not_matter(host: Host):
    host.converge(spec(), prefix="umask 077;")
    modes = host.lab.sh(f"find {UNITS} -path '{UNITS}/ds01*' -printf '%y%m\\n' | sort -u").split()
    assert modes == ["d755", "f644"]
    assert host.lab.sh("stat -c %a /run/ds01 /var/log/ds01 /var/log/ds01/events.jsonl").split() == ["755", "755", "640"]


def test_a_full_disk_leaves_the_old_files_and_the_next_run_finishes(host: Host):
    host.converge(spec())
    before = host.text("ds01-student-.slice.d/50-limits.conf")
    groups = student(tasks_max=61) | {f"g{number}": {"aggregate": {"tasks_max": 5}} for number in range(40)}
    many = spec(groups=groups, members={})
    # A tiny disk in place of the directory, with the files of now: it fills up in the middle of the run.
    host.lab.sh(f"mount -t tmpfs -o size=64k none /mnt; cp -a {UNITS}/ds01* /mnt; mount --move /mnt {UNITS}")
    try:
        host.lab.sh(f"dd if=/dev/zero of={UNITS}/filler bs=4k 2>/dev/null || true")
        failed = host.attempt(many)
        assert failed.returncode != 0
        assert "No space left" in failed.stderr
        assert host.text("ds01-student-.slice.d/50-limits.conf") == before
        assert not [name for name in host.files() if name.endswith(".ds01-tmp")]
    finally:
        host.lab.sh(f"umount {UNITS}")
    host.converge(many)
    assert host.converge(many) == []


def test_two_runs_at_once_end_in_one_result(host: Host):
    host.start(slice_of("alice"))
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda _: host.attempt(spec()), range(4)))
    assert [run.returncode for run in runs] == [0] * 4
    assert sum(bool(json.loads(run.stdout)["changes"]) for run in runs) == 1
    assert host.converge(spec()) == []


def test_a_run_killed_at_any_step_is_finished_by_the_next(host: Host):
    alice = slice_of("alice")
    host.converge(spec())
    host.start(alice)
    changed = spec(groups=student(tasks_max=33) | {"tutor": {"aggregate": {"tasks_max": 5}}}, members={})
    steps = 0
    while True:
        steps += 1
        killed = host.attempt(changed, kill_at=steps)
        assert host.tasks(alice) in {"60", "33"}
        if killed.returncode == 0:
            break
        assert killed.returncode == 137, killed.stderr
        host.converge(changed)
        assert host.tasks(alice) == "33"
        assert host.converge(changed) == []
        host.converge(spec())
    # At least: a directory, four files, four removals, the reload and the push.
    assert steps > 11
    assert not [name for name in host.files() if name.endswith(".ds01-tmp")]


def test_a_run_killed_between_files_and_reload_leaves_the_reload_to_the_next(host: Host):
    host.converge(spec())
    alice = slice_of("alice")
    host.start(alice)
    host.lab.sh(f"sed -i s/TasksMax=60/TasksMax=44/ '{UNITS}/ds01-student-.slice.d/50-limits.conf'")
    host.lab.sh("touch /run/ds01/slices.reload")
    changes = host.converge(spec(groups=DATA["groups"] | student(tasks_max=44)))
    assert changes == ["reload systemd", f"set {alice}: tasks_max 60 -> 44"]
    assert host.tasks(alice) == "44"


def test_logins_are_capped_while_in_use_except_for_the_exempt(host: Host):
    users = ("alice-l", "bob-l")
    for user in users:
        host.lab.sh(f"useradd --create-home {user}; loginctl enable-linger {user}")
    uids = {user: host.lab.sh(f"id -u {user}").strip() for user in users}
    for uid in uids.values():
        _wait(lambda uid=uid: host.lab.run("systemctl", "is-active", f"user-{uid}.slice", check=False).returncode == 0)
    before = host.tasks(f"user-{uids['bob-l']}.slice")
    try:
        host.converge({"logins": {"tasks_max": 321, "memory_max": 400 * MB, "exempt_users": ["bob-l"]}})
        assert host.tasks(f"user-{uids['alice-l']}.slice") == "321"
        assert host.memory(f"user-{uids['alice-l']}.slice") == str(400 * MB)
        assert host.tasks(f"user-{uids['bob-l']}.slice") == before
        assert host.converge({"logins": {"tasks_max": 321, "memory_max": 400 * MB, "exempt_users": ["bob-l"]}}) == []
        # A directory that does not answer takes nobody's exemption away.
        host.lab.sh("sed -i.known /^bob-l:/d /etc/passwd")
        silent = host.converge({"logins": {"tasks_max": 321, "memory_max": 400 * MB, "exempt_users": ["bob-l"]}})
        host.lab.sh("mv /etc/passwd.known /etc/passwd")
        assert silent == []
        host.converge({"logins": {"tasks_max": 321, "memory_max": 400 * MB, "exempt_users": ["alice-l"]}})
        assert host.tasks(f"user-{uids['alice-l']}.slice") == before
        assert host.tasks(f"user-{uids['bob-l']}.slice") == "321"
        host.converge({"remove": "logins"})
        assert host.tasks(f"user-{uids['bob-l']}.slice") == before
    finally:
        for user in users:
            host.lab.sh(
                f"loginctl disable-linger {user}; systemctl stop user-{uids[user]}.slice; userdel --remove {user}"
            )


def _wait(ready: Any) -> None:
    for _ in range(600):
        if ready():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen")


def test_names_agree_with_systemd_escape(host: Host):
    names = [
        "alice",
        "mary-ann",
        "h.baker@example.org",
        ".x",
        "a b",
        "DOM\\joe",
        "jürgen",
        "ß-ö_.:",
        "x" * 60,
        "-",
        "~a",
    ]
    found = host.lab.run("systemd-escape", "--", *names).stdout.split()
    assert found == [escape(name) for name in names]
