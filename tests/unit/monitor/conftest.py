"""A simulated server, and a place on disk, for one test of the monitor."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01.gpu.nvml import Session
from ds01.monitor.model import ContainerSample
from ds01.monitor.sampler import Place
from ds01.policy import load_policy
from lab.nvmlsim import Server
from lab.nvmlsim.testing import MakeServer

POLICY = """
default_group: student
groups: {student: {members: [alice, bob]}}
monitoring: {metrics_port: null}
"""


def run_by(name: str, uid: int | None, *, running: bool = True) -> ContainerSample:
    """A container as a sample has it."""
    return ContainerSample(
        id=name, name=name, uid=uid, user="", group="student", type="docker", interface="", managed=True,
        protected=False, running=running, created=1, token=None, names=(),
    )  # fmt: skip


@pytest.fixture
def server(nvml_server: MakeServer) -> Server:
    """Two divided A100, one of which is half used, and a whole one."""
    return nvml_server(["A100-80", "A100-80"], {0: ["3g.40gb", "2g.20gb"]})


@pytest.fixture
def session(server: Server) -> Iterator[Session]:  # noqa: ARG001 - it must be there
    """An NVML session of the test's own."""
    found = Session()
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A machine without an engine, with one person's slice."""
    group = tmp_path / "cgroup/ds01.slice/ds01-student.slice/ds01-student-alice.slice"
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (group / "memory.current").write_text("4096\n")
    (group / "pids.current").write_text("7\n")
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    (sessions / "1").write_text("UID=0\nREMOTE=1\nCLASS=user\n")
    (sessions / "2").write_text("UID=0\nREMOTE=0\nCLASS=user\n")
    os.mkfifo(sessions / "1.ref")
    policy = tmp_path / "tables.json"
    (tmp_path / "policy.yaml").write_text(POLICY)
    policy.write_text(json.dumps(load_policy(tmp_path / "policy.yaml").policy.tables))
    return Place(
        ledger=tmp_path / "ledger.db",
        policy=policy,
        cgroups=tmp_path / "cgroup",
        sessions=sessions,
        reported=tmp_path / "gpu-events.json",
        engine=tmp_path / "no-engine.sock",
        tables=lambda path: json.loads(path.read_text()),
    )


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()
