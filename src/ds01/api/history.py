"""What happened: events, one event, and why a container is as it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ds01 import events as log
from ds01.api import trail
from ds01.api.call import bad
from ds01.api.desk import short, uid_of
from ds01.api.errors import NOT_NOW, NOT_THERE, ApiError, error
from ds01.api.trail import Filter, Mine
from ds01.ledger import Ledger, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01.api.call import Call
    from ds01.api.desk import Desk

EVENTS_MOST: Final = 1_000
"""Events of one answer: 4 MB at most."""
_BEFORE: Final = timedelta(days=7)
"""How far back an answer looks that was given no time."""
_WHY_MOST: Final = 20
Tokens: TypeAlias = "Callable[[int], frozenset[str]]"
"""Finds the GPU claims of a uid."""
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(\d{1,5})([mhdw])")


def events(desk: Desk, call: Call) -> Any:
    """List the newest events that concern one person; administrators see all."""
    wanted = wanted_by(call, tokens_in(desk.ledger))
    most = call.number("limit", EVENTS_MOST) or EVENTS_MOST
    lines, more = _read(wanted, most)
    return {"events": [trail.parse(line) for line in lines], "more": more}


def event(desk: Desk, call: Call) -> Any:
    """Show one event by its id: the id of a refusal, for example."""
    name = call.names[0]
    lines, _ = _read(Filter(event_id=name, who=_whose(call, tokens_in(desk.ledger))), 1)
    if not lines:
        text = f"{name}: no event of that id concerns you"
        raise error(NOT_THERE, text, "api.event", "`ds01 events` shows those that do")
    return trail.parse(lines[0])


def why(desk: Desk, call: Call) -> Any:
    """Say what happened to a container and what it holds: why it was stopped, or does not start."""
    name, asker = call.names[0], call.asker
    since = moment("30d")
    lines, _ = _read(Filter(container=name, who=_whose(call, tokens_in(desk.ledger)), since=since), _WHY_MOST)
    gpu, life = _gpu(desk, call), _life(desk, call)
    if not lines and gpu is None and life is None:
        text = f"{name}: nothing is known of a container of yours with that name"
        raise error(NOT_THERE, text, "api.container", "`docker ps -a` lists yours")
    return {
        "container": short(name, asker.uid),
        "gpu": gpu,
        "lifecycle": life,
        "events": [trail.parse(line) for line in lines],
    }


def _life(desk: Desk, call: Call) -> dict[str, Any] | None:
    """Return how a container stands with the rules that end it, or why it was ended."""
    from ds01.api.lifecycle import engine_name  # noqa: PLC0415 - most questions need none of it
    from ds01.engine.api import EngineUnavailableError  # noqa: PLC0415 - as above
    from ds01.lifecycle.asked import NoSuchContainerError, why  # noqa: PLC0415 - as above

    try:
        name = engine_name(desk, call)
        with desk.ledger.read() as view:
            return why(view, desk.tables, desk.engine, name)
    except (ApiError, EngineUnavailableError, NoSuchContainerError):
        return None


def _gpu(desk: Desk, call: Call) -> dict[str, Any] | None:
    """Return what a container holds, if it has asked for GPUs."""
    from ds01.allocator.picture import device_names  # noqa: PLC0415 - most questions need no allocator
    from ds01.allocator.request import Request  # noqa: PLC0415 - as above
    from ds01.ledger import leases  # noqa: PLC0415 - as above

    asker = call.asker
    with desk.ledger.read() as view:
        try:
            token = desk.token(view, call.names[0], None if asker.admin else asker.uid)
        except ApiError:
            return None
        claim, held, names = leases.claim(view, token), leases.leases_of(view, token), device_names(view)
    return {
        "asked_for": str(Request.stored(claim.request) or "unknown"),
        "state": claim.state,
        "holds": [
            {"device": names.get(one.device, one.device), "lease": one.state, "until": one.hold_until or one.expires}
            for one in held
        ],
    }


def wanted_by(call: Call, tokens: Tokens) -> Filter:
    """Return the filter that a question for events means. Raises ApiError."""
    query = call.query
    kind = query.get("type")
    if kind is not None and kind not in log.EVENT_TYPES:
        raise bad("type", kind, f"write one of {', '.join(log.EVENT_TYPES)}")
    since = moment(query["since"]) if "since" in query else moment(f"{_BEFORE.days}d")
    until = moment(query["until"]) if "until" in query else None
    return Filter(since, until, kind, _whose(call, tokens), query.get("container"), query.get("gpu"))


def _whose(call: Call, tokens: Tokens) -> Mine | None:
    """Return whose events are shown; None is everybody's. Raises ApiError."""
    user, asker = call.subject(), call.asker
    if asker.admin and "user" not in call.query:
        return None
    if user is None:
        return Mine(asker.uid, asker.user, tokens(asker.uid))
    try:
        uid = uid_of(user)
    except ApiError:
        # Whoever has left is still in the log.
        return Mine(None, user)
    return Mine(uid, user, tokens(uid))


def tokens_in(ledger: Ledger) -> Tokens:
    """Return what finds the GPU claims of somebody. Without the ledger, none: the log is there all the same."""

    def tokens(uid: int) -> frozenset[str]:
        try:
            with ledger.read() as view:
                found = view.value("SELECT group_concat(token, ' ') FROM claims WHERE uid = ?", (uid,))
        except LedgerError:
            return frozenset()
        return frozenset(str(found).split() if found else ())

    return tokens


def tokens_of_host(uid: int) -> frozenset[str]:
    """Return the GPU claims of somebody from the ledger of this host, if it can be read."""
    with Ledger() as ledger:
        return tokens_in(ledger)(uid)


def _read(wanted: Filter, most: int) -> tuple[list[bytes], bool]:
    try:
        return trail.newest(wanted, most)
    except OSError as problem:
        text = f"the event log cannot be read: {problem.strerror}"
        raise error(NOT_NOW, text, "api.events", "tell the administrator") from problem


def moment(text: str) -> str:
    """Return a time like 2h or 7d ago, or an ISO time (UTC where it names no zone), as the log writes it.

    Raises:
        ApiError: It is none.
    """
    try:
        if ago := _AGO.fullmatch(text):
            found = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            found = datetime.fromisoformat(text)
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise bad("time", text, "write a time like 30m, 2h, 7d, 2026-01-31 or 2026-01-31T09:30") from problem
    return log.timestamp(found.timestamp())
