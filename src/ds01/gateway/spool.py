"""Uploads on disk: what must be read whole before the engine may have it, and does not fit into memory."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from ds01.gateway.refusals import Malformed, Refused
from ds01.gateway.workers import Workers
from ds01.policy.units import format_size

DIRECTORY: Final = Path("/var/lib/ds01/spool")
AT_ONCE: Final = 4
"""Uploads of one person that may be kept at the same time."""
_PIECE: Final = 1 << 20
_READ_S: Final = 600.0
"""Seconds for one look at an upload: unpacking a large one takes minutes."""
_SPARE: Final = 1 << 30
"""Bytes that archives leave free on the disk: the engine and the ledger need some to go on."""

_T = TypeVar("_T")
Part = bytes | tuple[int, int]
"""Bytes, or the offset and length of some in a file."""


class Spool:
    """Keeps uploads in files without a name: whatever happens, nothing of them stays."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        """Take where they are kept; made when it is needed, for root only."""
        self._directory = directory
        self._workers = Workers("the disk for uploads", 4, _READ_S)
        self._kept: Counter[int] = Counter()

    @asynccontextmanager
    async def keep(self, uid: int, pieces: AsyncIterable[bytes], most: int | None) -> AsyncIterator[BinaryIO]:
        """Keep what arrives in a file, until the end of the block.

        Args:
            uid: Whose upload it is.
            pieces: What arrives.
            most: Bytes it may have; None is no such limit.

        Raises:
            Refused: It is too large, the disk is full, or this person sends too many at the same time.
        """
        if self._kept[uid] >= AT_ONCE:
            raise Refused(429, f"{AT_ONCE} uploads of yours are under way", "images.uploads", "send them one by one")
        self._kept[uid] += 1
        try:
            with await self.ask(self._open) as file:
                await self._fill(file, pieces, most)
                yield file
        finally:
            self._kept[uid] -= 1
            if not self._kept[uid]:
                del self._kept[uid]

    async def ask(self, question: Callable[[], _T]) -> _T:
        """Do something that reads or writes a file, away from the loop. Raises Refused, also for a full disk."""
        try:
            return await self._workers.ask(question)
        except OSError as error:
            raise _full(error.strerror or str(error)) from error

    async def read(self, file: BinaryIO, parts: Iterable[Part]) -> AsyncIterator[bytes]:
        """Yield parts of a file, and what stands between them."""
        for part in parts:
            if isinstance(part, bytes):
                yield part
                continue
            offset, left = part
            while left > 0:
                piece = await self.ask(partial(os.pread, file.fileno(), min(left, _PIECE), offset))
                if not piece:
                    raise Malformed("the upload ends early")
                offset, left = offset + len(piece), left - len(piece)
                yield piece

    def temporary(self) -> BinaryIO:
        """Return another such file, for what is unpacked. Raises OSError."""
        return self._open()

    def spare(self) -> None:
        """See that there is room. Raises Refused."""
        see_room(self._directory)

    def close(self) -> None:
        """Let go of the threads."""
        self._workers.close()

    def _open(self) -> BinaryIO:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.spare()
        return tempfile.TemporaryFile(dir=self._directory)

    async def _fill(self, file: BinaryIO, pieces: AsyncIterable[bytes], most: int | None) -> None:
        waiting, size = bytearray(), 0

        def write() -> None:
            self.spare()
            file.write(waiting)
            waiting.clear()

        async for data in pieces:
            waiting += data
            size += len(data)
            if most is not None and size > most:
                raise Malformed(f"the upload has more than {format_size(most)}, the most that images.max_upload allows",
                                413)  # fmt: skip
            if len(waiting) >= _PIECE:
                await self.ask(write)
        await self.ask(write)
        await self.ask(file.flush)


def see_room(directory: Path, size: int = 0) -> None:
    """See that so many bytes more leave enough free on the disk of a directory. Raises Refused or OSError."""
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize - size < _SPARE:
        raise _full(f"less than {format_size(_SPARE)} would be free")


def _full(reason: str) -> Refused:
    return Refused(507, f"archives cannot be kept now: {reason}", "images.disk", "tell the administrator")
