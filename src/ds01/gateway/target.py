"""The target of a request: API version, path and query, each in one canonical reading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlencode

from ds01.gateway.refusals import Malformed, Refused

Version = tuple[int, int]

OLDEST: Final[Version] = (1, 24)
"""Below it, POST /containers/{id}/start takes a HostConfig: a way around everything that create refuses."""
NEWEST: Final[Version] = (1, 51)
"""The newest version whose fields and endpoints are in our tables."""

_VERSION: Final = re.compile(r"v([0-9]{1,3})\.([0-9]{1,3})")
_LIKE_VERSION: Final = re.compile(r"v[0-9]+(\.[0-9]+)*")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.:@+=,~-]+")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PARAMETERS_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `version` is None where the client named none."""

    version: Version | None
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The path without version, decoded."""
        return "/" + "/".join(self.segments)


def parse(target: str) -> Target:
    """Read a target. Raises Malformed, or Refused for an API version that is too old."""
    path, _, query = target.partition("?")
    if "?" in query:
        raise Malformed("the query has a second question mark: write it as %3F")
    segments = _path(path)
    version = None
    if _LIKE_VERSION.fullmatch(segments[0]):
        version, segments = _version(segments[0]), segments[1:]
    return Target(version, tuple(segments), _query(query))


def text(version: Version) -> str:
    """A version as the API writes it."""
    return f"{version[0]}.{version[1]}"


def build(version: Version | None, segments: Iterable[str], query: Iterable[tuple[str, str]] = ()) -> str:
    """Return our own target for the engine."""
    prefix = f"/v{text(version)}" if version else ""
    path = "".join("/" + quote(segment, safe="") for segment in segments)
    encoded = urlencode(list(query))
    return f"{prefix}{path}?{encoded}" if encoded else f"{prefix}{path}"


def select(
    query: Iterable[tuple[str, str]], scalars: Iterable[str], multiple: Iterable[str] = ()
) -> list[tuple[str, str]]:
    """Return the parameters an endpoint has; others the engine would ignore. Raises Malformed when one is ambiguous."""
    seen: Mapping[str, list[str]] = {name: [] for name in (*scalars, *multiple)}
    for name, value in query:
        if name in seen:
            seen[name].append(value)
    for name in scalars:
        if len(seen[name]) > 1:
            raise Malformed(f"the parameter {name} is there {len(seen[name])} times")
    return [(name, value) for name, values in seen.items() for value in values]


def _path(path: str) -> list[str]:
    decoded = _decode(path)
    segments = decoded[1:].split("/")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
            raise Malformed("the path has an empty segment, . or .., or characters that no name has")
    return segments


def _version(segment: str) -> Version:
    match = _VERSION.fullmatch(segment)
    if match is None or segment != f"v{int(match[1])}.{int(match[2])}":
        raise Malformed(f"{segment} is not an API version like v{text(NEWEST)}")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST:
        raise Refused(
            400,
            f"client version {text(version)} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version",
            "api.version",
        )
    return version


def _query(query: str) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    if ";" in query:
        raise Malformed("the query has a semicolon: separate parameters with &")
    pairs = query.split("&")
    if len(pairs) > _PARAMETERS_MAX:
        raise Malformed(f"more than {_PARAMETERS_MAX} parameters")
    parsed = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        name, value = _decode(name.replace("+", " ")), _decode_text(value.replace("+", " "))
        if not _PARAMETER.fullmatch(name):
            raise Malformed("the query has a parameter without a plain name")
        parsed.append((name, value))
    return tuple(parsed)


def _decode(encoded: str) -> str:
    decoded = _decode_text(encoded)
    if not decoded.isascii() or "%" in decoded:
        raise Malformed("the path or the name of a parameter is not plain ASCII once decoded")
    return decoded


def _decode_text(encoded: str) -> str:
    if "%" not in encoded and encoded.isascii() and "\0" not in encoded:
        return encoded
    if re.search(r"%(?![0-9A-Fa-f]{2})", encoded):
        raise Malformed("a % in the target is not followed by two hexadecimal digits")
    try:
        decoded = unquote_to_bytes(encoded).decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise Malformed("the target is not UTF-8 once decoded") from error
    if "\0" in decoded:
        raise Malformed("the target has a zero byte once decoded")
    return decoded
