"""Processes in people's slices, and what the kernel of a machine of its own says of them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest

# Who is in which group, as molecule/vm/resource-limits.yaml and lab/people.csv say.
GROUPS = {"alice": "student", "bob": "student", "carol": "researcher", "dave": "faculty"}


class Person:
    """One person on the host: what they do in the slice of their containers, and what that slice has used.

    A transient unit stands for a container: the kernel limits both alike, and it starts in a fraction of the time.
    """

    def __init__(self, host, name: str) -> None:
        self.name = name
        self.slice = f"ds01-{GROUPS[name]}-{name}.slice"
        self._host = host
        self._units: list[str] = []

    def run(self, script: str):
        """Run a script in the slice to its end; the result has its exit status."""
        # The outer shell stays, so that a killed process is an exit status and not the end of the connection.
        return self._host.run(
            "systemd-run --quiet --scope --slice=%s --uid=%s -- sh -c %s || exit $?", self.slice, self.name, script
        )

    def login(self, script: str):
        """Run a script in a session of their own, as from ssh."""
        return self._host.run("run0 --user=%s --pipe -- sh -c %s || exit $?", self.name, script)

    def start(self, script: str) -> str:
        """Start a script in the slice and return its unit."""
        unit = f"test-{uuid.uuid4().hex[:8]}.service"
        self._units.append(unit)
        self._host.check_output(
            "systemd-run --quiet --collect --unit=%s --slice=%s --uid=%s -- sh -c %s",
            unit,
            self.slice,
            self.name,
            script,
        )
        return unit

    def read(self, file: str) -> str:
        """A file of the slice's cgroup, as long as anything is in it."""
        group, _, _ = self.slice.rpartition("-")
        return self._host.check_output("cat %s", f"/sys/fs/cgroup/ds01.slice/{group}.slice/{self.slice}/{file}")

    def count(self, file: str, key: str) -> int:
        """One number of a file that has a key and a number on each line."""
        return int(dict(line.split() for line in self.read(file).splitlines())[key])

    def stop(self) -> None:
        """End all that was started."""
        for unit in self._units:
            self._host.run("systemctl kill --signal=KILL %s; systemctl stop %s", unit, unit)


@pytest.fixture
def person(host) -> Iterator[Callable[[str], Person]]:
    """Makes the person of a name; what they started ends with the test."""
    people: list[Person] = []

    def of(name: str) -> Person:
        people.append(Person(host, name))
        return people[-1]

    yield of
    for one in people:
        one.stop()


@pytest.fixture
def wait() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so."""

    def until(so: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, f"not so after {seconds} s"
            time.sleep(0.5)

    return until
