"""What the tests of a deployed host share: containers in people's slices, and what the kernel says of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[3]
_LAB = _REPOSITORY / "lab"
_IMAGE = "ds01-lab/base"

# Who is in which group, as lab/resource-limits.yaml and lab/people.csv say.
GROUPS = {
    "alice": "student",
    "bob": "student",
    "mary-ann": "student",
    "carol": "researcher",
    "h.baker@example.org": "researcher",
    "n.ito@example.org": "researcher",
    "dave": "faculty",
    "erin": "admin",
}


class Slices:
    """The slices of people on one host, as the kernel has them."""

    def __init__(self, host) -> None:
        self._host = host
        self._v2 = host.file("/sys/fs/cgroup/cgroup.controllers").exists

    def name(self, user: str, group: str = "") -> str:
        """The slice that holds a person's containers."""
        return f"ds01-{group or GROUPS[user]}-{self._host.check_output('systemd-escape -- %s', user)}.slice"

    def path(self, unit: str, v2: str, v1: str) -> str:
        """A file of a slice's cgroup: by its name on cgroup v2, or `controller/name` on v1."""
        parts = unit.removesuffix(".slice").split("-")
        group = "/".join("-".join(parts[: depth + 1]) + ".slice" for depth in range(len(parts)))
        if self._v2:
            return f"/sys/fs/cgroup/{group}/{v2}"
        controller, _, name = v1.partition("/")
        return f"/sys/fs/cgroup/{controller}/{group}/{name}"

    def read(self, unit: str, v2: str, v1: str) -> str:
        """What stands in a file of a slice's cgroup, named as for `path`."""
        return self._host.check_output("cat %s", self.path(unit, v2, v1)).strip()

    def memory_max(self, unit: str) -> int:
        """Bytes."""
        return int(self.read(unit, "memory.max", "memory/memory.limit_in_bytes"))

    def memory(self, unit: str) -> int:
        """Bytes in use."""
        return int(self.read(unit, "memory.current", "memory/memory.usage_in_bytes"))

    def tasks_max(self, unit: str) -> int:
        """Tasks."""
        return int(self.read(unit, "pids.max", "pids/pids.max"))

    def tasks(self, unit: str) -> int:
        """Tasks that exist now."""
        return int(self.read(unit, "pids.current", "pids/pids.current"))

    def cpu_used(self, *units: str) -> tuple[float, list[float]]:
        """The host's uptime in seconds, and the CPU seconds that each slice has used until then.

        One command reads them all: between two commands lies as much time as a busy host takes to start one.
        """
        paths = [self.path(unit, "cpu.stat", "cpuacct/cpuacct.usage") for unit in units]
        # The line that counts: `usage_usec N` on v2, the only line, nanoseconds, on v1.
        uptime, *counts = self._host.check_output(
            "head --quiet --lines=1 /proc/uptime " + " ".join("%s" for _ in paths), *paths
        ).splitlines()
        return float(uptime.split()[0]), [int(line.split()[-1]) / (1e6 if self._v2 else 1e9) for line in counts]


class Containers:
    """Containers started as root in people's slices; all are removed after the test."""

    def __init__(self, host, slices: Slices) -> None:
        self._host = host
        self._slices = slices
        self._names: list[str] = []

    def run(self, user: str, script: str):
        """Run a shell script in a new container of this person to its end; the result has its exit status."""
        return self._host.run("docker run --rm --cgroup-parent=%s %s sh -c %s", self._slices.name(user), _IMAGE, script)

    def start(self, user: str, script: str = "sleep infinity", *, on_cpus: str = "") -> str:
        """Start a container of this person, on some of the CPUs, and return its name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self._names.append(name)
        self._host.check_output(
            "docker run --detach --init --name %s --cgroup-parent=%s --cpuset-cpus=%s %s sh -c %s",
            name,
            self._slices.name(user),
            on_cpus,
            _IMAGE,
            script,
        )
        return name

    def remove(self) -> None:
        """Remove all that was started."""
        for name in self._names:
            self._host.check_output("docker rm --force %s", name)


class Policy:
    """A copy of the lab's policy that a test may change and apply."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / "resource-limits.yaml"
        self.people = directory / "people.csv"
        self._changed = False
        self._copy()

    def replace(self, path: Path, old: str, new: str) -> None:
        """Change one place of one file."""
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is not in {path.name} exactly once"
        path.write_text(text.replace(old, new))
        self._changed = True

    def restore(self) -> None:
        """Apply the policy of the repository again, if this one differs from it."""
        if self._changed:
            self._copy()
            self.apply()
            self._changed = False

    def _copy(self) -> None:
        for path in (self.path, self.people):
            shutil.copy(_LAB / path.name, path)

    def apply(self) -> str:
        """Deploy what the policy decides about slices, and return ansible's output."""
        scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
        done = subprocess.run(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "--inventory=lab/inventory/shared.yml",
                f"--inventory={scenario / 'inventory' / 'hosts.yml'}",
                f"--extra-vars=ds01_policy_file={self.path}",
                "--tags=policy,slices",
                "playbooks/site.yml",
            ],
            cwd=_REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(_REPOSITORY / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def slices(host) -> Slices:
    return Slices(host)


@pytest.fixture
def containers(host, slices) -> Iterator[Containers]:
    started = Containers(host, slices)
    yield started
    started.remove()


@pytest.fixture
def policy(tmp_path) -> Iterator[Policy]:
    changed = Policy(tmp_path)
    yield changed
    changed.restore()
