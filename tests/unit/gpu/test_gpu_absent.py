"""A machine without a driver: one clear message, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent


@pytest.fixture
def without_driver(tmp_path: Path) -> dict[str, str]:
    """An environment in which NVIDIA's library cannot be loaded, also where there is one."""
    (tmp_path / "libnvidia-ml.so.1").write_text("This is no library.")
    return {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}


@pytest.mark.parametrize("verb", ["list", "processes", "health", "show 0", "list --json"])
def test_the_command_says_what_is_missing_and_how_to_mend_it(verb: str, without_driver: dict[str, str]) -> None:
    done = subprocess.run(
        [BIN / "ds01", "gpu", *verb.split()], env=without_driver, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: NVML: ")
    assert "install the NVIDIA driver" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_module_says_that_there_are_none(without_driver: dict[str, str]) -> None:
    command = [BIN / "ansible", "localhost", "--inventory=localhost,", "--module-name", "ds01_gpu_info"]
    command += ["--extra-vars", f"ansible_connection=local ansible_python_interpreter={sys.executable}"]
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(command, env=without_driver | settings, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
    assert (found["available"], found["gpus"], found["devices"], found["changed"]) == (False, [], [], False)
    assert "install the NVIDIA driver" in found["reason"]
