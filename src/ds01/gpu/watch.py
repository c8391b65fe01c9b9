"""What GPUs report by themselves: Xid errors, memory errors, changes of the MIG layout.

NVML takes registrations for whole GPUs only. A listener that runs as root also learns in which instance an Xid was.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Self

from ds01.gpu.nvml import Kind, NvmlError, Session

EventKind = Literal["xid", "ecc", "layout", "unavailable", "recovery", "other"]
# nvmlEventType* of nvml.h.
_KINDS: Final[dict[int, EventKind]] = {
    0x1: "ecc",
    0x2: "ecc",
    0x8: "xid",
    0x100: "layout",
    0x4000: "unavailable",
    0x8000: "recovery",
}
_NO_INSTANCE: Final = 0xFFFFFFFF
# NVML waits where no signal interrupts it: in pieces of this length, so that a service stops when it is told to.
_PIECE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class GpuEvent:
    """Something a GPU reported."""

    kind: EventKind
    """layout: MIG instances came or went; recovery: the driver wants something done, `data` says what."""
    gpu_uuid: str
    gi_id: int | None
    """The instance it happened in, where the driver could tell."""
    ci_id: int | None
    data: int
    """The code of an Xid, else NVML's own number."""
    at: datetime

    @property
    def xid(self) -> int | None:
        """The code, if this is an Xid."""
        return self.data if self.kind == "xid" else None


class Watch:
    """Listens to all GPUs; a context manager.

    It is void after the session was renewed or a GPU came or went: make another then. For one thread.
    """

    def __init__(self, session: Session) -> None:
        """Listen through an open session, which must stay open."""
        self._session = session
        self._set: Any = None
        self._uuids: dict[int | None, str] = {}

    def __enter__(self) -> Self:
        """Register. A GPU that cannot be listened to is left out: `gpu_uuids` says which are in.

        Raises:
            NvmlError: NVML cannot listen at all.
        """
        call = self._session.call
        self._set = call("nvmlEventSetCreate")
        for index in range(call("nvmlDeviceGetCount")):
            try:
                handle = call("nvmlDeviceGetHandleByIndex", index)
                uuid = call("nvmlDeviceGetUUID", handle)
                wanted = call("nvmlDeviceGetSupportedEventTypes", handle) & sum(_KINDS)
                call("nvmlDeviceRegisterEvents", handle, wanted, self._set)
            except NvmlError as error:
                if error.kind is Kind.UNAVAILABLE:
                    raise
                continue
            self._uuids[_address(handle)] = uuid
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._session.call("nvmlEventSetFree", self._set)
        except NvmlError:
            return  # It went with the driver.

    @property
    def gpu_uuids(self) -> frozenset[str]:
        """The GPUs that are listened to."""
        return frozenset(self._uuids.values())

    def events(self, timeout_s: float) -> Iterator[GpuEvent]:
        """Yield what happens until `timeout_s` is over; what happened since the last call comes at once.

        Raises:
            NvmlError: A GPU was lost or the driver went away while waiting.
        """
        end = time.monotonic() + timeout_s
        while True:
            left = max(0.0, min(end - time.monotonic(), _PIECE_S))
            try:
                data = self._session.call("nvmlEventSetWait_v2", self._set, int(left * 1000))
            except NvmlError as error:
                if error.kind is not Kind.TIMEOUT:
                    raise
                if time.monotonic() >= end:
                    return
                continue
            yield self._event(data)

    def _event(self, data: Any) -> GpuEvent:
        gi_id, ci_id = (
            None if number == _NO_INSTANCE else int(number) for number in (data.gpuInstanceId, data.computeInstanceId)
        )
        kind = _KINDS.get(data.eventType, "other")
        uuid = self._uuids.get(_address(data.device), "")
        return GpuEvent(kind, uuid, gi_id, ci_id, int(data.eventData), datetime.now(UTC))


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
