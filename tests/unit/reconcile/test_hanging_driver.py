"""A driver that hangs keeps nobody from the rest of the work."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HANGS = """
#include <unistd.h>
int nvmlInitWithFlags(unsigned flags) { for (;;) pause(); }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
"""
LOOK_TWICE = """
import threading, time
from ds01.reconcile.observe import look_at_gpus
for limit in (1.0, 30.0):
    began = time.monotonic()
    seen = look_at_gpus(limit)
    assert (seen.inventory, seen.processes) == (None, None)
    print(f"{time.monotonic() - began:.1f}", sum(one.name == "nvml" for one in threading.enumerate()), seen.trouble)
"""


def test_the_look_ends_and_the_next_does_not_hang_with_it(tmp_path: Path):
    (tmp_path / "hangs.c").write_text(HANGS, encoding="ascii")
    library = tmp_path / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "hangs.c"], check=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOOK_TWICE],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    first, second = (line.split(" ", 2) for line in done.stdout.splitlines())
    assert float(first[0]) >= 1.0
    assert float(second[0]) < 20.0, "it waited for the one that hangs"
    assert (first[1], second[1]) == ("1", "1")
    assert "did not answer" in first[2]
    assert "did not answer" in second[2]
    assert time.monotonic() - began < 100, "the process could not end"
