"""HTTP over a local socket, as much of it as commands need.

The standard library's client takes longer to import than all else that a command does before its first request.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import IO

SOCKET: Final = "/run/docker.sock"
"""Where every client looks for the engine, and finds the gateway."""
_CONNECT_S: Final = 120.0
_LINE_MAX: Final = 64 << 10
_PIECE: Final = 64 << 10
_EMPTY: Final = frozenset({204, 304})


class BrokenAnswerError(Exception):
    """The other side ended the connection, or does not speak HTTP."""


class Answer:
    """An answer; its content is read as it comes."""

    def __init__(self, stream: IO[bytes], method: str) -> None:
        """Read the head. Raises OSError and BrokenAnswerError."""
        self._stream = stream
        self.status, headers = self._head()
        while self.status // 100 == 1:
            # Continue, and the like, come before the answer.
            self.status, headers = self._head()
        self._chunked = headers.get(b"transfer-encoding") == b"chunked"
        length = headers.get(b"content-length", b"")
        self._length = int(length) if length.isdigit() else None
        if method == "HEAD" or self.status in _EMPTY:
            self._chunked, self._length = False, 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the content in pieces of any size. Raises OSError and BrokenAnswerError."""
        if not self._chunked:
            yield from self._read(self._length)
            return
        while size := self._chunk():
            yield from self._read(size)
            self._stream.readline(_LINE_MAX)

    def read(self) -> bytes:
        """Return the whole content. Raises OSError and BrokenAnswerError."""
        return b"".join(self.pieces())

    def lines(self) -> Iterator[bytes]:
        """Yield the content line by line. Raises OSError and BrokenAnswerError."""
        pending = b""
        for piece in self.pieces():
            *whole, pending = (pending + piece).split(b"\n")
            yield from whole
        if pending:
            yield pending

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        words = self._line().split(None, 2)
        if len(words) < 2 or not words[1].isdigit():  # noqa: PLR2004 - version and status
            raise BrokenAnswerError("its answer is not HTTP")
        headers = {}
        while (line := self._line()).strip():
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip().lower()
        return int(words[1]), headers

    def _line(self) -> bytes:
        line = self._stream.readline(_LINE_MAX)
        if not line.endswith(b"\n"):
            raise BrokenAnswerError("the connection was closed without an answer")
        return line

    def _chunk(self) -> int:
        line = self._stream.readline(_LINE_MAX).partition(b";")[0]
        try:
            return int(line, 16)
        except ValueError as error:
            raise BrokenAnswerError("the answer broke off") from error

    def _read(self, size: int | None) -> Iterator[bytes]:
        """Yield so many bytes, all that come if the number is None."""
        left = size
        while left is None or left > 0:
            # As soon as anything is there: lines of progress are not waited for together.
            piece = self._stream.read1(_PIECE if left is None else min(left, _PIECE))  # type: ignore[attr-defined] # a buffered one has it
            if not piece:
                if left is not None:
                    raise BrokenAnswerError("the answer broke off")
                return
            left = None if left is None else left - len(piece)
            yield piece


@contextmanager
def asked(
    path: str,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str],
    body: bytes | IO[bytes] | None = None,
    timeout: float | None,
) -> Iterator[Answer]:
    """Send one request over a connection of its own.

    Args:
        path: The socket.
        method: HTTP method.
        target: Path and query, quoted.
        headers: Besides Host and those that say where the content ends.
        body: The content; a file goes in chunks.
        timeout: Seconds for each piece of the answer; None for as long as it takes.

    Yields:
        The answer, of which the head is there.

    Raises:
        OSError: There is no connection, or it broke; TimeoutError: nobody answers in time.
        BrokenAnswerError: See there.
    """
    lines = [f"{method} {target} HTTP/1.1", "Host: docker", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if isinstance(body, bytes):
        lines.append(f"Content-Length: {len(body)}")
    elif body is not None:
        lines.append("Transfer-Encoding: chunked")
    elif method not in {"GET", "HEAD"}:
        lines.append("Content-Length: 0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_S if timeout is None else timeout)
        connection.connect(path)
        # Whoever refuses a long request answers before its end, and reads no more of it.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            for piece in _content(body):
                connection.sendall(piece)
        connection.settimeout(timeout)
        with connection.makefile("rb") as stream:
            yield Answer(stream, method)


def _content(body: bytes | IO[bytes] | None) -> Iterable[bytes]:
    if body is None or isinstance(body, bytes):
        yield body or b""
        return
    while piece := body.read(_PIECE):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
