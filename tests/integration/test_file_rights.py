"""Rights of DS01's files that lock people out, or let them in: an installation under a strict umask made both once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.testhost import LabHost

CODE = "/root/ds01-file-rights-test"
LOOK = (
    "import sys; sys.path.insert(0, sys.argv[1]); from ds01.health.files import check_permissions; "
    "found = check_permissions(); print(found.status, found.detail)"
)
TREE = """
install -d -m 755 /etc/ds01 /opt/ds01 /opt/ds01/1 /opt/ds01/1/bin /opt/ds01/1/lib /run/ds01 /var/lib/ds01 /var/log/ds01
install -d -m 700 /run/ds01/engine /var/lib/ds01/cdi
for file in /etc/ds01/resource-limits.yaml /opt/ds01/1/lib/code.py /opt/ds01/1/lib/code.pyc; do
  install -m 644 /dev/null $file
done
install -m 755 /dev/null /opt/ds01/1/bin/ds01
install -m 600 /dev/null /var/lib/ds01/ledger.db
install -m 600 /dev/null /etc/ds01/secret
"""


@pytest.fixture(scope="module")
def host(lab_host: LabHost) -> Iterator[LabHost]:
    lab_host.sh(f"mkdir -p {CODE}")
    lab_host.copy("src/ds01", f"{CODE}/ds01")
    yield lab_host
    lab_host.sh(f"rm -rf {CODE} /etc/ds01 /opt/ds01 /run/ds01 /var/lib/ds01 /var/log/ds01")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("chmod 600 /etc/ds01/resource-limits.yaml", "/etc/ds01/resource-limits.yaml: not usable by everybody"),
        ("chmod 700 /opt/ds01", "/opt/ds01: not usable by everybody"),
        ("chmod 754 /opt/ds01/1/lib", "/opt/ds01/1/lib: not usable by everybody"),
        ("chmod 700 /opt/ds01/1/bin/ds01", "/opt/ds01/1/bin/ds01: not usable by everybody"),
        ("chmod 744 /opt/ds01/1/bin/ds01", "/opt/ds01/1/bin/ds01: not usable by everybody"),
        ("chmod 600 /opt/ds01/1/lib/code.pyc", "/opt/ds01/1/lib/code.pyc: not usable by everybody"),
        ("chmod 700 /run/ds01", "/run/ds01: not usable by everybody"),
        ("chmod 666 /var/lib/ds01/ledger.db", "/var/lib/ds01/ledger.db: writable by others"),
        ("chmod 775 /var/lib/ds01", "/var/lib/ds01: writable by others"),
        ("chown nobody /opt/ds01/1/lib/code.py", "/opt/ds01/1/lib/code.py: owned by uid 65534"),
        ("rm -r /var/log/ds01", "missing: /var/log/ds01"),
    ],
)
def test_what_locks_people_out_or_lets_them_in_is_found(host: LabHost, harm: str, said: str):
    # Whatever the umask was, this is as it must be.
    host.sh(f"rm -rf /etc/ds01 /opt/ds01 /run/ds01 /var/lib/ds01 /var/log/ds01; umask 077; {TREE}")
    look = ("python3", "-c", LOOK, CODE)
    assert host.run(*look).stdout.startswith("ok ")
    host.sh(harm)
    assert host.run(*look).stdout.startswith(f"failed {said}")


def test_what_containers_bind_is_peoples(host: LabHost):
    host.sh(f"rm -rf /etc/ds01 /opt/ds01 /run/ds01 /var/lib/ds01 /var/log/ds01; {TREE}")
    host.sh("""install -d -m 700 /run/ds01/binds; mount -t tmpfs -o mode=700 pins /run/ds01/binds
    install -d -o nobody /run/ds01/binds/one/b0; install -o nobody -m 666 /dev/null /run/ds01/binds/one/b0/file""")
    try:
        assert host.run("python3", "-c", LOOK, CODE).stdout.startswith("ok ")
    finally:
        host.sh("umount /run/ds01/binds")
