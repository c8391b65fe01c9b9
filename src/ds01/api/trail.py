"""Read the audit trail: past and to come, also over rotations, and only what concerns somebody."""

from __future__ import annotations

import gzip
import json
import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ds01 import events
from ds01.engine.owners import short

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE_MAX: Final = 64 << 10
"""Bytes: no line of ours is as long; what is longer is damage and is passed over."""
_PIECE: Final = 1 << 20
_TS: Final = slice(7, 31)
"""Where a line of ours has its time: behind {"ts":"."""


@dataclass(frozen=True)
class Mine:
    """What concerns one person: what they did, and what was done to them, their containers and their GPU claims."""

    uid: int | None
    user: str
    tokens: frozenset[str] = frozenset()

    def may_be_in(self, line: bytes) -> bool:
        """Tell whether it is worth reading a line: most are about others, and reading takes ten times as long."""
        uid = () if self.uid is None else (b'"uid":%d' % self.uid, b"._.%d" % self.uid)
        known = (*uid, json.dumps(self.user)[1:-1].encode("ascii"), b'"kind":"gpu"')
        return any(text in line for text in known)

    def __call__(self, event: dict[str, Any]) -> bool:
        """Tell whether an event does."""
        actor, subject, details = (part(event, name) for name in ("actor", "subject", "details"))
        if actor.get("user") == self.user or (self.uid is not None and actor.get("uid") == self.uid):
            return True
        if self.user in (subject.get("user"), details.get("user")):
            return True
        if self.uid is not None and details.get("uid") == self.uid:
            return True
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "user" and name == self.user:
            return True
        if kind == "gpu" and subject.get("id") in self.tokens:
            return True
        # Whoever is refused has typed the name themselves, and may have typed anybody's.
        typed = str(event.get("type")).startswith("gateway.")
        return not typed and self.uid is not None and str(name).endswith(f"._.{self.uid}")


@dataclass(frozen=True)
class Filter:
    """Which events are wanted; None is no condition. Times are as in the log."""

    since: str | None = None
    until: str | None = None
    kind: str | None = None
    who: Mine | None = None
    container: str | None = None
    gpu: str | None = None
    event_id: str | None = None

    def read(self, line: bytes) -> dict[str, Any] | None:
        """Return a line as an event, if it is wanted; None also for one that a full disk tore apart."""
        if self.who is not None and not self.who.may_be_in(line):
            return None
        event = parse(line)
        return event if event is not None and self(event) else None

    def __call__(self, event: dict[str, Any]) -> bool:
        """Tell whether an event is."""
        subject, at = part(event, "subject"), str(event.get("ts", ""))
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.kind is None or event.get("type") == self.kind)
            and (self.event_id is None or event.get("id") == self.event_id)
            and (self.gpu is None or self.gpu in str(subject.get("gpu", "")).split(","))
            and (self.container is None or self._names_container(subject))
            and (self.who is None or self.who(event))
        )

    def _names_container(self, subject: dict[str, Any]) -> bool:
        name = str(subject.get("name"))
        return self.container in (name, short(name), subject.get("id"))


def part(event: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a part of an event that should be an object, whatever is there."""
    value = event.get(name)
    return value if isinstance(value, dict) else {}


def parse(line: bytes) -> dict[str, Any] | None:
    """Return a line as an event; None for one that a full disk tore apart."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def newest(wanted: Filter, most: int) -> tuple[list[bytes], bool]:
    """Return the newest lines that are wanted, oldest first, and whether there are more. Raises OSError."""
    found: deque[bytes] = deque(maxlen=most + 1)
    for line in lines(wanted.since or ""):
        if line is None:
            break
        if wanted.read(line) is not None:
            found.append(line)
    return list(found)[-most:], len(found) > most


def lines(since: str | None) -> Iterator[bytes | None]:
    """Yield the lines of the log without an end, also from the file that follows a rotation.

    Args:
        since: From about this time on, in rotated files, too; None: only what is written from now on.

    Yields:
        A line, or None where there is no other one yet.

    Raises:
        OSError: The log cannot be read.
    """
    stream = _open()
    if stream is not None and since is None:
        stream.seek(0, os.SEEK_END)
    elif since is not None:
        # What is open now may have been rotated away meanwhile: it is read once, below.
        for path in _rotated(since, None if stream is None else os.fstat(stream.fileno()).st_ino):
            yield from _file(path, since)
        if stream is not None:
            _skip(stream, since)
    pending = b""
    while True:
        if stream is not None:
            replaced = _replaced(events.EVENTS_FILE, stream)
            while piece := stream.read(_PIECE):
                *whole, pending = (pending + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
                if len(pending) > _LINE_MAX:
                    pending = b""
            if not replaced:
                yield None
                continue
            stream.close()
        stream, pending = _open(), b""
        if stream is None:
            yield None


def _open() -> BinaryIO | None:
    try:
        return events.EVENTS_FILE.open("rb")
    except FileNotFoundError:
        # Whoever writes next makes it.
        return None


def _file(path: Path, since: str) -> Iterator[bytes]:
    # It may be rotated away, or compressed, since it was listed.
    with suppress(FileNotFoundError):
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                yield from _whole(packed)
        else:
            with path.open("rb") as stream:
                _skip(stream, since)
                yield from _whole(stream)


def _whole(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while line := stream.readline(_LINE_MAX):
        if line.endswith(b"\n"):
            yield line


def _rotated(since: str, current: int | None) -> list[Path]:
    """Return the earlier files of the log that may hold something from a time on, oldest first."""
    log = events.EVENTS_FILE
    named = sorted((path.stat().st_mtime, path) for path in log.parent.glob(f"{log.name}[.-]*"))
    return [path for changed, path in named if events.timestamp(changed) >= since and path.stat().st_ino != current]


def _replaced(path: Path, stream: BinaryIO) -> bool:
    try:
        return path.stat().st_ino != os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        # Whoever writes next makes the new one.
        return False


def _skip(stream: BinaryIO, since: str) -> None:
    """Go to the last line before a time: the lines are in order, so half of what is left is enough each time."""
    low, high = 0, os.fstat(stream.fileno()).st_size
    wanted = since.encode()
    while high - low > _LINE_MAX:
        middle = (low + high) // 2
        stream.seek(middle)
        stream.readline(_LINE_MAX)
        line = stream.readline(_LINE_MAX)
        if line and line[_TS] < wanted:
            low = middle
        else:
            high = middle
    stream.seek(low)
    if low:
        stream.readline(_LINE_MAX)
