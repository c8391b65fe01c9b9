"""Services are kept at the version of the runtime that is installed, on a host that has nothing else of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost
from tests.integration.modules import Module

UNIT = "ds01-probe.service"
FILE = f"/etc/systemd/system/{UNIT}"
TEXT = """[Service]
ExecStart=/bin/sh -c 'exec "$(readlink --canonicalize /opt/ds01/current)/sleep" infinity'
[Install]
WantedBy=multi-user.target
"""
ONCE = "ds01-once.service"


@pytest.fixture
def host(lab_host: LabHost) -> Iterator[LabHost]:
    lab_host.sh("mkdir -p /opt/ds01/1 /opt/ds01/2; cp /bin/sleep /opt/ds01/1; cp /bin/sleep /opt/ds01/2")
    lab_host.sh("ln -sfn /opt/ds01/1 /opt/ds01/current")
    yield lab_host
    lab_host.sh(
        f"systemctl disable --now {UNIT} {ONCE}; rm -rf /opt/ds01 {FILE} /etc/systemd/system/{ONCE}", check=False
    )


def changes(host: LabHost, *options: str, **arguments: Any) -> list[str]:
    found: list[str] = Module(host)("ds01_services", {"running": [UNIT]} | arguments, *options)["changes"]
    return found


def runs(host: LabHost, words: str) -> None:
    """Wait until the shell has become the program."""
    host.sh(f"timeout 60 sh -c 'until ps -C sleep -o args= | grep -q \"{words}\"; do sleep 0.1; done'")


def test_a_service_follows_its_runtime_and_its_unit_file(host: LabHost) -> None:
    first = [f"enable {UNIT}", f"restart {UNIT}"]
    assert changes(host, "--check") == first, "predicted while not even the unit file is there"
    host.write(FILE, TEXT)
    host.write(
        f"/etc/systemd/system/{ONCE}",
        "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n",
    )
    assert changes(host, at_boot=[ONCE]) == [f"enable {ONCE}", *first]
    assert changes(host, at_boot=[ONCE]) == changes(host, "--check") == []
    assert changes(host, "--check", rewritten=True) == [f"restart {UNIT}"]

    host.sh("ln -sfn /opt/ds01/2 /opt/ds01/current")
    assert changes(host, "--check") == [f"restart {UNIT}"]
    assert changes(host) == [f"restart {UNIT}"]
    runs(host, "/opt/ds01/2/sleep")
    assert changes(host) == []

    time.sleep(1.1)  # Times of files and of starts are compared in whole seconds.
    host.write(FILE, TEXT.replace("infinity", "10000"))
    assert changes(host) == [f"restart {UNIT}"]
    runs(host, "sleep 10000")

    host.sh(f"systemctl kill --signal=KILL {UNIT}; until systemctl is-failed --quiet {UNIT}; do sleep 0.1; done")
    assert changes(host) == [f"restart {UNIT}"]

    assert changes(host, "--check", state="absent") == changes(host, state="absent") == [f"end {UNIT}"]
    host.sh(f"rm {FILE}; ! pgrep -x sleep")
    assert changes(host, state="absent") == []


def test_a_service_that_cannot_start_is_said(host: LabHost) -> None:
    host.write(FILE, TEXT.replace("ExecStart=", "X-ExecStart="))
    done = Module(host)("ds01_services", {"running": [UNIT]}, fails=True)
    assert "bad unit file setting" in done["msg"]
    assert "`journalctl --unit=ds01-probe.service` says more" in done["msg"]
