"""A lab host as a test sees it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from lab import host, inside
from lab.process import ROOT, LabError, run

_PREFIX = "lab-test-"
_NUMBERS = itertools.count(1)


class _Inside:
    """`lab/inside.py` on a host, which runs one command at a time."""

    def __init__(self, host_name: str) -> None:
        argv = ["docker", "exec", "--interactive", host_name, "python3", "-I", "-c", inside.LOAD]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._questions, self._answers = (
            cast("IO[bytes]", pipe) for pipe in (self._process.stdin, self._process.stdout)
        )
        program = Path(inside.__file__).read_bytes()
        self._ask(b"%d\n%b" % (len(program), program))

    def run(self, argv: tuple[str, ...], stdin: bytes) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, or to the end of the host."""
        self._ask(json.dumps({"argv": argv, "stdin": len(stdin)}).encode() + b"\n" + stdin)
        if line := self._answers.readline():
            status, *sizes = json.loads(line)
            out, err = (self._answers.read(size).decode(errors="replace") for size in sizes)
            return subprocess.CompletedProcess(argv, status, out, err)
        said = self._process.communicate()[1].decode(errors="replace")
        return subprocess.CompletedProcess(argv, self._process.returncode, "", said)

    def ended(self) -> bool:
        """Whether it answers no more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Let it end, and wait until it has."""
        self._process.communicate()

    def _ask(self, question: bytes) -> None:
        # Where it has ended, there is no answer either.
        with suppress(BrokenPipeError):
            self._questions.write(question)
            self._questions.flush()


class LabHost:
    """A host that belongs to one test session; its engine runs and has the image `ds01-lab/base`."""

    def __init__(self, name: str) -> None:
        """Take the host of that name, which is up."""
        self.name = name
        self._idle: list[_Inside] = []

    def run(self, *argv: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root.

        Raises:
            LabError: It fails, and `check` is set; what it printed is in the text.
        """
        free = self._take()
        done = free.run(argv, stdin)
        self._idle.append(free)
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stderr or done.stdout}".rstrip())
        return done

    def _take(self) -> _Inside:
        # More than one only where a test runs commands side by side.
        while self._idle:
            if not (free := self._idle.pop()).ended():
                return free
        return _Inside(self.name)

    def hang_up(self) -> None:
        """Leave nothing on the host that waits for commands."""
        while self._idle:
            self._idle.pop().end()

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
        self.hang_up()
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
    found = LabHost(name)
    try:
        yield found
    finally:
        found.hang_up()
        host.down(name)


def _remove_left_behind() -> None:
    # A session that was killed could not remove its hosts; the name says which process that was.
    for name in host.names(_PREFIX):
        if not Path("/proc", name.removeprefix(_PREFIX).partition("-")[0]).exists():
            # Another session may be at it.
            with suppress(LabError):
                host.down(name)
