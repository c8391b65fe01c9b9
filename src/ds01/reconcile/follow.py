"""Keep ledger and world together: a full pass whenever the engine says that something happened, and every minute.

An event is only a reason to look: what was seen decides. So a lost event, a restart of the engine or of this process
costs a minute at most, and no event can be wrong.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from ds01.engine.api import Engine, EngineUnavailableError

FULL_PASS_S: Final = 60.0
_SETTLE_S: Final = 0.3
"""How long more events are waited for: `compose up` makes dozens at once."""
_RECONNECT_S: Final = 1.0
_KINDS: Final = frozenset({"container", "volume", "network"})
_ACTIONS: Final = frozenset({"create", "start", "die", "destroy", "rename", "pause", "unpause", "restart", "remove"})


class Follower:
    """Calls a function at the right moments, until stopped."""

    def __init__(self, engine: Callable[[], Engine], look: Callable[[], None], *, every_s: float = FULL_PASS_S) -> None:
        """Prepare.

        Args:
            engine: Returns whose events count; asked at each connection, since its socket may move.
            look: Makes one pass; what it raises ends `run`.
            every_s: Seconds between passes when nothing happens.
        """
        self._engine = engine
        self._look = look
        self._every_s = every_s
        self._reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run` return after the pass it is at."""
        self._stopping.set()
        self._reasons.put("stop")

    def run(self) -> None:
        """Make passes until `stop`."""
        # The stream has no end, and no read of it a time limit: its thread dies with the process.
        threading.Thread(target=self._listen, name="engine events", daemon=True).start()
        while not self._stopping.is_set():
            self._look()
            self._wait()

    def _wait(self) -> None:
        try:
            self._reasons.get(timeout=self._every_s)
        except queue.Empty:
            return
        deadline = time.monotonic() + _SETTLE_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._reasons.get(timeout=left)
            except queue.Empty:
                return

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                for event in self._engine().events():
                    if matters(event):
                        self._reasons.put("event")
            except EngineUnavailableError:
                pass
            # Whatever happened while nobody listened is found by looking.
            time.sleep(_RECONNECT_S)
            self._reasons.put("connected again")


def matters(event: dict[str, Any]) -> bool:
    """Whether an event of the engine can change what is held, used or owned; `exec_create`, for one, cannot."""
    return event.get("Type") in _KINDS and event.get("Action") in _ACTIONS
