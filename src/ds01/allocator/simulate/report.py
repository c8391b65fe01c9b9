"""What a replay comes to, per group and in all."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ds01.allocator.model import DeviceView
    from ds01.allocator.simulate.replay import Result

ALL = "all"
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Line:
    """One group. Waiting times in hours, of those that were served; `busy` is a part of all GPU time."""

    group: str
    asked: int
    served: int
    at_once: int
    waited_median: float | None
    waited_95: float | None
    waited_most: float | None
    refused: dict[str, int]
    gave_up: int
    cut: int
    gpu_hours: float
    busy: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return asdict(self)


def lines(results: Iterable[Result], devices: Sequence[DeviceView], length_ms: int) -> list[Line]:
    """Return one line per group and one for all of them."""
    results = list(results)
    capacity = sum(device.weight for device in devices) * length_ms / _HOUR_MS
    groups = sorted({result.group for result in results})
    found = [_line(group, [result for result in results if result.group == group], capacity) for group in groups]
    return [*found, _line(ALL, results, capacity)]


def _line(group: str, results: Sequence[Result], capacity: float) -> Line:
    waits = sorted(result.waited / _HOUR_MS for result in results if result.waited is not None)
    outcomes = Counter(result.outcome for result in results)
    hours = sum(result.ran * result.weight for result in results) / _HOUR_MS
    return Line(
        group=group,
        asked=len(results),
        served=outcomes.pop("served", 0),
        at_once=sum(wait == 0 for wait in waits),
        waited_median=_part(waits, 0.5),
        waited_95=_part(waits, 0.95),
        waited_most=_part(waits, 1.0),
        gave_up=outcomes.pop("gave up", 0),
        refused=dict(sorted(outcomes.items())),
        cut=sum(result.cut for result in results),
        gpu_hours=round(hours, 2),
        busy=round(hours / capacity, 4) if capacity else 0.0,
    )


def _part(values: Sequence[float], part: float) -> float | None:
    return round(values[min(len(values) - 1, int(len(values) * part))], 3) if values else None
