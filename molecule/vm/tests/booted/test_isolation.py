"""What ordinary people see of each other, on a kernel of the host's own and in sessions as from ssh."""

import pytest


@pytest.mark.parametrize("place", ["/home/alice", "/scratch/alice"])
def test_a_file_that_is_open_to_all_is_still_its_owners(person, place):
    alice = person("alice")
    assert (
        alice.login(f"echo secret >{place}/verify; chmod 644 {place}/verify; cat {place}/verify").stdout == "secret\n"
    )
    tried = person("bob").login(f"cat {place}/verify")
    assert alice.login(f"rm {place}/verify").rc == 0
    assert tried.rc != 0
    assert "Permission denied" in tried.stderr


def test_nobody_reaches_somebody_elses_socket(person, host):
    alice, bob = person("alice"), person("bob")
    place = f"/run/ds01/users/{host.user('alice').uid}"
    bind = "docker create --name socket -v /var/run/docker.sock:/var/run/docker.sock ds01-lab/base true"
    assert alice.login(bind).rc == 0
    try:
        assert host.file(place).is_directory
        assert bob.login(f"ls -A {place}").rc != 0
        assert bob.login(f"docker --host unix://{place}/docker.sock ps").rc != 0
    finally:
        assert alice.login("docker rm socket").rc == 0


def test_nobody_sees_what_others_run_or_have_in_tmp(person, host):
    assert (
        person("alice").login("echo secret >/tmp/verify; chmod 644 /tmp/verify; cat /tmp/verify").stdout == "secret\n"
    )
    seen = person("bob").login("ls -A /tmp /var/tmp /home/alice /scratch/alice; cat /tmp/verify; ps -eo user=")
    assert "verify" not in seen.stdout
    assert {line.strip() for line in seen.stdout.splitlines()} <= {"bob", "/tmp:", "/var/tmp:", ""}
    assert "hidepid" not in host.check_output("findmnt --noheadings --output OPTIONS /proc")
