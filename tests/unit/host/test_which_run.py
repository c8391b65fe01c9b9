"""Which deployment this is, asked by whoever runs it."""

from __future__ import annotations

import codecs
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType

PLUGIN = Path(__file__).parents[3] / "roles/preflight/lookup_plugins/ds01_run.py"
NAMELESS = 54_321


def test_somebody_without_a_name_can_deploy():
    """As in a container of a CI job. Only root can become somebody else; others ask as themselves."""
    reading, writing = os.pipe()
    # In a process of its own: with Ansible's controller in it, modules would not give back their warnings any more.
    if (child := os.fork()) == 0:
        try:
            plugin = _plugin()
            # Loaded while this Python can be read: it may lie in a home.
            codecs.lookup("ascii")
            for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
                os.environ.pop(name, None)
            if os.getuid() == 0:
                os.setresuid(NAMELESS, NAMELESS, NAMELESS)
            os.write(writing, json.dumps(plugin.LookupModule().run([])[0]["me"]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = json.loads(answer.read() or "{}")
    os.waitpid(child, 0)
    assert found["user"] == f"uid {NAMELESS}" if os.getuid() == 0 else found["user"]
    assert found["machine"]


def _plugin() -> ModuleType:
    specification = importlib.util.spec_from_file_location("ds01_run", PLUGIN)
    assert specification is not None
    assert specification.loader is not None
    plugin = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(plugin)
    return plugin
