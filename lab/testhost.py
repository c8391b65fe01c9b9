"""A lab host as a test sees it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lab import host
from lab.process import ROOT, LabError, run

_PREFIX = "lab-test-"
_NUMBERS = itertools.count(1)


class LabHost:
    """A host that belongs to one test session; its engine runs and has the image `ds01-lab/base`."""

    def __init__(self, name: str) -> None:
        """Take the host of that name, which is up."""
        self.name = name

    def run(self, *argv: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root.

        Raises:
            LabError: It fails, and `check` is set; what it printed is in the text.
        """
        return run(["docker", "exec", "--interactive", self.name, *argv], stdin=stdin, check=check)

    def sh(self, script: str, *, check: bool = True) -> str:
        """What a shell script prints when root runs it."""
        return self.run("sh", "-euc", script, check=check).stdout

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file."""
        data = content.encode() if isinstance(content, str) else content
        self.run("sh", "-euc", f'cat > "$1"; chmod {mode:o} "$1"', "sh", path, stdin=data)

    def copy(self, source: Path | str, target: str) -> None:
        """Copy a file or directory, relative to the repository, to the host as docker cp does."""
        run(["docker", "cp", str(ROOT / source), f"{self.name}:{target}"])

    def reboot(self) -> None:
        """Restart the host and wait for it."""
        host.reboot(self.name)

    def play(
        self, playbook: str, *arguments: str, env: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the repository on this host, with the lab's inventory.

        Raises:
            AssertionError: It fails, and `check` is set; its output is in the text.
        """
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", *host.inventory(self.name), playbook, *arguments],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{playbook}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


@contextmanager
def fresh() -> Iterator[LabHost]:
    """A new bare host, removed at the end."""
    _remove_left_behind()
    name = f"{_PREFIX}{os.getpid()}-{next(_NUMBERS)}"
    host.up(name)
    try:
        yield LabHost(name)
    finally:
        host.down(name)


def _remove_left_behind() -> None:
    # A session that was killed could not remove its hosts; the name says which process that was.
    for name in host.names(_PREFIX):
        if not Path("/proc", name.removeprefix(_PREFIX).partition("-")[0]).exists():
            # Another session may be at it.
            with suppress(LabError):
                host.down(name)
