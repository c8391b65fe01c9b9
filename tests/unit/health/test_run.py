"""All checks at once: in the order in which their findings explain each other, and slices by one of them at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from ds01.health import engine, files, gateway, gpus, host, kernel, logins, monitor, privacy, run, services, storage
from ds01.health.model import Check, failed, ok
from ds01.health.run import run_checks

ROOT = Path(__file__).parents[3]
ORDER: tuple[tuple[ModuleType, str], ...] = (
    (files, "permissions"), (kernel, "cgroups"), (kernel, "slices"), (kernel, "newcomer"), (storage, "mounts"),
    (storage, "directories"), (logins, "devices"), (gpus, "ledger"), (kernel, "memory_kill"), (kernel, "tasks_limit"),
    (engine, "engine"), (engine, "engine_access"), (engine, "addresses"), (engine, "builders"), (gpus, "nvml"),
    (gpus, "specs"), (monitor, "monitor"), (monitor, "owners"), (privacy, "privacy"), (services, "timers"),
    (services, "jobs"), (host, "disk"), (host, "clock"), (host, "escapes"),
)  # fmt: skip
SLICES = {"slices", "newcomer", "devices", "memory_kill", "tasks_limit", "privacy"}


def test_what_is_found_at_once_is_told_in_order(monkeypatch: pytest.MonkeyPatch):
    alone = threading.Lock()
    together = threading.Barrier(2)

    def check(name: str) -> Check:
        if name in SLICES:
            if not alone.acquire(blocking=False):
                return failed(name, "beside another one")
            time.sleep(0.01)
            alone.release()
        elif name in {"engine", "escapes"}:
            # Neither ends before the other one has begun.
            together.wait(60)
        return ok(name, "")

    for module, name in ORDER:
        monkeypatch.setattr(module, f"check_{name}", lambda *_, _name=name, **__: check(_name))
    checks = run_checks(ROOT / "inventory/resource-limits.yaml", allow_cgroup_v1=True)
    assert [one for one in checks if one.status == "failed" and one.name != "gateway"] == []
    found = [one.name for one in checks]
    assert found[0] == "policy"
    # The gateway's own check finds none here; it has its place all the same.
    assert found.index("gateway") == found.index("builders") + 1
    assert [name for name in found[1:] if name != "gateway"] == [name for _, name in ORDER]


def nothing() -> Check:
    return ok("nothing", "")


def standing_in(name: str, check: Callable[[], Check]) -> Callable[..., Check]:
    """A check that is called as the one in its place, whatever it is here."""

    def renamed(*_: object, **__: object) -> Check:
        return check()

    renamed.__name__ = f"check_{name}"
    return renamed


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Check]]:
    """What is found when some checks are replaced and all others have nothing to say."""

    def run_with(**replaced: Callable[[], Check]) -> dict[str, Check]:
        for module, name in (*ORDER, (gateway, "gateway")):
            monkeypatch.setattr(module, f"check_{name}", standing_in(name, replaced.get(name, nothing)))
        checks = run_checks(ROOT / "inventory/resource-limits.yaml", allow_cgroup_v1=True)
        assert len(checks) == len(ORDER) + 2
        return {check.name: check for check in checks if check.status == "failed"}

    return run_with


def test_what_breaks_in_a_check_is_its_finding(found: Callable[..., dict[str, Check]]):
    def full() -> Check:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")

    def killed() -> Check:
        os.kill(os.getpid(), signal.SIGKILL)
        return nothing()

    wrong = found(privacy=full, specs=full, slices=full, gateway=killed)
    assert set(wrong) == {"privacy", "specs", "slices", "gateway"}
    assert "No space left on device" in wrong["privacy"].detail
    assert "ended without an answer" in wrong["gateway"].detail


def test_what_hangs_keeps_nobody_waiting(found: Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch):
    never = threading.Event()

    def hangs() -> Check:
        never.wait()
        return nothing()

    monkeypatch.setattr(run, "_PATIENCE_S", 5.0)
    wrong = found(nvml=hangs, disk=hangs, slices=hangs, gateway=hangs)
    never.set()
    # Whoever waits for the slices waits with it; all others have said what they see.
    assert (
        {"nvml", "disk", "slices", "gateway"}
        <= set(wrong)
        <= {"nvml", "disk", "gateway"} | {name.replace("_", " ") for name in SLICES}
    )
    assert "no answer within 5 s" in wrong["nvml"].detail


def test_a_crash_is_said_at_once_whatever_hangs_beside_it(monkeypatch: pytest.MonkeyPatch):
    def killed() -> Check:
        os.kill(os.getpid(), signal.SIGKILL)
        return nothing()

    def hangs() -> Check:
        threading.Event().wait()
        return nothing()

    for module, name in (*ORDER, (gateway, "gateway")):
        does = {"disk": killed, "gateway": hangs}.get(name, nothing)
        monkeypatch.setattr(module, f"check_{name}", standing_in(name, does))
    monkeypatch.setattr(run, "_PATIENCE_S", 60.0)
    (wrong,) = run_checks(ROOT / "inventory/resource-limits.yaml", allow_cgroup_v1=True)
    assert "ended without an answer" in wrong.detail


COMMAND = """
import os, signal, sys, time
from pathlib import Path
from ds01 import events
from ds01.cli.main import run as command
from ds01.health import gateway, run
from tests.unit.health.test_run import ORDER, ROOT, nothing, standing_in

place, whose, answer_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

def hangs(*_):
    # As what hangs in the kernel: nothing that asks it to end is heard.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    (place / f"{os.getpid()}.pid").touch()
    end = time.monotonic() + 600
    while time.monotonic() < end:
        signal.sigtimedwait([signal.SIGTERM, signal.SIGALRM], 60)
    os._exit(1)

events.EVENTS_FILE, events.JOURNAL_SOCKET = place / "events.jsonl", place / "no-journal"
os.geteuid = lambda: 0
run._PATIENCE_S, run._ANSWER_S = 5.0, answer_s
for module, name in ORDER:
    setattr(module, f"check_{name}", standing_in(name, nothing))
gateway.check_gateway = standing_in("gateway", hangs if whose == "gateway" else nothing)
if whose == "health":
    run._check_policy = hangs
policy = str(ROOT / "inventory/resource-limits.yaml")
sys.exit(command(["health", "--json", "--allow-cgroup-v1", "--policy", policy]))
"""


@pytest.mark.parametrize(("whose", "answer_s"), [("gateway", 120), ("health", 1)])
def test_what_no_signal_ends_keeps_neither_the_command_nor_who_reads_it(tmp_path: Path, whose: str, answer_s: float):
    argv = [sys.executable, "-c", COMMAND, str(tmp_path), whose, str(answer_s)]
    try:
        # It reads until nobody writes any more: whoever hangs has let go of that, too.
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    finally:
        for hanging in tmp_path.glob("*.pid"):
            os.kill(int(hanging.stem), signal.SIGKILL)
    assert done.returncode == 2, done.stderr
    found = {check["name"]: check["detail"] for check in json.loads(done.stdout)["checks"]}
    assert "no answer within 5 s" in found[whose]
