"""People on the deployed lab host: what they are and what others cannot do to them."""

from __future__ import annotations

import pytest

LOCAL = {"alice": "ds01-users", "bob": "ds01-users", "mary-ann": "ds01-users", "erin": "ds01-admin"}


@pytest.mark.parametrize(("name", "group"), LOCAL.items())
def test_an_account_with_private_directories(host, name, group):
    user = host.user(name)
    assert user.exists
    assert group in user.groups
    for path in (user.home, f"/scratch/{name}"):
        found = host.file(path)
        assert (found.is_directory, found.user, found.mode) == (True, name, 0o700)
    assert host.check_output("getent shadow %s", name).split(":")[1] == "*"


def test_nobody_looks_into_anothers_directories(host):
    for path in ("/home/bob", "/scratch/bob"):
        assert host.run("su alice -s /bin/sh -c 'ls %s'", path).rc != 0
    assert host.run("su alice -s /bin/sh -c 'ls /scratch'").rc != 0
    assert host.run("su alice -s /bin/sh -c 'touch /scratch/alice/ok && rm /scratch/alice/ok'").rc == 0


def test_people_of_the_directory_service_have_no_local_account(host):
    assert "@" not in host.check_output("cat /etc/passwd /etc/shadow")


def test_only_administrators_are_administrators(host):
    members = host.check_output("getent group ds01-admin").rpartition(":")[2].split(",")
    assert "erin" in members
    assert not set(members) & {"alice", "bob", "carol", "mary-ann"}


def test_the_account_files_are_in_order(host):
    assert host.run("pwck -r -q").rc == 0
    assert host.run("grpck -r").rc == 0


def test_nobody_is_in_the_docker_group(host):
    assert host.check_output("getent group docker").rpartition(":")[2] == ""
