"""The picture of a lab host that `make lab` ends with."""

from __future__ import annotations

from lab import host
from lab.machine import Machine

DEFAULT_NAME = "lab-ds01"
"""What the Makefile calls a host that nobody named."""

# What to ask the host, and under which heading the answer stands. The host's own commands speak, nothing is computed.
_SLICES = "systemctl list-units --all --plain --no-legend --no-pager --type=slice 'ds01*'"
_USERS = """
getent group ds01-users | cut -d: -f4 | tr , '\\n' | while read -r user; do echo "$user: $(id -nG "$user")"; done
"""
_TIMERS = "systemctl list-timers --all --no-legend --no-pager 'ds01*'"
_DOCKER = """
su -l alice -c 'docker run --detach --rm --name hello ds01-lab/base sleep 5 >/dev/null && docker inspect --format \
"docker run: in {{.HostConfig.CgroupParent}}, {{.HostConfig.Memory}} bytes, {{.HostConfig.PidsLimit}} processes" hello'
"""
_QUESTIONS = (
    ("GPUs", "ds01 gpu list"),
    ("Slices", _SLICES),
    ("Users", _USERS),
    ("Limits of alice", "ds01 limits alice | grep -vE 'unlimited|policies'"),
    ("A container of alice", _DOCKER),
    ("Timers", _TIMERS),
)


def of(machine: Machine, name: str) -> str:
    """GPUs, slices, users, limits, a container and timers as the host itself tells them, and what to do next."""
    parts = []
    for heading, question in _QUESTIONS:
        answer = machine.output(name, "sh", "-c", question, check=False).rstrip() or "none"
        parts.append(f"{heading}\n" + "\n".join(f"  {line}" for line in answer.splitlines()))
    parts.append(next_steps(name, "" if machine is host else " LAB=vm"))
    return "\n\n".join(parts)


def next_steps(name: str, kind: str = "") -> str:
    """What to type next, whatever the host is called and `make lab` was given."""
    which = "" if name == DEFAULT_NAME else f" NAME={name}"
    steps = (
        (f"make lab-shell{which} USER=alice", "be alice, a student (also bob, mary-ann, carol, dave, erin)"),
        ("  docker run --rm -it ds01-lab/base", "as alice: a container within her limits"),
        (f"make lab-shell{which}", "be root"),
        (f"make lab-down{which}", "remove the host"),
    )
    width = max(len(command) for command, _ in steps) + 3
    lines = [f"  {command:{width}}{what}" for command, what in steps]
    again = f"  edit lab/resource-limits.yaml, then `make lab{kind}{which}` again: only what changed is applied"
    return "\n".join([f"Next: the lab host {name} is running", *lines[:3], again, lines[3]])
