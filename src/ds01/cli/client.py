"""A client of `/ds01/v1`: one request over the gateway's socket.

Light, because commands start with it.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

from ds01.api.errors import BAD, ApiError, error
from ds01.cli import wire
from ds01.cli.wire import SOCKET
from ds01.problems import ReportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ANSWER_S: Final = 20.0
_OK: Final = 200


class GatewayGoneError(ReportedError):
    """Nobody answers for DS01."""


def socket_path() -> str:
    """Return where the gateway listens; DS01_SOCKET says otherwise in a test or a container."""
    return os.environ.get("DS01_SOCKET") or SOCKET


def ask(method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the gateway.

    Raises:
        ApiError: The answer is no.
        GatewayGoneError: There is none.
    """
    with _asked(method, path, query, body, _ANSWER_S) as answer:
        status, content = answer.status, answer.read()
    return _value(status, content)


def follow_events(query: Mapping[str, str]) -> Iterator[bytes]:
    """Yield events as they happen, without an end. Raises as `ask`."""
    with _asked("GET", "events", {**query, "follow": "1"}, None, None) as answer:
        if answer.status != _OK:
            _value(answer.status, answer.read())
            return
        yield from (line + b"\n" for line in answer.lines())


@contextmanager
def _asked(
    method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, timeout: float | None
) -> Iterator[wire.Answer]:
    target = "/ds01/v1/" + "/".join(quote(part, safe="") for part in path.split("/"))
    if query:
        target += f"?{urlencode(query)}"
    content = json.dumps(body).encode() if body is not None else b""
    try:
        with wire.asked(socket_path(), method, target, headers={}, body=content, timeout=timeout) as answer:
            yield answer
    except wire.BrokenAnswerError as problem:
        raise _gone(str(problem)) from problem
    except TimeoutError as problem:
        raise _gone("no answer in time") from problem
    except OSError as problem:
        raise _gone(problem.strerror or "no answer") from problem


def _value(status: int, content: bytes) -> Any:
    try:
        data = json.loads(content)
    except ValueError as problem:
        raise _gone("its answer is not JSON") from problem
    if status // 100 == 2:  # noqa: PLR2004 - the class of success
        return data
    if not isinstance(data, dict) or "rule" not in data:
        message = data.get("message") if isinstance(data, dict) else None
        if status == BAD and message is not None:
            # Not even a question of the API, such as one with a name that nothing can have.
            raise error(BAD, message, "api.value")
        # The engine itself, or an earlier gateway.
        raise _gone(f"it answered {status} {message or ''}".rstrip())
    raise ApiError(status, data)


def _gone(why: str) -> GatewayGoneError:
    return GatewayGoneError(
        f"{socket_path()}: the DS01 gateway does not answer ({why}): "
        "try again in a minute, then tell the administrator (`systemctl status ds01-gateway`)"
    )
