# SPDX-License-Identifier: GPL-3.0-or-later
# This file runs inside Ansible's controller process and imports its code, so it is under Ansible's licence.
"""Say which run of ansible-playbook this is, and which others run on this machine."""

from __future__ import annotations

import getpass
import os
import socket
import time
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: ds01_run
short_description: Which run this is
description:
  - Returns one mapping with C(me), this run of ansible-playbook, and C(alive), the runs on this machine.
  - A run is known by the process and its start, a machine by its name and its boot.
"""


class LookupModule(LookupBase):
    """The lookup C(ds01_run)."""

    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[Any]:  # noqa: ARG002 - Ansible's
        """Return the mapping. Lookups run in a worker, whose parent is the run itself."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        me = {
            "machine": f"{socket.gethostname()} {boot}",
            "process": _identity(Path("/proc", str(os.getppid()))) or "",
            "user": _user(),
            "since": time.time(),
        }
        found = (_identity(process) for process in Path("/proc").iterdir() if process.name.isdigit())
        return [{"me": me, "alive": [identity for identity in found if identity]}]


def _user() -> str:
    """Return who runs it; Ansible runs under a uid without a name too, as in a CI job's container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _identity(process: Path) -> str | None:
    """Return process id and start time of a run of Ansible, or None for anything else."""
    try:
        command = (process / "cmdline").read_bytes()
        # Behind the name, which may hold spaces and brackets: field 22 of proc(5) is the start.
        start = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return None
    return f"{process.name}:{start}" if b"ansible" in command else None
