"""The Ansible modules, run by Ansible on a host that has nothing of ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.modules import Module

SPEC: dict[str, Any] = {
    "groups": {"student": {"aggregate": {"memory_max": 100 << 20, "tasks_max": 60}}},
    "overrides": {"bob": {"group": "student", "aggregate": {"tasks_max": None}, "expires": None}},
    "default_group": "student",
}


@pytest.fixture
def module(lab_host):
    yield Module(lab_host)
    Module(lab_host)("ds01_slices", {"state": "absent", "family": "slices"})
    lab_host.sh("systemctl stop ds01.slice 2>/dev/null || true; rm -rf /run/ds01 /var/log/ds01")


def test_slices_are_predicted_made_kept_and_removed(module, lab_host):
    predicted = module("ds01_slices", {"spec": SPEC}, "--check")
    assert predicted["changed"]
    assert lab_host.sh("ls -d /etc/systemd/system/ds01* /run/ds01 /var/log/ds01 2>/dev/null || true") == ""
    made = module("ds01_slices", {"spec": SPEC})
    assert made["changes"] == predicted["changes"]
    assert not module("ds01_slices", {"spec": SPEC})["changed"]
    assert not module("ds01_slices", {"spec": SPEC}, "--check")["changed"]
    removed = module("ds01_slices", {"state": "absent", "family": "slices"}, "--check")
    assert "remove ds01.slice" in removed["changes"]
    assert module("ds01_slices", {"state": "absent", "family": "slices"})["changes"] == removed["changes"]
    assert not module("ds01_slices", {"state": "absent", "family": "slices"})["changed"]


def test_only_the_kernel_being_otherwise_is_a_change(module, lab_host):
    module("ds01_slices", {"spec": SPEC})
    lab_host.sh("systemd-run --quiet --unit=probe-module --slice=ds01-student-eve.slice sleep 1000")
    try:
        path = "ds01.slice/ds01-student.slice/ds01-student-eve.slice/pids.max"
        lab_host.sh(f"for f in /sys/fs/cgroup/{path} /sys/fs/cgroup/pids/{path}; do [ ! -e $f ] || echo 9 > $f; done")
        expected = ["reload systemd", "set ds01-student-eve.slice: tasks_max 9 -> 60"]
        assert module("ds01_slices", {"spec": SPEC}, "--check")["changes"] == expected
        assert module("ds01_slices", {"spec": SPEC})["changes"] == expected
        assert not module("ds01_slices", {"spec": SPEC})["changed"]
    finally:
        lab_host.sh("systemctl stop probe-module")


def test_wrong_data_is_said_with_its_place(module):
    result = module("ds01_slices", {"spec": {**SPEC, "default_group": "studnet"}}, fails=True)
    assert result["msg"].startswith("default_group: 'studnet': expected one of the groups student")


def test_files_in_bulk_are_predicted_checked_and_written(module, lab_host):
    path = "/etc/ds01-test/a/x.service"
    text = "# Written by DS01\n[Service]\nExecStart=/bin/true\n"
    file = {"path": path, "content": text, "validate": "systemd-analyze verify %s"}
    try:
        assert module("ds01_files", {"files": [file]}, "--check")["changed"]
        assert lab_host.run("test", "-e", "/etc/ds01-test", check=False).returncode != 0
        assert module("ds01_files", {"files": [file]})["changes"] == [f"write {path}"]
        assert not module("ds01_files", {"files": [file]})["changed"]
        broken = {**file, "content": text.replace("ExecStart", "ExecStat")}
        assert "systemd-analyze verify" in module("ds01_files", {"files": [broken]}, fails=True)["msg"]
        assert lab_host.sh(f"cat {path}") == text
        assert module("ds01_files", {"stale": ["/etc/ds01-test/a/*"]})["changes"] == [f"remove {path}"]
    finally:
        lab_host.sh("rm -rf /etc/ds01-test")


PEOPLE = {"people": [{"name": "nobody-knows", "comment": "Zoe Written-Down", "create": False}]}
ENGINE = {"log_max_size": "10m", "log_max_file": 3, "registry_mirrors": [], "insecure_registries": []}
RUN = {"me": {"machine": "m", "process": "1:1", "user": "u", "since": 0}, "alive": []}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ds01_users", PEOPLE),
        ("ds01_offboard", {**PEOPLE, "departed": "expired"}),
        ("ds01_slices", {"spec": {**SPEC, "members": {"written-down": "student"}}}),
        ("ds01_engine", {"policy": ENGINE, "slices": {**SPEC, "members": {"written-down": "student"}}}),
        ("ds01_preflight", {"engine": ENGINE, "slices": {**SPEC, "members": {"written-down": "student"}}, "run": RUN}),
    ],
)
def test_people_do_not_end_up_in_the_journal(module, lab_host, name: str, arguments: dict[str, Any]):
    module(name, arguments, "--check", fails=name == "ds01_preflight")
    # The journal keeps the order in which it was told.
    lab_host.sh("logger -t probe written; journalctl --sync")
    journal = lab_host.sh(f"journalctl --output=cat -t probe -t ansible-{name} -t ansible-{name}.py -t python3")
    assert "written" in journal
    assert "written-down" not in journal.lower()
