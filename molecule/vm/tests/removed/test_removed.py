"""What only a kernel of its own shows of a removal: what limited people in the kernel and on disks is gone."""

import csv
import io

import pytest


@pytest.mark.parametrize("mount", ["/", "/scratch"])
def test_no_disk_quota_is_left(host, mount):
    shown = host.run("repquota -P -n -v -O csv %s", mount)
    # Where the mount option did not switch them on, they are off again.
    rows = [] if "not enabled" in shown.stderr else list(csv.DictReader(io.StringIO(shown.stdout)))
    assert rows or mount != "/"
    assert [row for row in rows if int(row["BlockHardLimit"]) or int(row["BlockSoftLimit"])] == []


@pytest.mark.parametrize("directory", ["/home/alice", "/scratch/alice"])
def test_a_writer_goes_on_where_the_quota_was(person, host, directory):
    done = person("alice").login(f"dd if=/dev/zero of={directory}/fill bs=1M count=70 status=none")
    host.check_output("rm -f %s", f"{directory}/fill")
    assert (done.rc, done.stderr) == (0, "")


def test_a_container_from_before_runs_on_and_can_be_entered(host):
    assert host.file("/sys/fs/cgroup/cgroup.controllers").exists
    assert host.check_output("docker exec stays echo alive") == "alive"


def test_slices_that_are_in_use_have_no_limit_in_the_kernel(person):
    alice = person("alice")
    for file in ("memory.max", "memory.high", "pids.max"):
        assert alice.read(file) == "max"


@pytest.mark.parametrize("directory", ["/home", "/scratch"])
def test_the_mount_options_are_gone(host, directory):
    options = host.check_output("findmnt --noheadings --output OPTIONS --target %s", directory).split(",")
    assert not {"nosuid", "nodev"} & set(options)
