"""Storage of the deployed lab host: what the kernel lets people do."""

from __future__ import annotations

import pytest


def _as(host, user: str, script: str) -> int:
    return host.run("su %s -s /bin/sh -c %s", user, f"umask 077; {script}").rc


def test_colleagues_work_together_under_any_umask(host):
    assert _as(host, "alice", "mkdir /collaborative/verify && echo one > /collaborative/verify/f") == 0
    try:
        assert _as(host, "bob", "echo two >> /collaborative/verify/f") == 0
        assert host.file("/collaborative/verify/f").group == "ds01-users"
    finally:
        host.check_output("rm -rf /collaborative/verify")


@pytest.mark.parametrize("path", ["/readonly", "/data"])
def test_only_administrators_write_what_everybody_reads(host, path):
    assert _as(host, "erin", f"echo set > {path}/verify") == 0
    try:
        assert _as(host, "alice", f"cat {path}/verify") == 0
        assert _as(host, "alice", f"echo mine > {path}/verify") != 0
        assert _as(host, "alice", f"touch {path}/mine") != 0
    finally:
        host.check_output("rm -f %s", f"{path}/verify")


@pytest.mark.parametrize("path", ["/home/alice", "/scratch/alice"])
def test_setuid_programs_and_devices_are_inert(host, path):
    host.check_output(
        "cp /usr/bin/id %s/verify-id && chmod 4755 %s/verify-id && mknod -m 666 %s/verify-null c 1 3", *[path] * 3
    )
    host.check_output("chmod 711 %s", path)
    try:
        assert "euid" not in host.check_output("su bob -s /bin/sh -c %s", f"{path}/verify-id")
        assert _as(host, "alice", f"cat {path}/verify-null") != 0
    finally:
        host.check_output("rm -f %s/verify-id %s/verify-null; chmod 700 %s", *[path] * 3)
