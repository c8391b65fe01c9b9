"""How long something takes here, for ratios within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

RUNS = 30


def median_ms(action: Callable[[], object], runs: int = RUNS) -> float:
    """Return the median of so many runs, in milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1_000)
    return statistics.median(times)
