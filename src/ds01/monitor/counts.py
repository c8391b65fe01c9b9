"""How many events of each type the last 24 hours had, without reading the log anew each time."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ds01 import events

_BUCKET_S: Final = 600
_DAY_S: Final = 86_400
_READ_MAX: Final = 8 << 20
"""Bytes read at one look; the rest comes with the next ones."""


class EventCounts:
    """Follows the log, and over its rotation. What an earlier log holds is not counted."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        """Follow a log from its beginning; `clock` gives seconds since 1970."""
        self._path = path or events.EVENTS_FILE
        self._clock = clock
        self._inode: int | None = None
        self._offset = 0
        self._buckets: deque[tuple[int, Counter[tuple[str, str]]]] = deque()

    def counts(self) -> Counter[tuple[str, str]]:
        """Return how many there were of each type and rule."""
        self._read()
        now = int(self._clock()) // _BUCKET_S
        oldest = now - _DAY_S // _BUCKET_S
        # What a clock wrote that ran ahead is of now at the latest, or it would be counted until that time has come.
        self._buckets = deque((min(at, now), bucket) for at, bucket in self._buckets)
        while self._buckets and self._buckets[0][0] < oldest:
            self._buckets.popleft()
        return sum((bucket for _, bucket in self._buckets), Counter())

    def _read(self) -> None:
        try:
            with self._path.open("rb") as log:
                status = os.fstat(log.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                log.seek(self._offset)
                text = log.read(_READ_MAX)
        except OSError:
            return  # Nothing was recorded yet, or it is being rotated.
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            event: Any = json.loads(line)
            at = int(datetime.fromisoformat(event["ts"]).timestamp()) // _BUCKET_S
            kind = event["type"]
        except (ValueError, KeyError, TypeError):
            return  # A line that a full disk tore apart.
        if kind not in events.EVENT_TYPES or at < (self._clock() - _DAY_S) // _BUCKET_S:
            return
        # A clock that was set back writes earlier times: what counts is that it was written after the last one.
        if not self._buckets or self._buckets[-1][0] < at:
            self._buckets.append((at, Counter()))
        self._buckets[-1][1][kind, str(event.get("rule") or "")] += 1
