"""Which GPUs there are, before the runtime with its NVML library for Python is installed: a few calls by ctypes.

Reads names and memory only. Everything else about GPUs is `ds01.gpu`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

_LIBRARY: Final = "libnvidia-ml.so.1"
_TEXT: Final = 96
"""Bytes of NVML's texts (NVML_DEVICE_UUID_V2_BUFFER_SIZE), at least those of all others that are asked for."""
_NOT_SUPPORTED: Final = 3


class Card(NamedTuple):
    """A GPU that the driver knows."""

    number: int
    uuid: str
    name: str
    pci_address: str
    memory_bytes: int | None
    mig: bool
    """Whether it can be divided."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Pci(ctypes.Structure):
    """nvmlPciInfo_t of 68 bytes (nvml.h 13.3)."""

    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pci_device_id", ctypes.c_uint),
        ("pci_subsystem_id", ctypes.c_uint),
        ("bus_id", ctypes.c_char * 32),
    )


def driver() -> tuple[str, list[Card]] | None:
    """Return the version of the driver and its GPUs; None if there is no driver that answers."""
    with _library() as call:
        if call is None:
            return None
        count = ctypes.c_uint()
        if call("nvmlDeviceGetCount_v2", ctypes.byref(count)) != 0:
            return None
        return _text(call, "nvmlSystemGetDriverVersion"), [
            card for index in range(count.value) if (card := _card(call, index)) is not None
        ]


@contextmanager
def _library() -> Iterator[Callable[..., int] | None]:
    try:
        library = ctypes.CDLL(_LIBRARY)
        started = library.nvmlInit_v2() == 0
    except (OSError, AttributeError):
        yield None
        return
    try:
        yield (lambda name, *arguments: int(getattr(library, name)(*arguments))) if started else None
    finally:
        if started:
            library.nvmlShutdown()


def _card(call: Callable[..., int], index: int) -> Card | None:
    handle = ctypes.c_void_p()
    if call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)) != 0:
        return None
    memory, pci = _Memory(), _Pci()
    known = call("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)) == 0
    call("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci))
    modes = ctypes.c_uint(), ctypes.c_uint()
    mig = call("nvmlDeviceGetMigMode", handle, *map(ctypes.byref, modes)) != _NOT_SUPPORTED
    address = f"{pci.domain:04x}:{pci.bus:02x}:{pci.device:02x}.0"
    name, uuid = _text(call, "nvmlDeviceGetName", handle), _text(call, "nvmlDeviceGetUUID", handle)
    return Card(index, uuid, name, address, memory.total if known else None, mig)


def _text(call: Callable[..., int], function: str, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(_TEXT)
    if call(function, *arguments, buffer, ctypes.c_uint(_TEXT)) != 0:
        return ""
    return buffer.value.decode("utf-8", "replace")
