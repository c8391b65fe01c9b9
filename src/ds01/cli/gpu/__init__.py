"""`ds01 gpu`: the GPUs of this server and who uses them. One module per verb or family of verbs."""

from __future__ import annotations

import click

from ds01.cli.lazy import LazyGroup

VERBS = {
    "allocate": ("ds01.cli.gpu.allocate", "allocate"),
    "clear-stopped": ("ds01.cli.gpu.lifecycle", "clear_stopped"),
    "drain": ("ds01.cli.gpu.drain", "drain"),
    "health": ("ds01.cli.gpu.health", "health"),
    "list": ("ds01.cli.gpu.devices", "list_devices"),
    "mark-stopped": ("ds01.cli.gpu.lifecycle", "mark_stopped"),
    "processes": ("ds01.cli.gpu.processes", "processes"),
    "queue": ("ds01.cli.gpu.queue", "queue"),
    "release": ("ds01.cli.gpu.lifecycle", "release"),
    "reserve": ("ds01.cli.gpu.reserve", "reserve"),
    "show": ("ds01.cli.gpu.devices", "show"),
    "status": ("ds01.cli.gpu.status", "status"),
    "user-status": ("ds01.cli.gpu.status", "user_status"),
    "validate": ("ds01.cli.gpu.validate", "validate"),
    "why": ("ds01.cli.gpu.allocate", "why"),
}


@click.group(cls=LazyGroup, modules=VERBS)
def gpu() -> None:
    """See the GPUs of this server, and say who gets which.

    A GPU may be divided into instances (MIG): each is a device of its own, with its own part of memory and computing.
    "0" is the GPU 0, "0:1" is device 1 on it.
    """
