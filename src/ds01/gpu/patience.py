"""Ask the driver, and wait only so long.

A driver that hangs keeps whoever asks it for as long as it likes, and not even SIGKILL ends that. So a thread asks, and
while it hangs nobody asks again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from ds01.gpu.nvml import Kind, NvmlError

LOOK_S: Final = 20.0
"""Seconds for NVML to say everything; with eight busy GPUs it takes one."""
T = TypeVar("T")


class DriverHangsError(NvmlError):
    """NVML did not answer in time, or has yet to answer an earlier question."""


class Patience:
    """Asks one question at a time. For one thread."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._asking: threading.Thread | None = None

    def ask(self, question: Callable[[], T], limit_s: float = LOOK_S) -> T:
        """Return the answer, and raise what the question raises.

        Raises:
            DriverHangsError: There was none within so many seconds.
        """
        found: list[T] = []
        raised: list[BaseException] = []

        def asking() -> None:
            try:
                found.append(question())
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                raised.append(error)

        if self._asking is None or not self._asking.is_alive():
            self._asking = threading.Thread(target=asking, name="nvml", daemon=True)
            self._asking.start()
            self._asking.join(limit_s)
        if raised:
            raise raised[0]
        if not found:
            raise DriverHangsError(
                Kind.TIMEOUT,
                "all calls",
                f"the driver did not answer within {limit_s:.0f} s, and is not asked again before it does;"
                " often only a reboot helps",
            )
        return found[0]
