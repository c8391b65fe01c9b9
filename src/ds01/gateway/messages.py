"""Streams of JSON messages, as pulls, pushes, loads and builds answer: read on their way, and made here."""

from __future__ import annotations

import json
from typing import Any, Final

from ds01.gateway import jsonbody
from ds01.gateway.refusals import Refused

_LINE_MAX: Final = 4 << 20


def message(**fields: Any) -> bytes:
    """One message of ours."""
    return jsonbody.write(fields) + b"\r\n"


def failure(text: str) -> bytes:
    """The message that ends a stream without success."""
    return message(errorDetail={"message": text}, error=text)


class Watcher:
    """Reads messages out of a stream, whatever its pieces are."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.failed = False
        """Whether a message said so."""
        self.identity: str | None = None
        """The id of the image that the last message about one named."""
        self.status = ""
        """The last status."""
        self._rest = b""

    def read(self, piece: bytes) -> list[dict[str, Any]]:
        """Return the messages that are complete now. Raises Refused when one has no end."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LINE_MAX:
            raise Refused(502, "the engine sent a message without an end", "engine.message")
        return [found for line in lines if line.strip() and (found := self._seen(line))]

    def _seen(self, line: bytes) -> dict[str, Any]:
        found = json.loads(line)
        if not isinstance(found, dict):
            return {}
        if found.get("error") or found.get("errorDetail"):
            self.failed = True
        aux = found.get("aux")
        if isinstance(aux, dict) and str(aux.get("ID", "")).startswith("sha256:"):
            self.identity = str(aux["ID"])
        self.status = str(found.get("status") or self.status)
        return found
