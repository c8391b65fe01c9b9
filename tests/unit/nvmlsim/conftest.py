"""Helpers for tests of the simulator."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pynvml
import pytest

from lab.nvmlsim import build


@pytest.fixture
def process() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start processes that live until the test ends."""
    with ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            started = stack.enter_context(subprocess.Popen(["sleep", "600"]))
            stack.callback(started.kill)
            return started

        yield start


@pytest.fixture
def gpu(nvml_server):
    """Make a server of one GPU, open NVML, and give the server and the GPU's handle."""

    def made(model="A100-80", layout=None):
        server = nvml_server([model], None if layout is None else {0: layout})
        pynvml.nvmlInit()
        return server, pynvml.nvmlDeviceGetHandleByIndex(0)

    return made


class Fakecuda(subprocess.Popen[str]):
    """A running fakecuda; `device` is the UUID of what it took."""

    def __init__(self, *arguments: str) -> None:
        super().__init__([build.FAKECUDA, *arguments], stdout=subprocess.PIPE, text=True)
        assert self.stdout is not None
        self.device = self.stdout.readline().strip()

    def __exit__(self, *reason: object) -> None:
        self.kill()
        super().__exit__(*reason)


@pytest.fixture
def fakecuda():
    """Start fakecuda; it ends with the block."""
    return Fakecuda
