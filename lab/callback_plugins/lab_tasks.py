"""Test-only callback: writes how long each task took, and can kill the run in the middle of a chosen task."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: lab_tasks
type: aggregate
short_description: Task times as JSON lines, and an interruption at a chosen task
description:
  - E(LAB_TASK_LOG) names the file that gets one JSON object per task.
  - E(LAB_KILL_AT) is the number of the task (from 1) in which the whole run is killed.
  - E(LAB_KILL_AFTER) is how many seconds into that task, 0.3 unless given.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible ships no types
    """Counts tasks over all plays of one run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lab_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._log = Path(os.environ["LAB_TASK_LOG"])
        self._kill_at = int(os.environ.get("LAB_KILL_AT", "0"))
        self._kill_after = float(os.environ.get("LAB_KILL_AFTER", "0.3"))
        self._count = 0
        self._current: dict[str, Any] | None = None
        self._started = 0.0
        if self._kill_at:
            # A group of its own, so that the kill ends this run and not the test that started it.
            os.setpgid(0, 0)

    def _finish(self) -> None:
        if self._current is not None:
            self._current["seconds"] = round(time.monotonic() - self._started, 3)
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(self._current) + "\n")
        self._current = None

    def _start(self, task: Any) -> None:
        self._finish()
        self._count += 1
        self._started = time.monotonic()
        self._current = {"number": self._count, "name": task.get_name(), "changed": False}
        if self._count == self._kill_at:
            # The whole process group, as when a terminal closes or a machine loses power: nothing gets to tidy up.
            threading.Timer(self._kill_after, os.killpg, (os.getpgid(0), signal.SIGKILL)).start()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ARG002  # ansible's signature
        self._start(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._start(task)

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._current is not None and result.is_changed():
            self._current["changed"] = True

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002  # ansible's signature
        self._finish()
