"""What goes wrong around a deployment: it is cut off, misconfigured, started twice, or run with a strict umask."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import testhost
from lab.host import inventory
from lab.process import ROOT

# Cutting every task would take an hour; every sixth one meets each kind of task, and each later cut finds a host on
# which the earlier ones left their halves.
CUT_EVERY = 6

# Everything that a deployment may change, with content: what a refused run must leave alone.
# Without databases, samples and what the jobs noted, which the host's own services write at any time.
FINGERPRINT = (
    "find /etc /opt /usr/local /var/lib/ds01 -type f -not -name '*.db*' -not -path '/var/lib/ds01/monitor/*'"
    " -not -path '/var/lib/ds01/enforce/*' -exec sha256sum {} + 2>/dev/null | sort -k 2"
)


def recap(output: str) -> dict[str, int]:
    """The counts of the last line of a run."""
    return {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", output[output.rindex("PLAY RECAP") :])}


def health(host, *options: str) -> dict[str, str]:
    """What the host's own checks say: status by name."""
    done = host.run("/opt/ds01/current/bin/ds01", "health", "--json", "--allow-cgroup-v1", *options, check=False)
    return {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}


@contextmanager
def broken_policy(host) -> Iterator[str]:
    """A host whose policy cannot be read, and whose hourly job has met it; its path."""
    path = "/etc/ds01/resource-limits.yaml"
    good = host.sh(f"cat {path}")
    host.write(path, good[: len(good) // 2] + "\n\t]: broken")
    try:
        host.sh("! systemctl start ds01-enforce-slices.service")
        yield path
    finally:
        host.write(path, good)


class TestOneHost:
    """In this order: the host that was cut off is the host of the later tests."""

    def test_cut_off_anywhere_and_run_again(self, fresh_host, tmp_path):
        plugins = {
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "lab/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "lab_tasks",
            "LAB_TASK_LOG": str(tmp_path / "tasks"),
        }
        cuts = 0
        while True:
            kill_at = str(CUT_EVERY * (cuts + 1))
            done = fresh_host.play("playbooks/site.yml", env={**plugins, "LAB_KILL_AT": kill_at}, check=False)
            if done.returncode == 0:
                break
            assert done.returncode == -9, done.stdout + done.stderr
            cuts += 1
        assert cuts >= 5
        assert recap(fresh_host.play("playbooks/site.yml").stdout)["changed"] == 0
        assert set(health(fresh_host).values()) <= {"ok", "warning"}

    def test_a_broken_policy_changes_nothing(self, fresh_host, tmp_path):
        broken = tmp_path / "broken.yaml"
        text = (ROOT / "lab/resource-limits.yaml").read_text()
        broken.write_text(text.replace("max_cpus: 0.5", "max_cpu: lots", 1).replace("200M", "two hundred", 1))
        (tmp_path / "people.csv").write_text((ROOT / "lab/people.csv").read_text())
        before = fresh_host.sh(FINGERPRINT)

        done = fresh_host.play("playbooks/site.yml", f"--extra-vars=ds01_policy_file={broken}", check=False)

        assert done.returncode == 2
        for words in ("max_cpu", "max_cpus", "two hundred"):
            assert words in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        assert fresh_host.sh(FINGERPRINT) == before

    def test_a_broken_policy_on_the_host_changes_no_limit(self, fresh_host):
        units = "cat /etc/systemd/system/ds01-*/*.conf"
        before = fresh_host.sh(units)
        with broken_policy(fresh_host) as path:
            done = fresh_host.run("/opt/ds01/current/bin/ds01", "enforce", "slices", check=False)
            assert done.returncode == 1
            assert path in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
            assert fresh_host.sh(units) == before
            found = health(fresh_host)
            assert (found["policy"], found["jobs"]) == ("failed", "failed")
        assert set(health(fresh_host, "--fix").values()) <= {"ok", "warning"}

    def test_a_rule_that_does_not_hold_fails_the_verification(self, fresh_host):
        fresh_host.play("playbooks/verify.yml")
        fresh_host.sh("chmod 666 /run/ds01/engine/docker.sock")
        try:
            done = fresh_host.play("playbooks/verify.yml", check=False)
        finally:
            fresh_host.sh("chmod 600 /run/ds01/engine/docker.sock")
        assert done.returncode == 2
        assert "can be opened by others than root" in done.stdout

    def test_two_runs_at_once(self, fresh_host):
        # Whichever of them goes on also runs again what failed before; otherwise its verification would fail.
        with broken_policy(fresh_host):
            pass
        command = [Path(sys.executable).parent / "ansible-playbook", *inventory(fresh_host.name), "playbooks/site.yml"]
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        runs = [
            subprocess.Popen(
                command, cwd=ROOT, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for _ in range(2)
        ]  # fmt: skip
        outputs = [run.communicate()[0] for run in runs]
        assert 0 in [run.returncode for run in runs], outputs
        for run, output in zip(runs, outputs, strict=True):
            assert run.returncode == 0 or "another deployment" in output
        assert recap(fresh_host.play("playbooks/site.yml").stdout)["changed"] == 0

    def test_cgroup_v1_is_refused_on_a_server(self, fresh_host):
        unified = fresh_host.run("test", "-e", "/sys/fs/cgroup/cgroup.controllers", check=False).returncode == 0
        before = fresh_host.sh(FINGERPRINT)
        done = fresh_host.play("playbooks/site.yml", "--extra-vars={ds01_allow_cgroup_v1: false}", check=False)
        assert (done.returncode == 0) == unified
        if not unified:
            assert "cgroup v1" in done.stdout
        assert fresh_host.sh(FINGERPRINT) == before


@pytest.fixture
def strict_umask():
    """The controller's processes make files that nobody else may read."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_umask_077_everywhere():
    with testhost.fresh() as host:
        # Ansible, the installer and every job of the host start Python by this name.
        real = host.sh("readlink -f /usr/bin/python3").strip()
        host.sh("rm /usr/bin/python3")
        host.write("/usr/bin/python3", f'#!/bin/sh\numask 077\nexec {real} "$@"\n', 0o755)
        host.play("playbooks/site.yml")
        assert health(host)["files"] == "ok"
        as_alice = host.run("su", "-l", "alice", "-c", "ds01 limits --json")
        assert json.loads(as_alice.stdout)
