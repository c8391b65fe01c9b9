"""Locks: alone, for as long as the process lives, and a clear refusal meanwhile."""

from __future__ import annotations

import fcntl
import subprocess
import sys

import pytest

from ds01.locks import exclusive
from ds01.problems import ApplyError

HOLDER = """
import fcntl, pathlib, sys
from ds01.locks import exclusive
with exclusive(pathlib.Path(sys.argv[1]), 5, "", getattr(fcntl, sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["flock", "lockf"])
def held(request, tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path), request.param]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        yield path, getattr(fcntl, request.param), holder
        holder.kill()


def test_a_second_holder_is_refused_with_what_to_do(held):
    path, take, _ = held
    text = rf"{path}: held by another program for 0\.1 s: nothing was changed: wait"
    with pytest.raises(ApplyError, match=text), exclusive(path, 0.1, "wait", take):
        pytest.fail("two at once")


def test_the_kernel_lets_go_when_the_holder_is_killed(held):
    path, take, holder = held
    holder.kill()
    with exclusive(path, 5, "wait", take):
        pass


def test_a_link_in_place_of_the_lock_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"), exclusive(tmp_path / "lock", 0.1, "wait"):
        pass
    assert not (tmp_path / "elsewhere").exists()
