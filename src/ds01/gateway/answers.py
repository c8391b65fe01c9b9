"""Heads of answers: what of the engine's the client sees, and when the engine has left HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from ds01.gateway import target
from ds01.gateway.head import ResponseHead

_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"}
)
_REPLACED: Final = frozenset({"api-version", "builder-version", "location"})
_OURS: Final = _HOP_BY_HOP | _REPLACED
_RAW: Final = "application/vnd.docker.raw-stream"
_RAW_TYPES: Final = frozenset({_RAW, "application/vnd.docker.multiplexed-stream"})


def is_raw(head: ResponseHead) -> bool:
    """Whether the engine itself has left HTTP on this connection."""
    if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
        return True
    kind = (head.get("content-type") or "").partition(";")[0].strip().lower()
    unframed = head.get("content-length") is None and head.get("transfer-encoding") is None
    return head.status == HTTPStatus.OK and kind in _RAW_TYPES and unframed


def is_last(head: ResponseHead) -> bool:
    """Whether the engine ends the connection behind this answer."""
    return (head.get("connection") or "").lower() == "close"


def passed(head: ResponseHead) -> list[tuple[str, str]]:
    """The headers that the client gets: no hop-by-hop ones, and nothing newer than our tables."""
    kept = [(name, value) for name, value in head.headers if name.lower() not in _OURS]
    if (version := head.get("api-version")) is not None:
        kept.append(("Api-Version", _capped(version)))
    if head.get("builder-version") is not None:
        # Clients that read 2 here build by BuildKit, past every slice.
        kept.append(("Builder-Version", "1"))
    return kept


def not_upgraded(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Headers of an upgrade as the engine sends them with a raw stream to who asked for none: of one type for all."""
    return [(name, _RAW if name.lower() == "content-type" else value) for name, value in headers]


def _capped(version: str) -> str:
    major, _, minor = version.partition(".")
    if not major.isdigit() or not minor.isdigit():
        return target.text(target.OLDEST)
    return target.text(min(target.NEWEST, (int(major), int(minor))))


def lines_of(status: int, headers: Iterable[tuple[str, str]]) -> list[str]:
    """The lines of a head, without those that frame the body."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]


def encode(lines: list[str]) -> bytes:
    """A head as it is sent."""
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
