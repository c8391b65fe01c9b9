"""Bodies of HTTP/1.1 messages: what belongs to one, taken from a buffer as it arrives."""

from __future__ import annotations

import re
from typing import Final, Protocol

from ds01.gateway.head import Framing
from ds01.gateway.refusals import Malformed

_SIZE_LINE_MAX: Final = 16
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}")
_LAST_CHUNK: Final = b"0\r\n\r\n"


class Decoder(Protocol):
    """Takes the bytes of one body off the front of a buffer and leaves what follows it."""

    done: bool
    """Whether the body is complete."""

    def feed(self, buffer: bytearray) -> bytes:
        """Take what is there; what is returned is content. Raises Malformed."""

    def end(self) -> None:
        """Nothing more will come. Raises Malformed if the body is not complete."""


def decoder(framing: Framing) -> Decoder:
    """The decoder for a framing."""
    if framing.chunked:
        return _Chunked()
    return _UntilEnd() if framing.length is None else _Length(framing.length)


def encode_chunk(data: bytes) -> bytes:
    """One chunk; `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk() -> bytes:
    """The end of a chunked body."""
    return _LAST_CHUNK


class _Length:
    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, buffer: bytearray) -> bytes:
        if len(buffer) <= self._left:
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(buffer[: self._left])
            del buffer[: self._left]
        self._left -= len(data)
        self.done = self._left == 0
        return data

    def end(self) -> None:
        if not self.done:
            raise Malformed(f"the body ended {self._left} bytes early")


class _UntilEnd:
    def __init__(self) -> None:
        self.done = False

    def feed(self, buffer: bytearray) -> bytes:
        data = bytes(buffer)
        buffer.clear()
        return data

    def end(self) -> None:
        self.done = True


class _Chunked:
    """Chunks by the plain form that all clients send: no extensions, no trailers, CRLF only."""

    def __init__(self) -> None:
        self.done = False
        self._left = 0
        """Bytes of the current chunk that are still to come, the CRLF behind it included."""

    def feed(self, buffer: bytearray) -> bytes:
        pieces: list[bytes] = []
        position = self._walk(buffer, pieces)
        del buffer[:position]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _walk(self, buffer: bytearray, pieces: list[bytes]) -> int:
        """Return how many bytes of the buffer are understood; put their content into `pieces`."""
        position = 0
        while not self.done:
            if self._left == 0:
                start = self._next_chunk(buffer, position)
                if start < 0:
                    break
                position = start
                continue
            taken = self._content(buffer, position, pieces)
            if taken == 0:
                break
            position += taken
        return position

    def _next_chunk(self, buffer: bytearray, position: int) -> int:
        """Read a size line; return where the content begins, or -1 while the line is not complete."""
        end = buffer.find(b"\r\n", position, position + _SIZE_LINE_MAX)
        if end < 0:
            if len(buffer) - position >= _SIZE_LINE_MAX or b"\n" in buffer[position:]:
                raise Malformed("the size of a chunk is not a plain hexadecimal number")
            return -1
        line = bytes(buffer[position:end])
        if not _SIZE.fullmatch(line):
            raise Malformed("the size of a chunk is not a plain hexadecimal number")
        size = int(line, 16)
        if size > 0:
            self._left = size + 2
            return end + 2
        closing = bytes(buffer[end + 2 : end + 4])
        if closing == b"\r\n":
            self.done = True
            return end + 4
        if not b"\r\n".startswith(closing):
            raise Malformed("trailers are not accepted")
        return -1

    def _content(self, buffer: bytearray, position: int, pieces: list[bytes]) -> int:
        """Take content of the current chunk; return the bytes used, 0 when more has to come."""
        available = len(buffer) - position
        content = min(self._left - 2, available)
        if content > 0:
            pieces.append(bytes(memoryview(buffer)[position : position + content]))
            self._left -= content
            if self._left > 2:  # noqa: PLR2004 - the CRLF
                return content
        if available - content < 2:  # noqa: PLR2004 - the CRLF
            return max(content, 0)
        at = position + content
        if buffer[at : at + 2] != b"\r\n":
            raise Malformed("a chunk does not end where its size says")
        self._left = 0
        return content + 2

    def end(self) -> None:
        if not self.done:
            raise Malformed("the body ended before its last chunk")
