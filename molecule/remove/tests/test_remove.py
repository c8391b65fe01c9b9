"""A host after the removal: as it was before, with people's accounts and data kept."""

import json
import os
from pathlib import Path

import pytest

# Kept on purpose: people, with their files and the lists that name them; the logs, caches and backups of the system.
KEPT = (
    "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid",
    "/home", "/scratch", "/collaborative", "/readonly", "/data",
    "/var/log", "/var/lib/systemd", "/var/lib/logrotate", "/var/cache", "/var/backups", "/var/lib/apt", "/var/lib/dpkg",
    "/etc/.pwd.lock",
    # Hardware: the GPUs stay divided until the next reboot.
    "/var/lib/nvmlsim",
)  # fmt: skip


@pytest.fixture(scope="module")
def snapshots():
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    return tuple(json.loads((folder / f"{name}.json").read_text()) for name in ("before", "after"))


def strange(paths):
    """Those paths that are not kept on purpose, without compiled files of Python's own."""
    return sorted(path for path in paths if not path.startswith(KEPT) and "__pycache__" not in path)


def test_no_file_is_left(snapshots):
    before, after = snapshots
    assert strange(set(after) - set(before)) == []


def test_no_file_of_the_host_is_gone(snapshots):
    before, after = snapshots
    assert strange(set(before) - set(after)) == []


def test_every_file_is_what_it_was(snapshots):
    before, after = snapshots
    assert len(before) > 5000
    changed = [path for path in before.keys() & after.keys() if before[path] != after[path]]
    assert strange(changed) == []


def test_no_trace_among_the_kept_places(snapshots):
    _, after = snapshots
    ours = [path for path in after if "ds01" in Path(path).name and not path.startswith(("/home", "/root"))]
    assert ours == []


def test_no_unit_is_left(host):
    assert (
        host.check_output("systemctl list-units --all --plain --no-legend 'ds01*' | grep -v '^ds01.*slice' || true")
        == ""
    )
    assert host.check_output("systemctl list-unit-files --no-legend 'ds01*' || true") == ""


def test_no_semaphore_is_left(host):
    assert host.check_output("tail --lines=+2 /proc/sysvipc/sem") == ""


def test_the_container_never_stopped(host):
    pid = host.file("/root/before.pid").content_string.strip()
    assert host.check_output("docker inspect -f '{{.State.Pid}} {{.State.Running}}' before") == f"{pid} true"
    assert "sleep 86400" in host.check_output("docker top before")
    # On cgroup v1 systemd takes each hierarchy over at its first use and moves foreign processes to its root, where
    # runc does not find them any more. A server has v2, and one hierarchy.
    if host.file("/sys/fs/cgroup/cgroup.controllers").exists:
        assert host.check_output("docker exec before echo alive") == "alive"


def test_people_and_their_files_are_kept(host):
    assert host.user("alice").exists
    assert host.file("/home/alice").user == "alice"


def test_who_reached_the_engine_before_reaches_it_again(host):
    assert "docker" in host.user("veteran").groups
    assert host.file("/run/docker.sock").mode == 0o660
    assert host.check_output("su -l veteran -c 'docker ps --format {{.Names}}'") == "before"


def test_limits_are_gone_from_the_kernel(host):
    show = host.check_output("systemctl show -p MemoryMax --value user-1000.slice")
    assert show == "infinity"
