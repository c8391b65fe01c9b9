"""NVML sessions on simulated servers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from ds01.gpu.nvml import Session
from lab.nvmlsim import Server
from lab.nvmlsim.testing import MakeServer

FIRST = ["3g.40gb", "2g.20gb", "1g.10gb"]


@pytest.fixture
def server(nvml_server: MakeServer) -> Server:
    """An A100 in three parts, a whole A100, an H100 in three parts, a whole H100."""
    return nvml_server(["A100-80", "A100-80", "H100-80", "H100-80"], {0: FIRST, 2: FIRST})


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    assert server
    with Session() as opened:
        yield opened


@pytest.fixture
def sleeper() -> Iterator[Callable[[], int]]:
    """Start processes that do nothing, and end them with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        running.append(subprocess.Popen(["sleep", "600"]))
        return running[-1].pid

    yield start
    for process in running:
        process.kill()
        process.wait()
