"""Refusals before anything is changed, by the playbook that people run."""

from __future__ import annotations

import json
import time

from lab.testhost import LabHost

VALIDATE = "playbooks/validate.yml"
WATCHED = "find /etc /opt /var/lib/ds01 /usr/local -newer /root/watch 2>/dev/null | sort"


def test_everything_in_the_way_is_said_at_once_and_nothing_is_changed(lab_host: LabHost):
    lease = {"machine": "elsewhere boot", "process": "1:1", "user": "somebody", "since": time.time()}
    lab_host.sh("mkdir -p /etc/docker; touch /root/watch; sleep 0.1")
    lab_host.write("/etc/docker/daemon.json", '{"hosts": ["tcp://0.0.0.0:2375"]}')
    lab_host.write("/run/ds01-deployment.json", json.dumps(lease))
    before = lab_host.sh(WATCHED)
    try:
        done = lab_host.play(VALIDATE, "-e", "ds01_allow_cgroup_v1=false", check=False)
        after = lab_host.sh(WATCHED)
    finally:
        lab_host.sh("rm -f /etc/docker/daemon.json /run/ds01-deployment.json /root/watch")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "tcp://0.0.0.0:2375" in said
    assert "somebody on elsewhere" in said
    unified = lab_host.run("test", "-f", "/sys/fs/cgroup/cgroup.controllers", check=False).returncode == 0
    assert ("cgroup v1 or hybrid" in said) is not unified
    assert after == before


def test_an_ordinary_host_passes(lab_host: LabHost):
    assert "failed=0" in lab_host.play(VALIDATE).stdout
    assert lab_host.run("test", "-e", "/run/ds01-deployment.json", check=False).returncode != 0
