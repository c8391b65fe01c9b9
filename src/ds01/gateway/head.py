"""The head of an HTTP/1.1 message, by one strict grammar.

What Go's server, proxies and libraries read differently is refused, not guessed: bare line feeds, folded lines, two
framings, two hosts, absolute targets, other versions. So there is one reading of whatever gets past here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from ds01.gateway.refusals import Malformed

HEAD_MAX: Final = 64 << 10
"""Bytes of a head. X-Registry-Config of somebody with many registries is the largest real one, some kilobytes."""
HEADERS_MAX: Final = 100
_END: Final = b"\r\n\r\n"

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!$-;=?-\[\]_a-z|~]*) HTTP/1\.1")
# A target is printable ASCII without " # < > \ ^ ` { }, which no client sends and parsers disagree on.
_STATUS_LINE: Final = re.compile(r"HTTP/1\.1 ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_HEADER: Final = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?)[ \t]*"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._:%/\[\]-]*")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a body ends: after `length` bytes, with the last chunk, or (answers only) with the connection."""

    length: int | None = 0
    chunked: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is no body."""
        return self.length == 0 and not self.chunked


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A request without its body. Header names are in lower case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    framing: Framing

    def get(self, name: str) -> str | None:
        """The value of a header that may be there once. Raises Malformed if it is there twice."""
        return _single(self.headers, name)

    def has_token(self, name: str, token: str) -> bool:
        """Whether a list header such as Connection holds a token, in any letter case."""
        return _has_token(self.headers, name, token)


@dataclass(slots=True)
class ResponseHead:
    """An answer of the engine without its body. Header names keep their case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    _first: dict[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the headers, which are asked for many times."""
        self._first = {name.lower(): value for name, value in reversed(self.headers)}

    def get(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        return self._first.get(name)

    def framing(self, method: str) -> Framing:
        """Where the body of this answer to `method` ends."""
        if method == "HEAD" or self.status < 200 or self.status in {204, 304}:  # noqa: PLR2004 - RFC 9112, 6.3
            return Framing()
        if (self.get("transfer-encoding") or "").lower() == "chunked":
            return Framing(None, chunked=True)
        length = self.get("content-length")
        return Framing(int(length)) if length is not None and _LENGTH.fullmatch(length) else Framing(None)


def find_end(buffer: bytes | bytearray) -> int:
    """Return how many bytes the head has, or -1 while its end is not there. Raises Malformed when it is too long."""
    end = buffer.find(_END, 0, HEAD_MAX)
    if end >= 0:
        return end + len(_END)
    if len(buffer) >= HEAD_MAX:
        raise Malformed(f"the request head is longer than {HEAD_MAX} bytes", 431)
    return -1


def parse_request(head: bytes) -> RequestHead:
    """Read a whole request head, its empty line included. Raises Malformed."""
    lines = head[: -len(_END)].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise Malformed("the request line is not of the form METHOD /path HTTP/1.1")
    headers = _headers(lines[1:])
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise Malformed("expected exactly one plain Host header")
    if (expect := _single(headers, "expect")) is not None and expect.lower() != "100-continue":
        raise Malformed("Expect knows only 100-continue", 417)
    return RequestHead(match[1].decode(), match[2].decode(), headers, _framing(headers))


def parse_response(head: bytes) -> ResponseHead:
    """Read a whole head of an answer, its empty line included. Raises ValueError."""
    text = head[: -len(_END)].decode("latin-1")
    lines = text.split("\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise ValueError("the engine's answer does not begin like HTTP/1.1")
    between = len(lines) - 1
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise ValueError("the engine's answer has a header that is none")
        headers.append((name, value.strip(" \t")))
    if text.count("\r") != between or text.count("\n") != between:
        raise ValueError("the engine's answer has a header that is none")
    return ResponseHead(int(match[1]), tuple(headers))


def _headers(lines: list[bytes]) -> tuple[tuple[str, str], ...]:
    if len(lines) > HEADERS_MAX:
        raise Malformed(f"more than {HEADERS_MAX} headers", 431)
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise Malformed("a header is not of the form name: printable ASCII")
        headers.append((match[1].decode().lower(), match[2].decode()))
    return tuple(headers)


def _framing(headers: tuple[tuple[str, str], ...]) -> Framing:
    length = _single(headers, "content-length")
    coding = _single(headers, "transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != "chunked":
            raise Malformed("expected either Content-Length or Transfer-Encoding: chunked")
        return Framing(None, chunked=True)
    if length is None:
        return Framing()
    if not _LENGTH.fullmatch(length):
        raise Malformed("Content-Length is not a plain number")
    return Framing(int(length))


def _single(headers: tuple[tuple[str, str], ...], name: str) -> str | None:
    values = [value for key, value in headers if key == name]
    if len(values) > 1:
        raise Malformed(f"{name} is there {len(values)} times")
    return values[0] if values else None


def _has_token(headers: tuple[tuple[str, str], ...], name: str, token: str) -> bool:
    lists = (value for key, value in headers if key == name)
    return any(token == item.strip(" \t").lower() for value in lists for item in value.split(","))
