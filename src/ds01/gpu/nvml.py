"""The one door to NVML: a session, and errors of a few kinds, each with what a person can do about it.

Threads: any number may `call` at once (NVML allows it); `open`, `close` and `renew` wait for each other. A call that
meets a closing session fails with `Kind.UNAVAILABLE`, never otherwise. After a fork, open a new session.
Handles are good until the session is renewed or the layout changes: nothing here keeps any.
"""

from __future__ import annotations

import math
import threading
from enum import StrEnum
from types import ModuleType, TracebackType
from typing import Any, Final, Self

from ds01.gpu.model import Measured
from ds01.problems import ReportedError

# NVML's return codes (nvml.h, nvmlReturn_enum); numbers, because pynvml is loaded only when a session opens.
_UNINITIALIZED: Final = 1
_LIBRARY_NOT_FOUND: Final = 12
_LIB_RM_VERSION_MISMATCH: Final = 18
_TIMEOUT: Final = 10

# What drivers and exporters put where there is no value: all ones, the largest integer, and DCGM's blanks.
_BLANKS_32: Final = (range(0x7FFFFFF0, 0x80000000), range(0xFFFFFFFF, 0x1_0000_0000))
_BLANKS_64: Final = (range(0x7FFFFFFFFFFFFFF0, 1 << 63), range((1 << 64) - 1, 1 << 64))


class Kind(StrEnum):
    """What an error means for whoever asked."""

    NOT_SUPPORTED = "not_supported"
    """This device or driver cannot do that, now or later."""
    NOT_FOUND = "not_found"
    """No such device or instance, or no longer."""
    LOST = "lost"
    """The GPU fell off the bus or waits for a reset."""
    IN_USE = "in_use"
    NO_PERMISSION = "no_permission"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    """No library, no driver, or the driver went away."""
    OTHER = "other"


_KINDS: Final = {
    _UNINITIALIZED: Kind.UNAVAILABLE,
    # What NVML says about a handle whose instance was destroyed.
    2: Kind.NOT_FOUND,
    3: Kind.NOT_SUPPORTED,
    4: Kind.NO_PERMISSION,
    6: Kind.NOT_FOUND,
    9: Kind.UNAVAILABLE,
    _TIMEOUT: Kind.TIMEOUT,
    _LIBRARY_NOT_FOUND: Kind.UNAVAILABLE,
    13: Kind.NOT_SUPPORTED,
    15: Kind.LOST,
    16: Kind.LOST,
    _LIB_RM_VERSION_MISMATCH: Kind.UNAVAILABLE,
    19: Kind.IN_USE,
    25: Kind.NOT_SUPPORTED,
    28: Kind.LOST,
}

_FIXES: Final = {
    _LIBRARY_NOT_FOUND: "install the NVIDIA driver; it brings libnvidia-ml.so.1 (Debian: `apt install nvidia-driver`)",
    _LIB_RM_VERSION_MISMATCH: "the driver was upgraded and the old one is still loaded: reboot",
    Kind.UNAVAILABLE: "as root, load the driver with `modprobe nvidia` and read `dmesg | grep NVRM`; "
    "without root, /dev/nvidia* may be closed for you",
    Kind.LOST: "as root, read `dmesg | grep Xid`, then reboot; if it comes back, the card or its slot is broken",
    Kind.NO_PERMISSION: "ask as root",
    Kind.IN_USE: "stop what uses it first: `ds01 gpu processes` names it",
    Kind.NOT_SUPPORTED: "this GPU or driver cannot do it",
    Kind.NOT_FOUND: "ask again: it is gone",
}
_ANY_FIX: Final = "as root, read `dmesg | grep NVRM`"


class NvmlError(ReportedError):
    """A call to NVML failed."""

    def __init__(self, kind: Kind, function: str, text: str, code: int = 0) -> None:
        """Say which call failed, and how."""
        self.kind = kind
        self.function = function
        self.text = f"{text} ({function})"
        """What happened."""
        self.code = code
        """NVML's own number; 0 if it was not NVML that failed."""
        self.fix = _FIXES.get(code) or _FIXES.get(kind, _ANY_FIX)
        """What to do about it."""
        super().__init__(f"NVML: {self.text}: {self.fix}")


