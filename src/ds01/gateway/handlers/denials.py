"""Why an endpoint is closed, and what to use instead."""

from __future__ import annotations

from typing import Final

from ds01.gateway.handlers.build import BUILDKIT, INSTEAD
from ds01.gateway.refusals import Refused

_ADMIN: Final = "ask the administrator"
_REASONS: Final[dict[str, tuple[int, str, str]]] = {
    "buildkit": (403, BUILDKIT, INSTEAD),
    "second_tunnel": (403, "attaching by websocket is not offered", "use docker attach"),
    "host_paths": (403, "checkpoints write to the host", "save your state from within the program"),
    "links": (403, "links are not removed one by one", "in your networks containers find each other by their names"),
    "swarm": (503, "This node is not a swarm manager. Swarm is not offered on this server", "use docker compose"),
    "plugins": (403, "plugins run with the rights of the host", _ADMIN),
    "no_plugin": (404, "there is no such plugin", ""),
    "debug": (404, "page not found", ""),
    "not_yet": (403, "this is not offered on this server", _ADMIN),
}


def denied(reason: str) -> Refused:
    """The refusal for a reason of the route table."""
    status, why, fix = _REASONS[reason]
    return Refused(status, why, f"api.{reason.replace('_', '-')}", fix)
