"""What `make lab` says at its end can be typed as it stands."""

from __future__ import annotations

import re
import subprocess

import pytest

from lab import summary
from lab.process import ROOT


@pytest.mark.parametrize("name", [summary.DEFAULT_NAME, "another"])
def test_every_command_reaches_this_host(name):
    text = summary.next_steps(name, " LAB=vm")
    commands = re.findall(r"make lab[^`]*?(?=`|   )", text)
    assert len(commands) == 4
    for command in commands:
        done = subprocess.run([*command.split(), "--dry-run"], capture_output=True, text=True, check=True, cwd=ROOT)
        assert re.search(rf"lab (up|shell|down) {name}( |$)", done.stdout, re.MULTILINE), done.stdout
        assert ("--vm" in done.stdout) is command.startswith("make lab LAB")
