"""The engine as people's commands use it: over the socket that every Docker client uses, so by the same rules.

These commands decide nothing: who may do what is the gateway's to say. A small client instead of the Docker SDK, which
takes longer to import than a command may take to start.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from ds01.api.errors import exit_of
from ds01.cli import wire
from ds01.cli.output import FAILED, NOT_FOUND, REFUSED
from ds01.cli.wire import SOCKET
from ds01.engine.origin import AGENT
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import IO

_WAYS: Final = {"project-launch": "wizard", "container-deploy": "orchestration", "mlc-create": "mlc"}
"""What the gateway writes on containers (`ds01.engine.origin`); any other command is one step by itself."""
ANSWER_S: Final = 120.0
"""Seconds for one answer: an engine under load takes its time to remove a large container."""
_UNREACHED: Final = re.compile(
    r'"https?://([^/"]+)[^"]*": (?:dial |.*(?:[Tt]imeout|deadline exceeded|connection re|unreachable))', re.DOTALL
)
"""How the engine says that the network did not bring it to a registry."""
_NOT_FOUND: Final = 404
_ERRORS: Final = 400
"""HTTP's numbers from here on mean no."""
_CODES: Final = {403: REFUSED, 404: NOT_FOUND}


class EngineError(ReportedError):
    """The engine, or the gateway before it, says no. `exit_code` is what the command ends with."""

    def __init__(self, message: str, status: int = 0, kind: str = "", *, possible: bool = True) -> None:
        """Take the reason, the HTTP status (0 when nobody answered), and of a refusal of GPUs its kind and hope."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.exit_code = exit_of(kind, possible=possible) if kind else _CODES.get(status, FAILED)


class Engine:
    """One caller's view of the engine: their containers and images, under the names they gave."""

    def __init__(self) -> None:
        """Find the socket; nothing is opened yet. Raises EngineError."""
        place = os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
        if not place.startswith("unix://"):
            raise EngineError(f"DOCKER_HOST: {place}: an address like unix://{SOCKET}: unset it for this server's own")
        self.path = place.removeprefix("unix://")

    def ask(
        self,
        method: str,
        *segments: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        timeout: float = ANSWER_S,
    ) -> Any:
        """Send one request and return what the answer's JSON says, None for an answer without any.

        Args:
            method: HTTP method.
            segments: The path; each part is quoted.
            query: Parameters.
            body: What is sent: bytes as they are, anything else as JSON.
            timeout: Seconds to wait for an answer.

        Raises:
            EngineError: The answer is no, or there is none.
        """
        content = self._send(method, segments, query, body, timeout)
        try:
            return json.loads(content) if content.strip() else None
        except ValueError as error:
            raise EngineError(f"{self.path}: an answer that is not JSON: {error}") from error

    def fetch(self, *segments: str, query: Mapping[str, str]) -> bytes:
        """Return what a GET answers, as it is. Raises EngineError."""
        return self._send("GET", segments, query, None, ANSWER_S)

    def exists(self, *segments: str, query: Mapping[str, str] | None = None) -> bool:
        """Whether there is such a thing. Raises EngineError when that cannot be said."""
        try:
            self._send("HEAD" if query else "GET", segments, query, None, ANSWER_S)
        except EngineError as error:
            if error.status != _NOT_FOUND:
                raise
            return False
        return True

    def stream(
        self, *segments: str, query: Mapping[str, str], body: IO[bytes] | None = None, kind: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Yield the lines of an answer that comes bit by bit, until its end. Raises EngineError."""
        headers = {"User-Agent": agent()} | ({"Content-Type": kind} if kind else {})
        try:
            # Between two steps of a build hours may pass.
            with wire.asked(
                self.path, "POST", _target(segments, query), headers=headers, body=body, timeout=None
            ) as answer:
                if answer.status >= _ERRORS:
                    raise _refusal(answer.status, answer.read())
                for line in answer.lines():
                    if line.strip():
                        yield json.loads(line)
        except (OSError, wire.BrokenAnswerError, ValueError) as error:
            raise self._silent(error) from error

    def _send(
        self, method: str, segments: Iterable[str], query: Mapping[str, str] | None, body: Any, timeout: float
    ) -> bytes:
        headers = {"User-Agent": agent()}
        if body is not None:
            plain = isinstance(body, bytes)
            headers["Content-Type"] = "application/x-tar" if plain else "application/json"
            body = body if plain else json.dumps(body).encode()
        try:
            with wire.asked(
                self.path, method, _target(segments, query), headers=headers, body=body, timeout=timeout
            ) as answer:
                status, content = answer.status, answer.read()
        except (OSError, wire.BrokenAnswerError) as error:
            raise self._silent(error) from error
        if status >= _ERRORS:
            raise _refusal(status, content)
        return content

    def _silent(self, error: Exception) -> EngineError:
        reason = "no answer in time" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        return EngineError(f"{self.path}: the engine does not answer ({reason}): try again in a minute, then tell the "
                           "administrator")  # fmt: skip


def agent() -> str:
    """What a command calls itself: the gateway notes it on the containers that it makes."""
    typed = "-".join([sys.argv[0].rpartition("/")[2], *sys.argv[1:3]]).removeprefix("ds01-")
    return f"{AGENT}/{next((way for name, way in _WAYS.items() if f'{typed}-'.startswith(f'{name}-')), 'atomic')}"


def plainly(text: str) -> str:
    """Return what the engine says, in words for people where it tells of the network."""
    if (found := _UNREACHED.search(text)) is None:
        return text
    cause = text.strip().rpartition(": ")[2]
    return f"{found[1]}: this server does not reach it ({cause}): try again, and tell the administrator if it stays so"


def _target(segments: Iterable[str], query: Mapping[str, str] | None) -> str:
    # A slash in the name of an image is one of the path.
    path = "".join(f"/{quote(part, safe='/:@')}" for part in segments)
    return f"{path}?{urlencode(query)}" if query else path


def _refusal(status: int, content: bytes) -> EngineError:
    try:
        answer = json.loads(content)
        possible = answer.get("possible") is not False
        return EngineError(plainly(str(answer["message"])), status, str(answer.get("kind", "")), possible=possible)
    except (ValueError, KeyError, TypeError):
        said = content.decode(errors="replace").strip()
        return EngineError(said or f"the engine answered {status}", status)
