"""Call one Ansible module on a lab host, as a task would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Module:
    """Modules of DS01 on a lab host, called with name, arguments and options of `ansible`."""

    def __init__(self, lab_host: Any) -> None:
        self._host = lab_host.name

    def __call__(self, name: str, arguments: dict[str, Any], *options: str, fails: bool = False) -> dict[str, Any]:
        command = [Path(sys.executable).parent / "ansible", self._host, f"--inventory={self._host},", *options]
        command += ["--module-name", name, "--args", json.dumps(arguments)]
        command += ["--extra-vars", "ansible_connection=docker ansible_python_interpreter=/usr/bin/python3"]
        settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **settings}
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        result: dict[str, Any] = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
        return result
