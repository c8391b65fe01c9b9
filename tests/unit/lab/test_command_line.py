"""`python3 -m lab` explains what is wrong in a sentence."""

import os
import subprocess
import sys

import pytest

from lab.process import ROOT


def _lab(*arguments: str, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_engine_that_was_named_and_is_silent_is_not_replaced_by_another():
    done = _lab("up", "lab-nobody", "--bare", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 1
    assert "DOCKER_HOST" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_that_is_not_there_is_named_with_the_way_to_make_it():
    done = _lab("exec", "lab-nobody", "true", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 1
    assert "make lab NAME=lab-nobody" in done.stderr


def test_removing_what_is_not_there_is_no_error():
    assert _lab("down", "lab-nobody", DOCKER_HOST="unix:///nowhere/docker.sock").returncode == 0


@pytest.mark.parametrize("name", ["-x", "Lab", "a/b", "a b", "x"])
def test_a_name_that_an_engine_or_a_kernel_would_refuse_is_refused_first(name):
    done = _lab("up", "--bare", name)
    assert done.returncode == 2


def test_an_unknown_scenario_is_refused_with_the_known_ones():
    done = _lab("test", "nonsense")
    assert done.returncode == 1
    assert "default" in done.stderr
