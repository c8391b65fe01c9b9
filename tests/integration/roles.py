"""Run some tasks of one role on a lab host, as its playbook would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab.testhost import LabHost


class Tasks:
    """The tasks of a role; each file of them can be called by itself."""

    def __init__(self, role: str, **variables: Any) -> None:
        """Take the role, and what its playbook would have set."""
        self._role = role
        self._variables = variables

    def __call__(self, host: LabHost, directory: Path, tasks: str = "main", *arguments: str) -> str:
        """Let the role do these tasks, by `play.yml` in a directory, and return what it printed."""
        step = {"ansible.builtin.import_role": {"name": self._role, "tasks_from": tasks}}
        play = {"hosts": "ds01", "gather_facts": False, "vars": self._variables, "tasks": [step]}
        (directory / "play.yml").write_text(yaml.safe_dump([play]))
        return host.play(str(directory / "play.yml"), *arguments).stdout
