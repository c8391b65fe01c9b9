"""Does the kernel enforce? Limits are read from its files, and broken on purpose."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..slices.apply import converge_slices
from ..slices.kernel import Cgroups, differences, find_disks
from ..slices.names import UNMANAGED_SLICE, user_slice
from ..slices.spec import SliceSpec
from .model import COMMAND_SECONDS, Check, failed, ok, run, warning

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

CGROUP_V2: Final = 2

# No login name holds a `+`, so this is nobody's slice: what it gets is what a person on the first day gets.
NEWCOMER: Final = "+probe"

_REPAIR: Final = ("ds01", "enforce", "slices")
_MEMORY_MAX: Final = "32M"
_TOUCH_MEMORY: Final = "bytearray(96 << 20)"
# systemd-run becomes the program, so the kill is its own end.
_KILLED: Final = -signal.SIGKILL
_TASKS_MAX: Final = 4
# Prints how many of 16 children could be started. They live until the parent is gone, which closes the pipe.
_FORK: Final = """
import os
end, start = os.pipe()
started = 0
for _ in range(16):
    try:
        child = os.fork()
    except OSError:
        break
    if child == 0:
        os.close(start)
        os.read(end, 1)
        os._exit(0)
    started += 1
print(started, flush=True)
"""


def check_cgroups(*, allow_v1: bool) -> Check:
    """The host has cgroup v2, or v1 is allowed because this is a test host."""
    if Cgroups().version == CGROUP_V2:
        return ok("cgroups", "cgroup v2")
    if allow_v1:
        return ok("cgroups", "cgroup v1, allowed on this host: memory pressure and IO limits are not enforced")
    fix = "Boot with systemd.unified_cgroup_hierarchy=1, the default of every supported system."
    return failed("cgroups", "cgroup v1 cannot enforce memory pressure and IO limits", fix)


def check_slices(spec: SliceSpec, now: dt.datetime) -> Check:
    """Every slice that is alive has in the kernel what the policy says, and every unit file is as written."""
    todo = converge_slices(spec, now, dry_run=True, via="health").plan
    if todo.pushes:
        wrong = [line for line in todo.lines() if line.startswith("set ")]
        return failed("slices", "; ".join(wrong), "ds01 enforce slices", _REPAIR)
    if todo.changed:
        return warning("slices", "; ".join(todo.lines()), "ds01 enforce slices", _REPAIR)
    return ok("slices", f"{len(spec.groups)} groups, unit files and kernel agree with the policy")


def check_newcomer(spec: SliceSpec) -> Check:
    """A person who was never here before gets the limits of the default group, from the kernel."""
    name = user_slice(spec.default_group, NEWCOMER)
    with _process_in(name) as started:
        if not started:
            return failed("newcomer", f"nothing could be started in {name}", "systemctl --failed shows what is wrong.")
        actual = Cgroups(disks=find_disks()).read(name)
    if wrong := differences(spec.groups[spec.default_group].aggregate.values(), actual):
        detail = ", ".join(f"{key} is {has}, not {shall}" for key, (has, shall) in wrong.items())
        return failed("newcomer", f"{name}: {detail}", "ds01 enforce slices")
    return ok("newcomer", f"a new member of {spec.default_group} is limited from the first process on")


@contextlib.contextmanager
def _process_in(name: str) -> Iterator[bool]:
    """Keep a process alive in a slice, and say whether it came up there."""
    argv = ["systemd-run", "--quiet", "--collect", "--scope", f"--slice={name}", "sleep", str(COMMAND_SECONDS)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + COMMAND_SECONDS
        # systemd-run becomes the program only once systemd has set the slice up, in every hierarchy.
        while process.poll() is None and time.monotonic() < end and not _runs(process.pid, "sleep"):
            time.sleep(0.02)
        yield _runs(process.pid, "sleep")
    finally:
        process.kill()
        process.wait()


def _runs(pid: int, program: str) -> bool:
    try:
        return Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip() == program
    except OSError:
        return False


def check_memory_kill() -> Check:
    """The kernel kills a process that takes more memory than its unit may have."""
    done = _try_out(f"MemoryMax={_MEMORY_MAX}", _TOUCH_MEMORY)
    if done.returncode == _KILLED:
        return ok("memory", f"a process beyond {_MEMORY_MAX} was killed")
    detail = f"a process took three times its {_MEMORY_MAX} and ended with {done.returncode} {done.stderr.strip()}"
    return failed("memory", detail, "Memory limits do not hold on this host: look at its kernel command line.")


def check_tasks_limit() -> Check:
    """The kernel refuses processes beyond TasksMax."""
    done = _try_out(f"TasksMax={_TASKS_MAX}", _FORK)
    started = done.stdout.strip()
    if started.isdigit() and int(started) < _TASKS_MAX:
        return ok("tasks", f"a unit with TasksMax={_TASKS_MAX} could not start more")
    detail = f"16 processes were asked for, {started or 'none'} started {done.stderr.strip()}"
    return failed("tasks", detail, "Process limits do not hold on this host: is the pids controller switched on?")


def _try_out(limit: str, program: str) -> subprocess.CompletedProcess[str]:
    # A scope hands down the exit status of the program, where a service would report systemd's view of it.
    # Without swap for itself, or memory beyond the limit would only move there.
    limits = ["-p", limit, "-p", "MemorySwapMax=0"]
    inside = [sys.executable, "-I", "-c", program]
    return run("systemd-run", "--quiet", "--collect", "--scope", f"--slice={UNMANAGED_SLICE}", *limits, *inside)
