"""Names: `<name>` for its owner, `<name>._.<uid>` in the engine, so that nobody's name is in anybody's way."""

from __future__ import annotations

import re
import secrets
from typing import Final

from ds01.engine.owners import SUFFIX, uid_in_name
from ds01.gateway.refusals import Refused

PREDEFINED_NETWORKS: Final = frozenset({"bridge", "none", "host", "default"})
ENGINE_ID: Final = re.compile(r"[0-9a-f]{64}")

_SHORT: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_SHORT_MAX: Final = 200
"""Characters: with the mark and a uid it stays below the 255 bytes of a file name, which a volume's is."""
_FIRST: Final = (
    "amber",
    "brisk",
    "calm",
    "clever",
    "deep",
    "eager",
    "fair",
    "gentle",
    "keen",
    "lively",
    "quiet",
    "swift",
)
_SECOND: Final = (
    "badger",
    "beech",
    "comet",
    "falcon",
    "fern",
    "harbor",
    "lynx",
    "maple",
    "otter",
    "pebble",
    "raven",
    "wren",
)


def to_engine(short: str, uid: int) -> str:
    """Return what the engine calls a person's object; their own full spelling stays as it is. Raises Refused."""
    if uid_in_name(short) == uid:
        short = short.rpartition(SUFFIX)[0]
    if not _SHORT.fullmatch(short) or len(short) > _SHORT_MAX or SUFFIX in short:
        raise Refused(
            400, f"{short[:80]!r}: not a name for an object of yours", "names.grammar",
            "a directory of the server is written with its whole path, from / on" if "/" in short else
            f"use letters, digits, _ . and -, at most {_SHORT_MAX}, and not {SUFFIX}",
        )  # fmt: skip
    return f"{short}{SUFFIX}{uid}"


def make_up() -> str:
    """A name for a container that was given none."""
    return f"{secrets.choice(_FIRST)}_{secrets.choice(_SECOND)}_{secrets.token_hex(3)}"
