"""What ordinary people see of each other on a deployed host."""

import pytest


def _as(host, user: str, script: str):
    return host.run("su --login %s --command %s", user, script)


@pytest.mark.parametrize("place", ["/home/alice", "/scratch/alice", "/tmp", "/var/tmp"])
def test_what_is_somebodys_is_nobody_elses(host, place):
    assert _as(host, "alice", f"echo secret >{place}/verify; chmod 644 {place}/verify").rc == 0
    assert "secret" in _as(host, "alice", f"cat {place}/verify").stdout
    tried = _as(host, "bob", f"ls -A {place}; cat {place}/.ds01-private/alice/verify; cat {place}/verify")
    assert "verify" not in tried.stdout
    assert "secret" not in tried.stdout
    assert tried.rc != 0
    assert _as(host, "alice", f"rm {place}/verify").rc == 0


def test_nobody_reaches_somebody_elses_socket(host):
    bind = "docker create --name verify -v /var/run/docker.sock:/var/run/docker.sock ds01-lab/base true"
    assert _as(host, "alice", bind).rc == 0
    place = f"/run/ds01/users/{host.user('alice').uid}"
    try:
        assert host.file(place).is_directory
        assert _as(host, "bob", f"ls -A {place}").rc != 0
        assert _as(host, "bob", f"docker --host unix://{place}/docker.sock ps").rc != 0
    finally:
        _as(host, "alice", "docker rm verify")


def test_nobody_sees_what_others_run(host):
    assert _as(host, "bob", "ps -eo user=").stdout.split() != []
    assert set(_as(host, "bob", "ps -eo user=").stdout.split()) == {"bob"}
    assert "root" in _as(host, "erin", "ps -eo user=").stdout.split()
