"""What handlers share."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, jsonbody, names, references
from ds01.gateway.exchange import Exchange
from ds01.gateway.fields import Kind
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused

LABEL_PREFIX: Final = "ds01."
LABEL_UID: Final = "ds01.uid"
REGISTRY_HEADERS: Final = ("x-registry-auth", "x-registry-config")
NEIGHBOURS: Final = 64
"""Networks of one container, and containers that it is linked to in each: all are looked for among everybody's."""
Filters = dict[str, list[str]]


async def described(exchange: Exchange, engine_id: str) -> dict[str, Any]:
    """The engine's description of a container, empty if it is gone this very moment. Raises Refused."""
    answer = await exchange.engine.get("containers", engine_id, "json")
    return answer.json() if answer.ok else {}


def segments(exchange: Exchange, *real: str) -> list[str]:
    """The path of this endpoint with what its placeholders really stand for."""
    values = iter(real)
    found: list[str] = []
    for part in exchange.route.pattern:
        found.extend(next(values).split("/") if part.startswith("{") else [part])
    return found


def shown(exchange: Exchange, engine_id: str, typed: str) -> tuple[tuple[str, str], ...]:
    """How the engine's error texts read for the owner."""
    return ((engine_id, typed), (f"{owners.SUFFIX}{exchange.caller.uid}", ""))


def to_owner(exchange: Exchange, document: Any, table: Any) -> Any:
    """Show a document with the owner's names."""
    uid = exchange.caller.uid
    if isinstance(document, dict):
        fields.rename(
            document, table,
            lambda kind, name: references.to_owner(name, uid) if kind == "image" else owners.short(name, uid),
        )  # fmt: skip
    return document


def registry_headers(exchange: Exchange, *wanted: str) -> list[tuple[str, str]]:
    """The client's passwords for registries, untouched: they are for the registry, not for us."""
    found = ((name, exchange.head.get(name)) for name in wanted)
    return [(name.title(), value) for name, value in found if value is not None]


def read_filters(exchange: Exchange, *known: str) -> Filters:
    """Read the filters of a list: names to values, in either of the two forms the API has had. Raises Refused."""
    text = exchange.parameter("filters")
    if not text:
        return {}
    given = jsonbody.read(text.encode())
    if not isinstance(given, dict):
        raise _bad("expected an object")
    found: Filters = {}
    for name, values in given.items():
        if name not in known:
            raise Refused(400, f"invalid filter {name[:64]!r}", "api.filters")
        found[name] = _values(name, values)
    return found


def _values(name: str, given: Any) -> list[str]:
    if isinstance(given, dict) and all(isinstance(value, bool) for value in given.values()):
        return [value for value, wanted in given.items() if wanted]
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        raise _bad(f"filter {name!r} is not a list of texts")
    return given


def with_filters(query: list[tuple[str, str]], filters: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """Return a query with these filters in place of the client's."""
    kept = [(name, value) for name, value in query if name != "filters"]
    return [*kept, ("filters", jsonbody.write(filters).decode())] if filters else kept


def own_label(exchange: Exchange) -> str:
    """The label that everything somebody makes carries; clients cannot set it."""
    return f"{LABEL_UID}={exchange.caller.uid}"


def labels(exchange: Exchange, given: Mapping[str, str] | None) -> dict[str, str]:
    """The labels of a new object: the client's without any of ours, then ours."""
    person = exchange.caller.person
    return without_ours(given) | {
        "ds01.managed": "true",
        LABEL_UID: str(person.uid),
        "ds01.user": person.name.replace(",", "_"),
    }


def without_ours(given: Mapping[str, str] | None) -> dict[str, str]:
    """Labels of a client, without those that only we give."""
    return {name: value for name, value in (given or {}).items() if not name.lower().startswith(LABEL_PREFIX)}


def working_dir(value: str) -> str:
    """See that a directory to work in is not one of the runtime's own descriptors. Raises Refused."""
    if re.match(r"/proc(?:/|$)", posixpath.normpath(f"/{value.lstrip('/')}")):
        raise Refused(
            403, f"WorkingDir: {value[:80]}: a way out of containers has led through there", "create.WorkingDir",
            "work in another directory, and cd there from it",
        )  # fmt: skip
    return value


def name_filter(pattern: str, uid: int) -> str:
    """A name filter for the engine's names: an end that was meant to be the end of the short name stays that."""
    ends = pattern.endswith("$") and not pattern.endswith("\\$")
    return f"{pattern[:-1]}{owners.SUFFIX.replace('.', chr(92) + '.')}{uid}$" if ends else pattern


def renamer(exchange: Exchange, ownership: Ownership) -> fields.Rename:
    """The direction from a request to the engine."""
    uid = exchange.caller.uid

    def change(kind: Kind, name: str) -> str:
        if kind == "image" or (kind == "network" and name in names.PREDEFINED_NETWORKS):
            return name
        if names.ENGINE_ID.fullmatch(name) and (kind != "volume" or ownership.owner("volume", name, "") == uid):
            # Ids are resolved later, among the caller's. For a volume nobody asks again: one without a name of
            # somebody else's would be mounted by its id, which everybody finds in /proc/<pid>/mountinfo.
            return name
        return names.to_engine(name, uid)

    return change


class Lines:
    """Changes a stream of JSON lines, one by one; a line that became nothing is left out."""

    _LONGEST: Final = 1 << 20

    def __init__(self, change: Callable[[Any], Any]) -> None:
        """Take what a line becomes."""
        self._change = change
        self._rest = b""

    def __call__(self, data: bytes) -> bytes:
        """Return what the client sees of these bytes. Raises Refused."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._LONGEST:
            raise Refused(502, "the engine sent a line without an end", "engine.line")
        changed = (self._change(json.loads(line)) for line in lines if line.strip())
        return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in changed if row is not None)


def _bad(reason: str) -> Refused:
    return Refused(400, f"filters: {reason}", "api.filters")
