"""The two kinds of lab host, and which of them a name belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lab import host
from lab.process import LabError


class Machine(Protocol):
    """What both kinds can do; `lab.host` and `lab.vm` are the two."""

    def exists(self, name: str) -> bool:
        """Whether this kind has a host of that name."""

    def up(self, name: str) -> None:
        """Make the host, or wait for the one that is there."""

    def down(self, name: str) -> None:
        """Remove the host; nothing happens when there is none."""

    def reboot(self, name: str) -> None:
        """Restart the host and wait for it."""

    def execute(self, name: str, argv: Sequence[str]) -> int:
        """Run a command as root on the caller's terminal; its exit status."""

    def shell(self, name: str, user: str) -> int:
        """Open a login shell; its exit status."""

    def output(self, name: str, *argv: str, check: bool = True) -> str:
        """What a command prints when root runs it."""

    def load_base(self, name: str) -> None:
        """Give the host's engine the test image, if that engine runs."""

    def inventory(self, name: str) -> list[str]:
        """The arguments that point ansible-playbook at this host."""


def kind(*, vm: bool) -> Machine:
    """The kind asked for: a virtual machine, or a container."""
    if vm:
        from lab import vm as machine  # noqa: PLC0415 - only who wants a machine pays for what it imports

        return machine
    return host


def find(name: str) -> Machine | None:
    """The kind that has a host of this name, if either has."""
    for vm in (False, True):
        machine = kind(vm=vm)
        if machine.exists(name):
            return machine
    return None


def need(name: str) -> Machine:
    """The kind that has a host of this name.

    Raises:
        LabError: Neither has.
    """
    if (machine := find(name)) is None:
        raise LabError(f"{name}: no such lab host: `make lab NAME={name}` makes it")
    return machine
