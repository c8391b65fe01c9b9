"""A simulated server whose layout is changed by the real code, with its files in a directory of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01 import events
from ds01.engine import command
from ds01.gpu.nvml import Session
from ds01.mig import apply, cdi, saved
from ds01.mig.observe import NOBODY, Leases
from ds01.mig.wanted import Wanted, from_policy
from lab.nvmlsim import build
from lab.nvmlsim.control import Kind, Server

# The lab's container toolkit, for the server of the test.
_TOOLKIT = """\
#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import yaml
from lab.nvmlsim import toolkit
from lab.nvmlsim.control import Server
assert sys.argv[1:3] == ["cdi", "generate"] and sys.argv[3].startswith("--output=")
found = toolkit.specification(Server(Path({state!r}), Path({library!r})).state())
Path(sys.argv[3].partition("=")[2]).write_text(yaml.safe_dump(found))
"""


class Host:
    """The simulated server, and what DS01 keeps about it."""

    def __init__(self, server: Server, events_file: Path) -> None:
        self.server = server
        self._events = events_file
        self._processes: list[subprocess.Popen[bytes]] = []

    def uuids(self, gpu: int) -> dict[str, str]:
        """Return the UUIDs of a GPU's MIG devices -> instance, as the simulator itself has them."""
        return {
            part["uuid"]: f"{instance['profile']}@{instance['start']}"
            for instance in self.server.state()["gpus"][gpu]["instances"]
            for part in instance["compute"]
        }

    def layout(self, gpu: int) -> list[str] | str:
        """Return the instances of a GPU, finished or not, as the simulator itself has them."""
        state = self.server.state()["gpus"][gpu]
        if not state["mig"]:
            return "whole"
        bare = [item for item in state["instances"] if not item["compute"]]
        assert not bare, "instances without compute instance"
        return sorted(f"{instance['profile']}@{instance['start']}" for instance in state["instances"])

    def use(self, device: str, kind: Kind = Kind.COMPUTE) -> subprocess.Popen:
        """Let a new process use a device, until the end of the test."""
        process = subprocess.Popen(["sleep", "infinity"])
        self._processes.append(process)
        self.server.attach(device, process.pid, 1 << 30, kind=kind)
        return process

    def stop(self) -> None:
        """End all these processes."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def ask(self, layout: dict[str, list[str]] | str):
        """Return the wish of a policy: a layout, or one profile for all."""
        parts = {
            gpu: [
                {"profile": text.partition("@")[0], "start": int(text[-1]) if "@" in text else None} for text in texts
            ]
            for gpu, texts in (layout.items() if isinstance(layout, dict) else ())
        }
        profile = layout if isinstance(layout, str) else None
        allocation = {"enable_mig": True, "mig_profile": profile, "mig_layout": parts}
        return lambda states: from_policy(allocation, states)

    def apply(self, layout: dict[str, list[str]] | str, leases: Leases = NOBODY) -> apply.Outcome:
        """Apply the wish of a policy."""
        with Session() as session:
            return apply.change(session, self.ask(layout), leases=leases)

    def apply_saved(self) -> apply.Outcome:
        """Do what the boot unit does."""
        layouts = saved.load()

        def ask(states) -> Wanted:
            return saved.wanted(layouts, states)

        with Session() as session:
            return apply.change(session, ask)

    def events(self) -> list[dict]:
        """Return what was recorded."""
        return [json.loads(line) for line in self._events.read_text().splitlines()] if self._events.exists() else []


@pytest.fixture
def make_host(tmp_path, monkeypatch, nvml_server) -> Iterator:
    """Make the host: models of its GPUs, and layouts of those in MIG mode."""
    monkeypatch.setattr(saved, "DIRECTORY", tmp_path / "mig")
    monkeypatch.setattr(cdi, "SPEC", tmp_path / "cdi" / "nvidia.yaml")
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "events.jsonl")
    monkeypatch.setattr(events, "JOURNAL_SOCKET", tmp_path / "no-journal")
    toolkit = tmp_path / "bin" / "nvidia-ctk"
    toolkit.parent.mkdir()
    root, state, library = str(Path(__file__).parents[3]), str(tmp_path / "nvmlsim-state"), str(build.ensure())
    toolkit.write_text(_TOOLKIT.format(python=sys.executable, root=root, state=state, library=library))
    toolkit.chmod(0o755)
    # DS01 runs no tool of the caller's PATH.
    places = {"PATH": f"{toolkit.parent}{os.pathsep}{os.environ['PATH']}"}
    monkeypatch.setattr(command, "_ENVIRONMENT", command._ENVIRONMENT | places)
    made: list[Host] = []

    def make(gpus: list[str], layouts=None) -> Host:
        made.append(Host(nvml_server(gpus, layouts), tmp_path / "events.jsonl"))
        return made[-1]

    yield make
    for host in made:
        host.stop()
