"""What an earlier installation left is found; what others put there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01.host.traces import Traces


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def write(path: str, text: str = "") -> None:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    write("opt/ds01-infra/config/runtime/groups/researcher.members", "carol # thesis\n\n# nobody\n")
    write("opt/ds01-infra/config/runtime/groups/student.members", "alice\nbob\ncarol\n")
    write("opt/ds01-infra/config/runtime/group-overrides.txt", "bob:faculty  # head\nbroken\n")
    write("etc/cron.d/ds01-maintenance", "* * * * * root /opt/ds01-infra/x\n")
    write("etc/cron.d/other", "* * * * * root sh -c /opt/ds01-infra/y\n")
    write("etc/cron.d/innocent", "* * * * * root true\n")
    write("etc/systemd/system/ds01-student.slice", "[Slice]\n")
    write("etc/systemd/system/ds01-admin.slice", "# Written by DS01; edit the policy instead.\n[Slice]\n")
    write("etc/logrotate.d/ds01", "# Written by DS01\n")
    write("var/spool/cron/crontabs/root", "# /opt/ds01-infra/x\n1 * * * * true\n")
    write("var/lib/ds01/gpu-queue.json", "{}")
    write("var/log/ds01/events.jsonl", "{}")
    write("usr/local/bin/own-tool", "#!/bin/sh\n")
    (tmp_path / "usr/local/bin/docker").symlink_to("/opt/ds01-infra/scripts/docker-wrapper.sh")
    (tmp_path / "usr/local/bin/else").symlink_to("/opt/ds01-infra-of-somebody/x")
    return tmp_path


def test_everything_of_it_is_found_jobs_first(root: Path):
    found = [(trace.kind, str(trace.path.relative_to(root))) for trace in Traces(root).find()]
    assert found == [
        ("cron", "etc/cron.d/ds01-maintenance"),
        ("cron", "etc/cron.d/other"),
        ("command", "usr/local/bin/docker"),
        ("slice", "etc/systemd/system/ds01-student.slice"),
    ]


def test_a_job_in_a_crontab_counts_and_a_comment_does_not(root: Path):
    crontab = root / "var/spool/cron/crontabs/root"
    crontab.write_text("1 * * * * /opt/ds01-infra/x\n", encoding="utf-8")
    assert ("crontab", crontab) in Traces(root).find()


def test_nobody_but_root_can_make_it_seem_to_be_there(tmp_path: Path):
    crontabs = tmp_path / "var/spool/cron/crontabs"
    crontabs.mkdir(parents=True)
    for name, present in (("anna", False), ("root", True)):
        (crontabs / name).write_text("1 * * * * /opt/ds01-infra/x\n", encoding="utf-8")
        assert Traces(tmp_path).present() is present


def test_state_and_logs(root: Path):
    left = [trace.path.name for trace in Traces(root).leftovers()]
    assert left == ["gpu-queue.json", "events.jsonl"]


def test_members_as_it_read_them(root: Path):
    assert Traces(root).members() == {"carol": "researcher", "alice": "student", "bob": "faculty"}


def test_its_policy_files(root: Path):
    names = [path.name for path in Traces(root).configuration()]
    assert names == ["group-overrides.txt", "researcher.members", "student.members"]


def test_a_host_without_it(tmp_path: Path):
    traces = Traces(tmp_path)
    assert not traces.present()
    assert traces.find() == traces.leftovers() == traces.configuration() == []
    assert traces.members() == {}
