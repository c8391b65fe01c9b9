"""How busy a device was, by NVML's GPU performance monitoring: what happened between two samples of it.

Hopper and newer only. On Ampere NVML has nothing to say about the activity of an instance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ds01.gpu.model import Device, Measured
from ds01.gpu.nvml import NvmlError, Session, is_blank

# Closer samples do not make a rate (NVIDIA: at least about 100 ms).
APART_S: Final = 0.1
# NVML_GPM_METRIC_*: graphics, SM, any tensor, DRAM bandwidth; each in percent.
_METRICS: Final = (("graphics", 1), ("SM", 2), ("any tensor", 5), ("DRAM bandwidth", 10))
_SOURCE: Final = "nvmlGpmMetricsGet"

Activity = tuple[Measured[float], Measured[float], Measured[float], Measured[float]]


class _Sample(NamedTuple):
    data: Any
    at: float
    generation: int


class ActivityMeter:
    """Keeps one sample of each device, to compare the next one with."""

    def __init__(self, session: Session, clock: Callable[[], float]) -> None:
        """Read through a session; `clock` gives seconds that only grow."""
        self._session = session
        self._clock = clock
        self._samples: dict[str, _Sample] = {}
        self.wants_another = False
        """Whether a device that can say something had only its first sample."""

    def keep(self, uuids: set[str]) -> None:
        """Begin a reading: forget the samples of all devices but these."""
        self.wants_another = False
        for uuid in self._samples.keys() - uuids:
            self._free(self._samples.pop(uuid))

    def read(self, device: Device, parent: Any, error: NvmlError | None) -> Activity:
        """Return the activity of a device since it was last read.

        Args:
            device: A whole GPU or a MIG device.
            parent: The handle of its GPU.
            error: Why the handle of the device or its GPU could not be had, if so.
        """
        if error is not None:
            return _all(lambda name: Session.no_value(_name(name), error))
        try:
            if not self._session.call("nvmlGpmQueryDeviceSupport", parent).isSupportedDevice:
                return _all(lambda name: Measured.unsupported(_name(name)))
            return self._compare(device, parent)
        except NvmlError as failure:
            missing = failure
            return _all(lambda name: Session.no_value(_name(name), missing))

    def _compare(self, device: Device, parent: Any) -> Activity:
        before = self._samples.get(device.uuid)
        if before is not None and before.generation != self._session.generation:
            before = None  # The driver that owned it is gone.
        if before is not None and self._clock() - before.at < APART_S:
            return _all(lambda name: Measured.unknown(_name(name), f"read again {APART_S:g} s after the last time"))
        now = self._sample(device, parent)
        self._samples[device.uuid] = now
        if before is None:
            self.wants_another = True
            return _all(lambda name: Measured.unknown(_name(name), "the first sample; the next one gives a value"))
        try:
            return self._metrics(before, now)
        finally:
            self._free(before)

    def _sample(self, device: Device, parent: Any) -> _Sample:
        call = self._session.call
        data = call("nvmlGpmSampleAlloc")
        sample = _Sample(data, self._clock(), self._session.generation)
        try:
            if device.gi_id is None:
                call("nvmlGpmSampleGet", parent, data)
            else:
                call("nvmlGpmMigSampleGet", parent, device.gi_id, data)
        except NvmlError:
            self._free(sample)
            raise
        return sample

    def _metrics(self, before: _Sample, now: _Sample) -> Activity:
        api = self._session.api
        query = api.c_nvmlGpmMetricsGet_t()
        query.version = api.NVML_GPM_METRICS_GET_VERSION
        query.numMetrics = len(_METRICS)
        query.sample1, query.sample2 = before.data, now.data
        for place, (_, number) in enumerate(_METRICS):
            query.metrics[place].metricId = number
        self._session.call("nvmlGpmMetricsGet", query)
        values = {name: query.metrics[place] for place, (name, _) in enumerate(_METRICS)}

        def shown(name: str) -> Measured[float]:
            metric = values[name]
            if metric.nvmlReturn != api.NVML_SUCCESS or is_blank(metric.value):
                return Measured.unknown(_name(name), "the driver gave no value")
            # Rounding of the counters gives a little more than all at times.
            return Measured.of(min(max(metric.value, 0.0), 100.0), _name(name))

        return _all(shown)

    def _free(self, sample: _Sample) -> None:
        if sample.generation != self._session.generation:
            return  # It went with the driver that had made it.
        try:
            self._session.call("nvmlGpmSampleFree", sample.data)
        except NvmlError:
            return  # As above, only this moment.


def _all(make: Callable[[str], Measured[float]]) -> Activity:
    first, second, third, fourth = (make(name) for name, _ in _METRICS)
    return first, second, third, fourth


def _name(metric: str) -> str:
    return f"{_SOURCE}: {metric}"