class Session:
    """NVML, initialised; a context manager.

    NVML counts who opened it in a process and starts anew only when the last has closed it: a process that lives
    through reloads of the driver keeps one session.
    """

    def __init__(self) -> None:
        """Make a session that is not open."""
        self._lock = threading.RLock()
        self._api: ModuleType | None = None
        self._stale = False
        self.generation = 0
        """Counts initialisations: what was made under another number (handles, samples, event sets) is void."""

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def open(self) -> Self:
        """Load and initialise NVML, if it is not.

        Raises:
            NvmlError: It cannot be; of kind UNAVAILABLE or NO_PERMISSION.
        """
        with self._lock:
            if self._api is None:
                try:
                    import pynvml  # noqa: PLC0415 - 30 ms that only sessions should cost
                except ImportError as error:
                    raise NvmlError(
                        Kind.UNAVAILABLE, "import pynvml", f"{error}: the Python package nvidia-ml-py is missing"
                    ) from error
                # Without GPUs there is an empty inventory, which is an answer.
                _run(pynvml, "nvmlInitWithFlags", pynvml.NVML_INIT_FLAG_NO_GPUS)
                self._api, self._stale = pynvml, False
                self.generation += 1
        return self

    def close(self) -> None:
        """Give NVML back. A GPU's MIG mode changes, and its driver unloads, only when nobody holds it."""
        with self._lock:
            api, self._api = self._api, None
            if api is not None:
                try:
                    _run(api, "nvmlShutdown")
                except NvmlError:
                    return  # The driver was gone before us.

    def renew(self) -> Self:
        """Initialise again if the driver has gone away since, or was reloaded; begin each scan with this.

        Raises:
            NvmlError: It cannot be.
        """
        with self._lock:
            if self._stale:
                self.close()
            return self.open()

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of pynvml.

        Raises:
            NvmlError: It failed.
        """
        api = self._api
        if api is None:
            raise NvmlError(Kind.UNAVAILABLE, function, "the session is closed", _UNINITIALIZED)
        try:
            return _run(api, function, *arguments)
        except NvmlError as error:
            if error.kind is Kind.UNAVAILABLE:
                self._stale = True
            raise

    def measure(self, function: str, *arguments: Any, wide: bool = False, part: str = "") -> Measured[Any]:
        """Call a function that returns a measured number, or a structure that has one.

        Args:
            function: Name in pynvml; it becomes the source.
            arguments: Its arguments.
            wide: Whether the value has 64 bits: what means "none" differs.
            part: The number in the structure.
        """
        try:
            value = self.call(function, *arguments)
        except NvmlError as error:
            return self.no_value(function, error)
        if part:
            value = getattr(value, part)
        if is_blank(value, wide=wide):
            return Measured.unknown(function, "the driver gave no value")
        return Measured.of(value, function)

    @staticmethod
    def no_value(source: str, error: NvmlError) -> Measured[Any]:
        """Return what a failed call measured: nothing, and why."""
        if error.kind is Kind.NOT_SUPPORTED:
            return Measured.unsupported(source)
        return Measured.unknown(source, error.text)

    @property
    def api(self) -> ModuleType:
        """The module pynvml, for its constants and structures.

        Raises:
            NvmlError: The session is closed.
        """
        if self._api is None:
            raise NvmlError(Kind.UNAVAILABLE, "pynvml", "the session is closed", _UNINITIALIZED)
        return self._api


def is_blank(value: Any, *, wide: bool = False) -> bool:
    """Whether a number stands for "no value"."""
    if isinstance(value, float):
        return math.isnan(value) or math.isinf(value)
    return isinstance(value, int) and any(value in blanks for blanks in (_BLANKS_64 if wide else _BLANKS_32))


def _run(api: ModuleType, function: str, *arguments: Any) -> Any:
    try:
        return getattr(api, function)(*arguments)
    except api.NVMLError as error:
        kind = _KINDS.get(error.value, Kind.OTHER)
        raise NvmlError(kind, function, str(error), error.value) from error
    except api.NVMLLibraryMismatchError as error:
        raise NvmlError(Kind.NOT_SUPPORTED, function, "the driver is too old for this", 13) from error
    except UnicodeDecodeError as error:
        raise NvmlError(Kind.OTHER, function, "the driver returned a text that is none") from error
