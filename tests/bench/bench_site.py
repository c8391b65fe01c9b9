"""site.yml on a host that is already as it should be, against its first run and against as many tasks that do nothing.

The lower bound is what Ansible itself needs on this machine: a play with one empty task for each task of site.yml that
works on the host.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from lab import testhost
from lab.process import ROOT

SLOWEST = 8


def timed(host, playbook: str, log: Path) -> tuple[float, dict[str, int], list[dict[str, object]]]:
    """Seconds, the counts of the recap, and the tasks of one run."""
    plugins = {"ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "lab/callback_plugins"), "ANSIBLE_CALLBACKS_ENABLED": "lab_tasks"}
    started = time.perf_counter()
    done = host.play(playbook, env={**plugins, "LAB_TASK_LOG": str(log)})
    seconds = time.perf_counter() - started
    recap = done.stdout[done.stdout.rindex("PLAY RECAP") :]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", recap)}
    return seconds, counts, [json.loads(line) for line in log.read_text().splitlines()]


def test_a_run_without_changes(tmp_path):
    with testhost.fresh() as host:
        first, _, _ = timed(host, "playbooks/site.yml", tmp_path / "first")
        again, counts, tasks = timed(host, "playbooks/site.yml", tmp_path / "again")
        # A task that only looks at its arguments, or prints, never leaves the controller.
        remote = [task for task in tasks if float(str(task["seconds"])) > 0.3]
        empty = tmp_path / "empty.yml"
        ping = "    - ansible.builtin.ping:\n" * len(remote)
        empty.write_text(f"- hosts: ds01\n  gather_facts: false\n  become: true\n  tasks:\n{ping}")
        bound, _, _ = timed(host, str(empty), tmp_path / "bound")

    assert counts["changed"] == 0
    print(f"\n{'site.yml':34}{'seconds':>9}{'ratio':>8}")
    for name, seconds in (("first run", first), ("run without changes", again), (f"{len(remote)} empty tasks", bound)):
        print(f"{name:34}{seconds:9.1f}{seconds / bound:8.2f}")
    print(f"\n{'slowest tasks of the second run':70}{'seconds':>9}")
    for task in sorted(tasks, key=lambda task: -float(str(task["seconds"])))[:SLOWEST]:
        print(f"{task['name']!s:70.70}{task['seconds']!s:>9}")
