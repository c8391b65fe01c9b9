"""Which way a container came to be: by a command of DS01, Dev Containers, compose, AIME's commands, or plain Docker.

The gateway writes it on each container that is made through it. Of those that were made past it, what programs leave
on their containers tells as much as can be known. Anybody may write the same, so no type gives more than its owner has
anyway (`lifecycle.rules`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from ..host.names import PROJECT_LABEL, REQUEST_LABEL

TYPE: Final = "ds01.type"
INTERFACE: Final = "ds01.interface"
PROJECT: Final = "ds01.project"
AGENT: Final = "ds01-cli"
"""How DS01's commands call themselves (User-Agent), with what they are behind a slash."""
TYPES: Final = frozenset({"managed", "compose", "devcontainer", "docker", "aime"})
_COMMANDS: Final = frozenset({"wizard", "orchestration", "atomic", "mlc"})
_MARKS: Final = (
    ("devcontainer.local_folder", "devcontainer"),
    ("com.docker.compose.project", "compose"),
    ("aime.mlc", "aime"),
)
_PROJECTS: Final = {
    "managed": PROJECT_LABEL,
    "compose": "com.docker.compose.project",
    "devcontainer": "devcontainer.local_folder",
}
"""Where each way of making containers says what they belong to; of a directory, its own name counts."""
_NOT_IN_A_NAME: Final = re.compile(r"[^\w.@+-]")
_NAME_MAX: Final = 128
"""Characters of a project's name; longer ones are cut, because only people read them."""


def of_request(agent: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the labels that say which way a container comes that is being made.

    Args:
        agent: What the client calls itself.
        given: The labels that it gives.
    """
    program, _, command = agent.partition("/")
    if program == AGENT:
        kind, interface = "managed", command if command in _COMMANDS else "atomic"
    elif (found := _found(_MARKS, given)) is None:
        kind, interface = "docker", "docker" if program == "Docker-Client" else "api"
    else:
        kind, interface = found, "mlc" if found == "aime" else found
    return {TYPE: kind, INTERFACE: interface} | _project(kind, given)


def by_marks(labels: Mapping[str, str]) -> str | None:
    """Return the type that the program which made a container left on it, if one did."""
    return _found(((REQUEST_LABEL, "managed"), *_MARKS), labels)


def _project(kind: str, given: Mapping[str, str]) -> dict[str, str]:
    """The label of what a container belongs to, if it belongs to anything."""
    written = given.get(_PROJECTS.get(kind, ""), "").rstrip("/\\")
    name = re.split(r"[/\\]", written)[-1] if kind == "devcontainer" else written
    return {PROJECT: _NOT_IN_A_NAME.sub("_", name)[:_NAME_MAX]} if name else {}


def _found(marks: Iterable[tuple[str, str]], labels: Mapping[str, str]) -> str | None:
    return next((kind for mark, kind in marks if mark in labels), None)
