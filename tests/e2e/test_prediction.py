"""`--check` on a host that never saw DS01 says what a deployment does, and does none of it."""

from __future__ import annotations

import json
from pathlib import Path

from lab.process import ROOT

# How the runtime gets there, not what is there afterwards: only worth doing when it is really installed.
TRANSPORT = {"runtime : Make the bundle", "runtime : Copy the bundle", "runtime : Remove the bundle"}
# Follows from files that are predicted: systemd, the system bus and the kernel take over what they say.
FOLLOWING = {
    "logging : Restart the journal if it started before its bounds",
    # It may have seen its file by itself.
    "privacy : Let systemd tell members nothing of others' processes",
    "slices : Tell the kernel",
    "timers : Run these timers, now and at boot, and no others",
}
SNAPSHOT = ROOT / "molecule/remove/files/snapshot.py"


def changed(host, log: Path, *arguments: str) -> set[str]:
    """The tasks that changed something, or would."""
    env = {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "lab/callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "lab_tasks",
        "LAB_TASK_LOG": str(log),
    }
    host.play("playbooks/site.yml", *arguments, env=env)
    tasks = [json.loads(line) for line in log.read_text().splitlines()]
    return {task["name"] for task in tasks if task["changed"]}


def files(host) -> dict[str, object]:
    """Every file of the host, without what Ansible and the system write whenever they run."""
    found = json.loads(host.run("python3", "-", stdin=SNAPSHOT.read_bytes()).stdout)
    own = ("/var/log/", "/run/", "/root/", "/var/lib/systemd/", "/var/cache/apt/", "/var/lib/nvmlsim/")
    return {path: facts for path, facts in found.items() if not path.startswith(own) and "__pycache__" not in path}


def test_a_check_predicts_and_changes_nothing(fresh_host, tmp_path):
    before = files(fresh_host)
    predicted = changed(fresh_host, tmp_path / "predicted", "--check", "--diff")
    assert files(fresh_host) == before
    done = changed(fresh_host, tmp_path / "done")
    assert len(done) > 8
    assert done - TRANSPORT - FOLLOWING == predicted
