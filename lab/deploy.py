"""Deploying the real site.yml on a lab host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lab.machine import Machine
from lab.process import ROOT, LabError, say, stream


def site(machine: Machine, name: str) -> None:
    """Run site.yml on the host, its output on the terminal.

    Raises:
        LabError: There is no ansible-playbook, or the run fails.
    """
    # Beside the interpreter that runs us, or where `make venv` puts it.
    places = (Path(sys.executable).parent, ROOT / ".venv" / "bin")
    found = next((place / "ansible-playbook" for place in places if (place / "ansible-playbook").exists()), None)
    if found is None:
        raise LabError("ansible-playbook: not found: `make venv` installs it")
    say(f"{name}: deploying site.yml")
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    if stream([str(found), *machine.inventory(name), "playbooks/site.yml"], env=env) != 0:
        raise LabError(f"{name}: site.yml failed, see above; the host is left as it is: `make lab` tries again")
    machine.load_base(name)
