"""Whose a process is: real processes of this machine, and the forms control groups have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gpu.attribution import _classify, attribute, start_ticks

ids = st.text("0123456789abcdef", min_size=64, max_size=64)
uids = st.integers(1000, 60000)
KNOWN = {"pid": 1, "start_ticks": 1, "command": "x"}
OUTER, INNER = "a" * 64, "b" * 64


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_real_process_is_the_one_that_was_meant(sleeper: subprocess.Popen[bytes]) -> None:
    first = attribute(sleeper.pid)
    assert first.kind != "unknown", first
    assert first.command in {"sleep", "python", "pytest"}  # Before and after its exec.
    assert first.real_uid == os.getuid()
    assert first.start_ticks == start_ticks(sleeper.pid)
    assert attribute(sleeper.pid, first.start_ticks).start_ticks == first.start_ticks
    other = attribute(sleeper.pid, (first.start_ticks or 0) - 1)
    assert (other.kind, other.start_ticks, other.uid) == ("unknown", None, None)
    assert "another has its number" in other.reason


def test_a_process_that_ended_is_unknown(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert attribute(sleeper.pid).reason == "the process has ended"
    assert start_ticks(sleeper.pid) is None


@pytest.mark.parametrize("pid", [0, -1, 1 << 22, 1 << 31, 1 << 70])
def test_a_number_of_no_process_is_unknown(pid: int) -> None:
    found = attribute(pid)
    assert (found.kind, found.pid) == ("unknown", pid)
    assert found.reason
    assert start_ticks(pid) is None


def test_an_unreaped_process_is_no_surprise() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert attribute(pid).pid == pid
    assert start_ticks(pid)
    os.waitpid(pid, 0)


def test_a_name_with_brackets_and_line_ends_is_read() -> None:
    script = "import ctypes,sys; ctypes.CDLL(None).prctl(15, b'a) R 1 (\\nb'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = attribute(process.pid)
        assert found.command == "a) R 1 (\nb"
        assert found.start_ticks == start_ticks(process.pid) != None  # noqa: E711 - one chain says both are a number
        process.kill()


@pytest.mark.parametrize(
    ("path", "engine"),
    [
        ("/system.slice/docker-{}.scope", "docker"),
        ("/ds01.slice/ds01-student.slice/ds01-student-alice.slice/docker-{}.scope", "docker"),
        ("/docker/{}", "docker"),
        ("/docker/{}/init.scope", "docker"),
        ("/machine.slice/libpod-{}.scope/container", "podman"),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{}.scope", "containerd"),
    ],
)
@given(container=ids, uid=uids)
def test_a_container_wins_over_whoever_started_it(path: str, engine: str, container: str, uid: int) -> None:
    found = _classify([path.format(container)], uid, uid, KNOWN)
    assert (found.kind, found.engine, found.container_id, found.uid) == ("container", engine, container, None)


def test_a_container_in_a_container_is_the_outer_one() -> None:
    found = _classify([f"/docker/{OUTER}/docker/{INNER}"], 0, None, KNOWN)
    assert found.container_id == OUTER
    found = _classify([f"/system.slice/docker-{OUTER}.scope/libpod-{INNER}.scope"], 0, None, KNOWN)
    assert (found.engine, found.container_id) == ("docker", OUTER)


@given(container=ids, uid=uids)
def test_nobody_passes_for_a_container_from_within_a_login(container: str, uid: int) -> None:
    """People may make control groups below their login, with any name."""
    forged = f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/docker-{container}.scope"
    found = _classify([forged], uid, None, KNOWN)
    assert (found.kind, found.uid, found.container_id) == ("user", uid, None)


@given(uid=uids, login=uids, real=uids)
def test_who_logged_in_counts_most(uid: int, login: int, real: int) -> None:
    session = f"/user.slice/user-{uid}.slice/session-3.scope"
    assert _classify([session], 0, login, KNOWN).uid == login  # sudo
    assert _classify([session], real, None, KNOWN).uid == uid
    cron = _classify(["/system.slice/cron.service"], real, login, KNOWN)
    assert (cron.kind, cron.uid, cron.unit) == ("user", login, "cron.service")
    service = _classify(["/system.slice/notebook.service"], real, None, KNOWN)
    assert (service.kind, service.uid) == ("user", real)


@pytest.mark.parametrize("real_uid", [0, 33, 999, 65534])
def test_a_daemon_is_the_systems(real_uid: int) -> None:
    found = _classify(["/system.slice/nvidia-persistenced.service"], real_uid, None, KNOWN)
    assert (found.kind, found.uid, found.unit) == ("system", None, "nvidia-persistenced.service")


@pytest.mark.parametrize("path", [f"/docker-{'a' * 63}.scope", f"/x/docker-{'A' * 64}.scope", f"/xdocker/{OUTER}"])
def test_what_only_looks_like_a_container_is_none(path: str) -> None:
    assert _classify([path], 0, None, KNOWN).kind == "system"


def test_it_needs_nothing_but_the_standard_library() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ds01.gpu.attribution\n"
        "print([name for name in sys.modules if name.partition('.')[0] not in {*sys.stdlib_module_names, 'ds01'}"
        " and not name.startswith('__')])"
    )
    source = Path(__file__).parents[3] / "src"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, source], check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
