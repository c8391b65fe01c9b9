"""The audit log on a host: the real logrotate, the real journal, a disk that is full, and members who try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from jinja2 import Template

from lab.process import ROOT
from lab.testhost import LabHost

CODE = "/root/ds01-audit"
LOG = "/var/log/ds01"
# Writes so many events, and prints the id of each.
WRITE = f"""
import sys
sys.path.insert(0, "{CODE}")
from ds01 import events
for number in range(int(sys.argv[1])):
    print(events.record("limit.near", decision="warned", reason=sys.argv[2] * int(sys.argv[3])), flush=True)
"""
ROTATE = "logrotate --state /root/rotated"


@pytest.fixture
def host(lab_host: LabHost) -> Iterator[LabHost]:
    role = ROOT / "roles/logging"
    settings = yaml.safe_load((role / "defaults/main.yml").read_text(encoding="utf-8"))
    settings |= {"logging_rotate_size": "20k", "logging_rotate_count": 3}
    rules = Template((role / "templates/etc/logrotate.d/ds01.j2").read_text(encoding="utf-8")).render(settings)
    lab_host.sh(f"rm -rf {CODE} {LOG} /root/rotated; mkdir -p {CODE}; id eve 2>/dev/null || useradd eve")
    lab_host.copy("src/ds01", f"{CODE}/ds01")
    lab_host.write(f"{CODE}/write.py", WRITE)
    lab_host.write("/etc/logrotate.d/ds01", rules + "\n")
    yield lab_host
    lab_host.sh(f"rm -rf {CODE} {LOG} /root/rotated /etc/logrotate.d/ds01; userdel eve")


def write(host: LabHost, count: int, text: str = "x", times: int = 1) -> list[str]:
    return host.run("python3", f"{CODE}/write.py", str(count), text, str(times)).stdout.split()


def kept(host: LabHost) -> list[dict[str, Any]]:
    """What is in the log and in what was rotated away, whole lines only."""
    return [json.loads(line) for line in host.sh(f"zcat -f $(ls -t {LOG}/*) || true").splitlines()]


def test_a_rotation_loses_no_line_of_who_writes_meanwhile(host: LabHost):
    write(host, 1)
    run = f"python3 {CODE}/write.py 300 x 10 >/root/ids & while kill -0 $! 2>/dev/null; do"
    # No more rotations than are kept, so that every line is still there; the first is forced in the midst of it.
    host.sh(f"{run} test $(ls {LOG} | wc -l) -gt 3 || {ROTATE} --force /etc/logrotate.d/ds01; sleep 1; done")
    found = [event["id"] for event in kept(host)]
    assert len(found) == len(set(found)) == 301
    assert set(host.sh("cat /root/ids").split()) <= set(found)
    assert host.sh(f"stat -c '%U %a' {LOG} {LOG}/events.jsonl").split() == ["root", "755", "root", "640"]
    assert int(host.sh(f"ls {LOG} | wc -l")) > 1


def test_its_size_is_bounded(host: LabHost):
    for _ in range(6):
        write(host, 12, "y", 2000)
        host.sh(f"{ROTATE} /etc/logrotate.d/ds01; sleep 1")
    names = host.sh(f"ls {LOG}").split()
    assert len([name for name in names if name != "events.jsonl"]) == 3, names
    assert int(host.sh(f"du --bytes --summarize {LOG}").split()[0]) < 3 * 12 * 4096


def test_a_full_disk_costs_the_file_its_line_and_the_journal_none(host: LabHost):
    host.sh(f"mkdir {LOG}; mount -t tmpfs -o size=16k,mode=755 none {LOG}")
    try:
        lost = write(host, 12, "z", 3000)
        host.sh(f"journalctl --sync; truncate --size 0 {LOG}/events.jsonl")
        again = write(host, 1)
        host.sh("journalctl --sync")
        assert [event["id"] for event in kept(host)] == again
    finally:
        host.sh(f"umount {LOG}")
    whole = host.sh("journalctl --identifier ds01 --output json --output-fields DS01_EVENT,DS01_ID,_UID").splitlines()
    journal = {row["DS01_ID"]: row for row in map(json.loads, whole) if row.get("_UID") == "0"}
    for number in (*lost, *again):
        assert json.loads(journal[number]["DS01_EVENT"])["id"] == number


def test_members_read_nothing_there_and_change_nothing(host: LabHost):
    write(host, 3)
    host.sh(f"{ROTATE} --force /etc/logrotate.d/ds01")
    write(host, 3)
    before = host.sh(f"cd {LOG}; sha256sum *; stat -c '%n %U %a' *")
    for attempt in (
        f"cat {LOG}/events.jsonl", f"echo x >>{LOG}/events.jsonl", f"rm -f {LOG}/events.jsonl*",
        f"mv {LOG}/events.jsonl {LOG}/x", f"touch {LOG}/events.jsonl-20260101-1", f"truncate -s 0 {LOG}/events.jsonl",
        f"ln -f {LOG}/events.jsonl /tmp/mine", f"mv {LOG} /var/log/x", f"chmod 666 {LOG}/events.jsonl",
    ):  # fmt: skip
        assert host.run("runuser", "-u", "eve", "--", "sh", "-c", attempt, check=False).returncode != 0, attempt
    # What a member writes into the journal under that name has their uid beside it, which the journal itself notes.
    host.run("runuser", "-u", "eve", "--", "systemd-cat", "--identifier=ds01", "echo", "user.add allowed")
    host.sh("journalctl --sync")
    uids = host.sh("journalctl --identifier ds01 --output json --output-fields MESSAGE,_UID").splitlines()
    forged = [row for row in map(json.loads, uids) if row["MESSAGE"] == "user.add allowed"]
    assert [row["_UID"] for row in forged] == [host.sh("id -u eve").strip()]
    assert host.sh(f"cd {LOG}; sha256sum *; stat -c '%n %U %a' *") == before
