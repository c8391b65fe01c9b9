"""Running Molecule's scenarios, with the strictness that Molecule itself lacks.

Molecule calls a missing playbook, or a verifier that finds no tests, a success. Here both fail.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from lab.process import CACHE, ROOT, LabError, run, say

_STEP = re.compile(r"➜ (?P<step>\w+): (?P<what>Executing|Executed.*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EMPTY = re.compile(r"missing=[1-9]|Missing playbook|no tests found|collected 0 items", re.IGNORECASE)
_TAIL = 80
_AT_ONCE = 2
"""Each waits for its own host much of the time: two side by side end in two thirds of the time on two processors."""


def names() -> list[str]:
    """All scenarios, by name."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def run_all(chosen: list[str], beside: str = "") -> None:
    """Run scenarios, two at a time, all of them when none is chosen; what fails is said at once and the others run.

    Args:
        chosen: Their names.
        beside: A command that is run as if it were the second of them.

    Raises:
        LabError: A scenario is unknown or failed, or the command did.
    """
    known = names()
    for name in chosen:
        if name not in known:
            raise LabError(f"{name}: no such scenario: expected one of {', '.join(known)}")
    # By default from the end of the alphabet: the virtual machine takes longest.
    works = [(name, partial(_run, name)) for name in chosen or reversed(known)]
    if beside:
        works.insert(1, (beside, partial(_run_command, beside)))
    failed = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = {pool.submit(work): name for name, work in works}
        try:
            for done in as_completed(runs):
                if isinstance(error := done.exception(), LabError):
                    say(str(error))
                    failed.append(runs[done])
                else:
                    done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failed:
        raise LabError(f"scenarios failed: {', '.join(failed)}")


def passed_over(lines: list[str]) -> list[str]:
    """The lines in which Molecule says that it skipped a step or found no test."""
    return [line for line in lines if _EMPTY.search(line)]


def _run(name: str) -> None:
    log = CACHE / f"scenario-{name}.log"
    CACHE.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    say(f"scenario {name}: all output goes to {log.relative_to(ROOT)}")
    argv = [str(Path(sys.executable).parent / "molecule"), "test", "--no-command-borders", "--scenario-name", name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**os.environ, "PATH": path, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        lines = _follow(name, process, log)
    if process.returncode != 0 or passed_over(lines):
        tail = "\n".join(lines[-_TAIL:])
        raise LabError(f"scenario {name} failed (exit status {process.returncode}), its last lines:\n{tail}")
    say(f"scenario {name}: passed in {time.monotonic() - started:.0f} s")


def _run_command(command: str) -> None:
    started = time.monotonic()
    say(f"{command}: what it says comes at its end")
    done = run(shlex.split(command), check=False)
    if done.returncode != 0:
        raise LabError(f"{command} failed (exit status {done.returncode}):\n{done.stdout}{done.stderr}")
    last = done.stdout.rstrip().rpartition("\n")[2]
    say(f"{command}: passed in {time.monotonic() - started:.0f} s: {last}")


def _follow(name: str, process: subprocess.Popen[str], log: Path) -> list[str]:
    lines: list[str] = []
    started = time.monotonic()
    with log.open("w") as copy:
        for line in _plain(process):
            lines.append(line)
            copy.write(line + "\n")
            copy.flush()
            # The closing report repeats every step; only what happens now is progress.
            if (step := _STEP.search(line)) and line.startswith("INFO"):
                if step["what"] == "Executing":
                    started = time.monotonic()
                else:
                    say(f"scenario {name}: {step['step']}: {time.monotonic() - started:.0f} s")
    return lines


def _plain(process: subprocess.Popen[str]) -> Iterator[str]:
    if process.stdout is not None:
        for line in process.stdout:
            yield _COLOUR.sub("", line.rstrip("\n"))
