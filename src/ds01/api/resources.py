"""The table of resources: everything below `/ds01/v1`, and which function answers it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ds01.api.call import Call
from ds01.api.errors import BAD, NOT_NOW, NOT_THERE, error
from ds01.cdi.spec import CdiError
from ds01.ledger.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ds01.api.call import Asker
    from ds01.api.desk import Desk

PREFIX: Final = ("ds01", "v1")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. `answer` is module and function below `ds01.api`; `query` and `body` what may be given to it."""

    method: str
    path: str
    answer: str
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


_EVENTS: Final = ("since", "until", "type", "user", "container", "gpu", "limit", "follow")
RESOURCES: Final = (
    Resource("GET", "me", "people.me"),
    Resource("GET", "limits", "people.limits", ("user",)),
    Resource("GET", "usage", "devices.usage", ("user",)),
    Resource("GET", "policy", "people.policy"),
    Resource("GET", "status", "devices.status"),
    Resource("GET", "activity", "activity.activity"),
    Resource("GET", "gpus", "devices.gpus"),
    Resource("POST", "gpus/why", "changes.why", body=("user", "request")),
    Resource("GET", "leases", "devices.leases", ("user",)),
    Resource("POST", "leases", "changes.allocate", body=("user", "request", "wait_s", "token", "dry_run")),
    Resource("DELETE", "leases/{name}", "changes.release", ("reason", "dry_run")),
    Resource("GET", "queue", "devices.queue"),
    Resource("DELETE", "queue/{number}", "changes.leave_queue"),
    Resource("GET", "reservations", "devices.reservations"),
    Resource(
        "POST", "reservations", "changes.reserve",
        body=("user", "group", "devices", "count", "starts", "ends", "reason", "dry_run"),
    ),
    Resource("DELETE", "reservations/{number}", "changes.cancel_reservation", ("reason", "dry_run")),
    Resource("GET", "containers/{name}/why", "history.why", ("user",)),
    Resource("POST", "containers/{name}/keep", "lifecycle.keep", body=("seconds",)),
    Resource("POST", "containers/{name}/extend", "lifecycle.extend", body=("seconds",)),
    Resource("GET", "notices", "lifecycle.notices", ("user", "unseen")),
    Resource("POST", "notices/seen", "lifecycle.seen", body=("up_to",)),
    Resource("GET", "exemptions", "lifecycle.exemptions", ("past",)),
    Resource("POST", "exemptions", "lifecycle.exempt", body=("user", "rule", "container", "seconds", "reason")),
    Resource("DELETE", "exemptions/{number}", "lifecycle.end_exemption"),
    Resource("GET", "grants", "grants.grants", ("past",)),
    Resource("POST", "grants", "grants.grant", body=("user", "seconds", "reason")),
    Resource("DELETE", "grants/{number}", "grants.revoke"),
    Resource("GET", "events", "history.events", _EVENTS),
    Resource("GET", "events/{id}", "history.event"),
    Resource("GET", "health", "health.health"),
)  # fmt: skip


def answer(
    desk: Desk,
    asker: Asker,
    method: str,
    path: Sequence[str],
    *,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Any:
    """Answer a question with JSON-able data.

    Args:
        desk: What to answer from.
        asker: Who asks.
        method: GET, POST or DELETE.
        path: What follows `/ds01/v1/`.
        query: The query.
        body: The body.

    Raises:
        ApiError: The answer is no; it says why and what to do.
    """
    resource, names = find(method, path)
    for given, known in ((query or {}, resource.query), (body or {}, resource.body)):
        if unknown := sorted(set(given) - set(known)):
            fix = f"use {', '.join(known)}" if known else "leave it out"
            raise error(BAD, f"{unknown[0]}: not known here", "api.value", fix)
    module, _, function = resource.answer.partition(".")
    try:
        found = getattr(importlib.import_module(f"ds01.api.{module}"), function)
        return found(desk, Call(asker, names, query or {}, body or {}))
    except (LedgerError, CdiError) as problem:
        text, _, fix = str(problem).rpartition(": ")
        raise error(NOT_NOW, text or str(problem), "gpu.ledger", fix) from problem


def find(method: str, path: Sequence[str]) -> tuple[Resource, tuple[str, ...]]:
    """Return a resource and what its placeholders stand for. Raises ApiError."""
    for resource in RESOURCES:
        pattern = resource.path.split("/")
        if resource.method == method and len(pattern) == len(path):
            pairs = list(zip(pattern, path, strict=True))
            if all(part == given or part.startswith("{") for part, given in pairs):
                return resource, tuple(given for part, given in pairs if part.startswith("{"))
    raise error(NOT_THERE, f"{method} {'/'.join(path)[:80]}: no such resource", "api.unknown", "docs/api.md lists all")
