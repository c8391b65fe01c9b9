"""What a process has open is found whichever thread has it, in a time that the process does not decide."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ds01.mig import opened

# Arguments: threads, whether each has a table of its own, descriptors before that, a file that the last one opens.
PROGRAM = """
import ctypes, os, sys, threading
threads, apart, descriptors, node = int(sys.argv[1]), sys.argv[2] == "apart", int(sys.argv[3]), sys.argv[4]
for _ in range(descriptors):
    os.dup(0)
ready = threading.Semaphore(0)
def hold(last):
    if apart:
        assert ctypes.CDLL(None).unshare(0x400) == 0  # CLONE_FILES
    if last:
        os.open(node, os.O_RDONLY)
    ready.release()
    threading.Event().wait()
for number in range(threads):
    threading.Thread(target=hold, args=(number == threads - 1,), daemon=True).start()
for _ in range(threads):
    ready.acquire()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the only GPU of this machine."""
    monkeypatch.setattr(opened, "_DEVICES", tmp_path)
    monkeypatch.setattr(opened, "_NODE", re.compile(f"{re.escape(str(tmp_path))}/nvidia[0-9]{{1,3}}"))
    (tmp_path / "nvidiactl").touch()
    path = tmp_path / "nvidia7"
    path.touch()
    return path


@pytest.fixture
def begin(node: Path) -> Iterator[Callable[..., int]]:
    """Begin the program, and return its number when all its threads are there."""
    with ExitStack() as stack:

        def begun(threads: int, way: str, descriptors: int = 0) -> int:
            command = [sys.executable, "-c", PROGRAM, str(threads), way, str(descriptors), str(node)]
            program = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            return program.pid

        yield begun


@pytest.mark.parametrize("way", ["together", "apart"])
def test_what_any_thread_opens_is_found(begin: Callable[..., int], node: Path, way: str):
    assert opened.gpu_nodes(begin(5, way)) == {str(node)}
    assert opened.minor(str(node)) == 7


def test_descriptors_that_threads_share_are_looked_at_once(begin: Callable[..., int], monkeypatch: pytest.MonkeyPatch):
    looks = []
    link = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: looks.append(path) or link(path))
    pid = begin(40, "together", 500)
    opened.gpu_nodes(pid)
    assert len(looks) == len(list(Path(f"/proc/{pid}/fd").iterdir())) > 500


@pytest.mark.parametrize(("threads", "descriptors"), [(opened._TABLES_MAX + 5, 0), (5, 30)])
def test_who_has_too_much_open_has_every_gpu_open(
    begin: Callable[..., int], node: Path, monkeypatch: pytest.MonkeyPatch, threads: int, descriptors: int
):
    monkeypatch.setattr(opened, "_DESCRIPTORS_MAX", 100)
    other = node.with_name("nvidia8")
    other.touch()
    assert opened.gpu_nodes(begin(threads, "apart", descriptors)) == {str(node), str(other)}
    # As many in one table are a program that has much to do.
    assert opened.gpu_nodes(begin(5, "together", 200)) == {str(node)}


def test_threads_that_end_meanwhile_hide_nothing(
    begin: Callable[..., int], node: Path, monkeypatch: pytest.MonkeyPatch
):
    node.with_name("nvidia8").touch()
    listed, share, compared = opened._listed, opened._share, []
    # Numbers that no thread can have (PID_MAX_LIMIT), as of those that ended after they were listed.
    gone = [str((4 << 20) + number) for number in range(200)]
    monkeypatch.setattr(opened, "_listed", lambda path: listed(path) + (gone if path.endswith("task") else []))
    monkeypatch.setattr(opened, "_share", lambda *threads: compared.append(threads) or share(*threads))
    assert opened.gpu_nodes(begin(1, "together")) == {str(node)}
    # With the one table that there is, and not with each other.
    assert len(compared) == len(gone) + 1


@pytest.mark.usefixtures("node")
def test_who_has_ended_has_nothing_open():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert opened.gpu_nodes(gone.pid) == set()
