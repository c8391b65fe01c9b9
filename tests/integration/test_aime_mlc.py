"""AIME MLC beside DS01: its pinned version, its commands, and an installation that is somebody else's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.testhost import LabHost

PLACE = "/opt/aime-ml-containers"
# What is said of itself and of its caller by whatever is at that place.
PROGRAM = """\
import os, pathlib, sys
print("version {version}:", os.getlogin(), sys.argv[1:], (pathlib.Path(__file__).parent / "ml_images.repo").exists())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two versions in git; the first is the one to install."""
    place = tmp_path / "aime-mlc"
    place.mkdir()
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for version in ("1", "2"):
        (place / "mlc.py").write_text(PROGRAM.format(version=version))
        (place / "ml_images.repo").write_text("Pytorch, 2.8.0, [CUDA_ADA], hub/pytorch\n")
        (place / "LICENSE.txt").write_text("MIT\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", version], check=True)
        subprocess.run([*git, "tag", f"v{version}"], check=True)
    return place


class Role:
    """The role, applied to one host from a playbook of its own."""

    def __init__(self, host: LabHost, folder: Path) -> None:
        self.host = host
        self._folder = folder

    def __call__(self, source: str, *, version: str = "v1", tasks: str = "main") -> subprocess.CompletedProcess[str]:
        playbook = self._folder / "aime.yml"
        playbook.write_text(
            "- hosts: ds01\n  gather_facts: false\n  tasks:\n    - ansible.builtin.include_role:\n"
            f"        name: aime_mlc\n        tasks_from: {tasks}\n"
        )
        settings = {"aime_mlc_source": source, "aime_mlc_version": version, "aime_mlc_cache": f"{self._folder}/cache"}
        extra = [argument for name, value in settings.items() for argument in ("--extra-vars", f"{name}={value}")]
        return self.host.play(str(playbook), *extra, check=False)

    def there(self) -> str:
        """Return what is left of it on the host."""
        return self.host.sh(f"ls -d {PLACE} /usr/local/bin/mlc* 2>/dev/null || true")


@pytest.fixture
def role(lab_host: LabHost, tmp_path: Path) -> Iterator[Role]:
    yield Role(lab_host, tmp_path)
    lab_host.sh(f"rm -rf {PLACE} /usr/local/bin/mlc* /usr/local/bin/container-start")


def test_the_pinned_version_works_for_whoever_calls_it_and_goes_again(role: Role, source: Path):
    host = role.host
    first = role(f"file://{source}")
    assert first.returncode == 0, first.stdout
    assert host.sh(f"stat -c '%U %a' {PLACE}/mlc.py; test -e {PLACE}/.git || echo no git") == "root 644\nno git\n"
    # Nobody has logged in here: asked who did, the system would know nobody.
    said = host.sh("cd /; setpriv --reuid 65534 --clear-groups mlc-list -a 'two words'")
    assert said == "version 1: nobody ['list', '-a', 'two words'] True\n"
    assert host.sh("mlc stop x -s") == "version 1: root ['stop', 'x', '-s'] True\n"
    assert host.sh("mlc-start x nvidia-smi") == "version 1: root ['start', 'x', 'nvidia-smi'] True\n"
    host.write("/usr/local/bin/container-start", '#!/bin/sh\necho ours "$@"\n', 0o755)
    assert host.sh("mlc-start x") == "ours x\n"
    refused = host.run("mlc", "update-sys", check=False)
    assert (refused.returncode, "administrator" in refused.stderr) == (1, True)
    again = role(f"file://{source}")
    assert "changed=0" in again.stdout
    assert role(f"file://{source}", version="v2").returncode == 0
    assert host.sh("mlc list").startswith("version 2:")
    assert role("", tasks="remove").returncode == 0
    assert role.there() == ""


def test_a_directory_is_a_source_and_no_source_is_no_installation(role: Role, source: Path):
    assert role("").returncode == 0
    assert role.there() == ""
    assert role(str(source)).returncode == 0
    assert role.host.sh("mlc list").startswith("version 2:")
    assert "changed=0" in role(str(source)).stdout


def test_a_run_that_ended_halfway_is_finished_by_the_next(role: Role, source: Path):
    images = (source / "ml_images.repo").rename(source / "elsewhere")
    assert role(str(source)).returncode != 0
    images.rename(source / "ml_images.repo")
    assert role(str(source)).returncode == 0
    assert role.host.sh("mlc list") == "version 2: root ['list'] True\n"


def test_an_installation_of_somebody_else_is_left_alone(role: Role, source: Path):
    role.host.sh(f"mkdir {PLACE}; echo theirs >{PLACE}/mlc.py; touch /usr/local/bin/mlc-theirs")
    refused = role(str(source))
    assert refused.returncode != 0
    assert "not DS01's" in refused.stdout
    assert role("", tasks="remove").returncode == 0
    assert role.host.sh(f"cat {PLACE}/mlc.py; ls /usr/local/bin/mlc*") == "theirs\n/usr/local/bin/mlc-theirs\n"
