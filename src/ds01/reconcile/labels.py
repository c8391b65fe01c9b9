"""The label that says what was asked of GPUs: words, since no label of ours may hold a comma as JSON does.

`count=all`, `count=2 profile=2g.20gb`, `devices=0:1 devices=1:0`: the fields of the request as the ledger keeps it, for
people to read and to rebuild a claim from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

NAME: Final = "ds01.gpu.request"
TOKEN: Final = "ds01.gpu.token"  # noqa: S105 - the name of a label
_ALL: Final = "all"
_NUMBERS: Final = frozenset({"count", "memory_bytes", "runtime"})
_WORD: Final = re.compile(r"(count|memory_bytes|runtime|profile|full|devices)=([A-Za-z0-9.+:/-]{1,128})")
_WORDS_MAX: Final = 64


def write(request: Mapping[str, Any]) -> str:
    """Return the label for a request as the ledger keeps it."""
    words = []
    for name, value in request.items():
        if name == "devices":
            words += [f"devices={device}" for device in value]
        elif name == "count" and value is None:
            words.append(f"count={_ALL}")
        elif value:
            words.append(f"{name}={str(value).lower() if value is True else value}")
    return " ".join(words)


def read(label: str) -> str:
    """Return a request as the ledger keeps it, in JSON; `{}` for a label that was not written here.

    Anybody's image may carry the label, with anything in it.
    """
    request: dict[str, Any] = {}
    for word in label.split(" ")[: _WORDS_MAX + 1]:
        match = _WORD.fullmatch(word)
        if match is None:
            return "{}"
        name, value = match.groups()
        if name == "devices":
            request.setdefault(name, []).append(value)
        elif name in request or (name == "full" and value != "true"):
            return "{}"
        elif name == "full":
            request[name] = True
        elif name in _NUMBERS:
            if value != _ALL and not re.fullmatch("[0-9]{1,20}", value):
                return "{}"
            request[name] = None if value == _ALL else int(value)
        else:
            request[name] = value
    return json.dumps(request) if len(request.get("devices", ())) <= _WORDS_MAX else "{}"
