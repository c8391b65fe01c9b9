"""JSON out of a request, read so that the engine's own reader cannot see anything else in it.

Go matches names in any letter case and merges what is there twice. So a name that is there twice is refused here, and
`shapes` refuses every name that is not spelled exactly as the API spells it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final, NoReturn

from ds01.gateway.refusals import Malformed, Refused

BODY_MAX: Final = 4 << 20
"""Bytes of a JSON body. A real create has about 2,000."""
_DEPTH_MAX: Final = 64
_DIGITS_MAX: Final = 20


class BadJson(Refused):
    """JSON that is not accepted."""

    def __init__(self, reason: str) -> None:
        """Take what is wrong with it."""
        super().__init__(400, f"invalid JSON in the request: {reason}", "http.json")


def read(data: bytes) -> Any:
    """Return the one JSON value in a body; nothing at all reads as an empty object. Raises Refused."""
    if len(data) > BODY_MAX:
        raise Malformed(f"the body is longer than {BODY_MAX} bytes", 413)
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise BadJson("it is not UTF-8") from error
    if not text.strip(" \t\r\n"):
        return {}
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_no_float, parse_constant=_no_float, parse_int=_integer
        )
    except RecursionError as error:
        raise BadJson("it is nested too deeply") from error
    except ValueError as error:
        raise BadJson(str(error)) from error
    _check(value)
    return value


def write(value: Any) -> bytes:
    """Return our own JSON for the engine."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # A body may have hundreds of thousands: no look at all others for each.
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise BadJson(f"{twice[:64]!r} is there twice")
    return found


def _no_float(text: str) -> NoReturn:
    raise BadJson(f"{text[:32]} is not a whole number")


def _integer(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise BadJson("a number has too many digits")
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise BadJson(f"{text} does not fit into 64 bits")
    return number


def _check(value: Any) -> None:
    """Refuse what Go would read differently: depth, and halves of surrogate pairs."""
    level = [value]
    for _ in range(_DEPTH_MAX):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str) and not item.isascii():
                _check_text(item)
        if not below:
            return
        level = below
    raise BadJson(f"it is nested more than {_DEPTH_MAX} levels deep")


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadJson("a text has half of a surrogate pair") from error
