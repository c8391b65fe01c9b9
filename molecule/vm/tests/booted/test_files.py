"""Disk quotas, mount options and devices, as ordinary people meet them."""

import pytest

_KIB = 1024


@pytest.mark.parametrize(("directory", "limit"), [("/home/alice", 60), ("/scratch/alice", 40)])
def test_a_writer_stops_at_the_quota(person, host, directory, limit):
    alice = person("alice")
    file = f"{directory}/fill"
    done = alice.login(f"dd if=/dev/zero of={file} bs=64k status=none")
    used = int(host.check_output("du --summarize --block-size=1K %s", directory).split()[0])
    host.check_output("rm -f %s", file)
    assert done.rc == 1
    assert "Disk quota exceeded" in done.stderr
    # Exactly the limit, except for a last block that did not fit as a whole.
    assert limit * _KIB - 64 <= used <= limit * _KIB


@pytest.mark.parametrize("command", ["readme-create birds", "shell-setup"])
def test_a_home_at_its_quota_is_said_by_a_command_which_leaves_nothing_half_written(person, host, command):
    alice = person("alice")
    assert alice.login("mkdir -p ~/workspace/birds").rc == 0
    files = "find /home/alice -type f ! -name fill -exec sha256sum {} +"
    before = host.check_output(files)
    filled = alice.login("dd if=/dev/zero of=/home/alice/fill bs=4k status=none")
    done = alice.login(f"/usr/local/bin/{command}")
    after = host.check_output(files)
    host.check_output("rm -rf /home/alice/fill /home/alice/workspace/birds")
    assert "Disk quota exceeded" in filled.stderr
    assert done.rc == 1
    assert "Disk quota exceeded: make room, `du -xsh" in done.stderr
    assert sorted(after.splitlines()) == sorted(before.splitlines())


@pytest.mark.parametrize("directory", ["/home", "/scratch"])
def test_the_mount_options_are_there(host, directory):
    options = host.check_output("findmnt --noheadings --output OPTIONS --target %s", directory).split(",")
    assert {"nosuid", "nodev"} <= set(options)


@pytest.mark.parametrize(("directory", "raised"), [("/home/alice", False), ("/scratch/alice", False), ("/opt", True)])
def test_a_setuid_copy_gives_no_rights(person, host, directory, raised):
    copy = f"{directory}/id-with-setuid"
    host.check_output("install --owner=root --mode=4755 /usr/bin/id %s", copy)
    shown = person("alice").login(f"{copy} --user --name")
    host.check_output("rm -f %s", copy)
    assert shown.stdout.strip() == ("root" if raised else "alice")


@pytest.mark.parametrize(("directory", "opens"), [("/home/alice", False), ("/scratch/alice", False), ("/opt", True)])
def test_a_device_file_does_not_open(person, host, directory, opens):
    node = f"{directory}/null"
    host.check_output("mknod --mode=666 %s c 1 3", node)
    done = person("alice").login(f"cat {node}")
    host.check_output("rm -f %s", node)
    assert (done.rc == 0) is opens
    assert opens or "Permission denied" in done.stderr


def test_a_closed_device_policy_says_not_permitted(host):
    host.run("test -e /dev/ds01-test || mknod --mode=666 /dev/ds01-test c 10 200")
    allowed, closed = (
        host.run("systemd-run --quiet --scope %s -- cat /dev/ds01-test", option)
        for option in ("--property=DevicePolicy=auto", "--property=DevicePolicy=closed")
    )
    host.check_output("rm -f /dev/ds01-test")
    assert "Operation not permitted" not in allowed.stderr
    assert "Operation not permitted" in closed.stderr
