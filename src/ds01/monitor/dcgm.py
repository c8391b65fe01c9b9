"""How busy MIG instances are, from the text of NVIDIA's DCGM exporter where one runs.

On Ampere NVML has no counter for an instance; DCGM's profiling has one. Only whether it is zero is to be trusted: the
share of an instance may stay below all of it, and was seen above.
"""

from __future__ import annotations

import http.client
import math
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from ds01.gpu.model import Device

_ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
_UTILISATION: Final = "DCGM_FI_DEV_GPU_UTIL"
_TIMEOUT_S: Final = 2.0
_TEXT_MAX: Final = 16 << 20
"""Bytes: eight divided GPUs give some hundred KiB."""


class DcgmError(Exception):
    """The exporter does not answer, or not as one does."""


class Busy(NamedTuple):
    """Percent of the time that something was busy, and the field that said so."""

    percent: float
    source: str


Readings = dict[tuple[str, int | None], Busy]
"""By UUID of the GPU and id of the instance; None is the whole GPU."""


def fetch(url: str) -> Readings:
    """Return what the exporter at `url` says now.

    Raises:
        DcgmError: It says nothing that can be used.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/metrics")
        answer = connection.getresponse()
        text = answer.read(_TEXT_MAX).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DcgmError(f"{url}: no answer from the DCGM exporter: {error}") from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise DcgmError(f"{url}: the DCGM exporter answered {answer.status}")
    return read(text)


def read(text: str) -> Readings:
    """Return what a text of the exporter says of each GPU and instance.

    Raises:
        DcgmError: It is no such text.
    """
    found: Readings = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name not in {_ACTIVE, _UTILISATION}:
                    continue
                where = _where(sample.labels)
                percent = sample.value * 100 if sample.name == _ACTIVE else sample.value
                # DCGM writes huge numbers where there is no value; a little above all of it is rounding.
                if where is None or not math.isfinite(percent) or not 0 <= percent <= 200:  # noqa: PLR2004 - see above
                    continue
                # The profiling field knows instances; the other one says of a divided GPU what is not so.
                if sample.name == _ACTIVE or (where[1] is None and where not in found):
                    found[where] = Busy(min(percent, 100.0), sample.name)
    except (ValueError, KeyError, IndexError) as error:
        raise DcgmError(f"what the DCGM exporter says cannot be read: {error}") from error
    return found


def of_device(readings: Readings, device: Device) -> Busy | None:
    """Return how busy a device was, or None if the exporter does not say."""
    return readings.get((device.gpu_uuid, device.gi_id))


def _where(labels: dict[str, str]) -> tuple[str, int | None] | None:
    uuid = labels.get("UUID") or labels.get("uuid") or ""
    instance = labels.get("GPU_I_ID", "")
    if not uuid:
        return None
    return uuid, int(instance) if instance.isdecimal() else None
