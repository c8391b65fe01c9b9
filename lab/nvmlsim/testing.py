"""A simulated server of one test's own: in this process and in those that it starts."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from . import build
from .control import STATE_VARIABLE, Layout, Server, server


class MakeServer(Protocol):
    """Make the test's server."""

    def __call__(self, gpus: Sequence[str], layouts: Mapping[int, Layout] | None = None) -> Server:
        """Models of its GPUs, and the layouts of those in MIG mode by index."""


@pytest.fixture
def nvml_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeServer]:
    """Make servers in a file of the test's own. pynvml uses them here, and in each process started from here.

    In this process pynvml finds our library under its name, because it is loaded already; other processes find it by
    LD_LIBRARY_PATH.
    """
    library = build.ensure()
    paths = [str(library.parent), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    monkeypatch.setenv("LD_LIBRARY_PATH", os.pathsep.join(paths))
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "nvmlsim-state"))

    def make(gpus: Sequence[str], layouts: Mapping[int, Layout] | None = None) -> Server:
        return server(tmp_path / "nvmlsim-state", gpus, layouts, library=library)

    loaded = ctypes.CDLL(str(library))
    yield make
    # A test that failed half-way must not leave its NVML open for the next one.
    while loaded.nvmlShutdown() == 0:
        pass
