"""The end of containers: what owners may do about it, what they are told, and who is exempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ds01 import events
from ds01.api.call import bad, check_length
from ds01.api.changes import number_of
from ds01.api.desk import account_of, short, uid_of
from ds01.api.errors import FORBIDDEN, NOT_NOW, NOT_THERE, error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01.api.call import Call
    from ds01.api.desk import Desk
    from ds01.ledger.permits import Permit
    from ds01.lifecycle.asked import Granted

_KEEP_S: Final = 2 * 3600
"""For how long a container is kept, or runs longer, if no time is named."""
_LONGEST_S: Final = 10 * 366 * 86_400
_RULES: Final = ("idle_timeout", "max_runtime", "container_hold_after_stop")
_REASON_MAX: Final = 500


def keep(desk: Desk, call: Call) -> Any:
    """Let an idle container not be stopped for a time."""
    from ds01.lifecycle import asked  # noqa: PLC0415 - most questions need none of it

    got = _asked(desk, call, asked.keep)
    return {"container": short(got.name, call.asker.uid), "until": got.value, "left_s": _seconds(got.left)}


def extend(desk: Desk, call: Call) -> Any:
    """Let a container run longer in all."""
    from ds01.lifecycle import asked  # noqa: PLC0415 - as above

    got = _asked(desk, call, asked.extend)
    return {"container": short(got.name, call.asker.uid), "by_s": got.value // 1000, "left_s": _seconds(got.left)}


def _asked(desk: Desk, call: Call, do: Callable[..., Granted]) -> Granted:
    from ds01.engine.api import EngineUnavailableError  # noqa: PLC0415 - as above
    from ds01.lifecycle.asked import NoSuchContainerError, NotGrantedError  # noqa: PLC0415 - as above

    length = _length(call)
    name = engine_name(desk, call)
    try:
        return do(desk.ledger, desk.tables, desk.engine, name, length * 1000, actor=_actor(call))
    except NotGrantedError as problem:
        text, _, fix = str(problem).rpartition(": ")
        raise error(FORBIDDEN, text, problem.rule, fix) from problem
    except NoSuchContainerError as problem:
        raise _no_container(call.names[0]) from problem
    except EngineUnavailableError as problem:
        raise error(NOT_NOW, str(problem), "engine", "tell the administrator") from problem


def engine_name(desk: Desk, call: Call) -> str:
    """Return the id of a container of whoever asks; administrators name any. Raises ApiError."""
    from ds01.ledger import objects  # noqa: PLC0415 - as above

    asker, given = call.asker, call.names[0]
    with desk.ledger.read() as view:
        for name in (f"{given}._.{asker.uid}", given):
            found = objects.named(view, "container", name) or objects.find(view, "container", name)
            if found is not None and (asker.admin or found.uid == asker.uid):
                return found.engine_id
    raise _no_container(given)


def notices(desk: Desk, call: Call) -> Any:
    """List what somebody is told: warnings, and what was stopped or removed and why."""
    from ds01.ledger import lifecycle  # noqa: PLC0415 - as above

    user = call.subject()
    uid = call.asker.uid if user is None else uid_of(user)
    with desk.ledger.read() as view:
        found = lifecycle.notices(view, uid, unseen=call.flag("unseen"))
    return [
        {"id": one.id, "at": one.at, "kind": one.kind, "subject": short(one.subject, uid), "text": one.text,
         "shown": one.shown}
        for one in found
    ]  # fmt: skip


def seen(desk: Desk, call: Call) -> Any:
    """Note that whoever asks has seen the notices up to a number."""
    from ds01.ledger import lifecycle  # noqa: PLC0415 - as above

    up_to = call.value("up_to", int, default=0)
    if not 0 < up_to < 2**63:
        raise bad("up_to", up_to, "write the id of the last notice that was shown")
    with desk.ledger.transaction() as tx:
        lifecycle.showed(tx, call.asker.uid, up_to)
    return {"up_to": up_to}


def exemptions(desk: Desk, call: Call) -> Any:
    """List the exemptions that were granted by command; administrators see all."""
    from ds01.ledger import permits  # noqa: PLC0415 - as above

    with desk.ledger.read() as view:
        found = permits.listing(view, "exemptions", past=call.flag("past"))
    return [_permit(one) for one in found if call.asker.admin or one.uid == call.asker.uid]


def exempt(desk: Desk, call: Call) -> Any:
    """Let a lifecycle rule not count for somebody, for a time; for administrators."""
    from ds01.ledger import permits  # noqa: PLC0415 - as above

    _admins_only(call)
    user, rule = call.value("user", str), call.value("rule", str)
    reason, seconds = call.value("reason", str), call.value("seconds", int)
    if user is None:
        raise bad("user", user, "name the person")
    if rule not in _RULES:
        raise bad("rule", rule, f"write one of {', '.join(_RULES)}")
    if not reason or not reason.strip() or len(reason) > _REASON_MAX:
        raise bad("reason", reason, f"say why in 1 to {_REASON_MAX} characters")
    length = None if seconds is None else _length(call)
    uid, user = account_of(user)
    name = call.value("container", str)
    container = None if name is None else _container_of(desk, uid, name)
    with desk.ledger.transaction() as tx:
        made = permits.add(
            tx, "exemptions", uid=uid, user=user, kind=rule, subject=container, reason=reason,
            approved_by=call.asker.user, expires=None if length is None else tx.now + length * 1000,
        )  # fmt: skip
    events.record(
        "grant.add", actor=_actor(call), subject={"kind": "exemption", "name": user, "id": str(made.id)},
        decision="allowed", rule=rule, reason=reason, details={"user": user, "until": made.expires},
    )  # fmt: skip
    return _permit(made)


def end_exemption(desk: Desk, call: Call) -> Any:
    """End an exemption before its time; for administrators."""
    from ds01.ledger import permits  # noqa: PLC0415 - as above

    _admins_only(call)
    number = number_of(call)
    with desk.ledger.transaction() as tx:
        found = permits.find(tx, "exemptions", number)
        done = permits.end(tx, "exemptions", number)
    if found is None or not done:
        text = f"{number}: no exemption of that number counts now"
        raise error(NOT_THERE, text, "exemptions", "`ds01 exemption list` shows them; those of the policy end there")
    events.record(
        "grant.expire", actor=_actor(call), subject={"kind": "exemption", "name": found.user, "id": str(number)},
        decision="changed", rule=found.kind, reason=f"ended by {call.asker.user}", details={"user": found.user},
    )  # fmt: skip
    return {"ended": number}


def _container_of(desk: Desk, uid: int, name: str) -> str:
    from ds01.ledger import objects  # noqa: PLC0415 - as above

    with desk.ledger.read() as view:
        for engine in (f"{name}._.{uid}", name):
            found = objects.named(view, "container", engine)
            if found is not None and found.uid == uid:
                return found.engine_id
    raise _no_container(name)


def _permit(one: Permit) -> dict[str, Any]:
    return {
        "id": one.id, "user": one.user, "rule": one.kind, "container": one.subject, "created": one.created,
        "expires": one.expires, "ended": one.ended, "reason": one.reason, "approved_by": one.approved_by,
    }  # fmt: skip


def _admins_only(call: Call) -> None:
    if not call.asker.admin:
        raise error(FORBIDDEN, "only administrators exempt people", "exemptions", "ask an administrator")


def _length(call: Call) -> int:
    length: int = call.value("seconds", int, default=_KEEP_S)
    check_length(length, _LONGEST_S)
    return length


def _actor(call: Call) -> dict[str, Any]:
    return {"uid": call.asker.uid, "user": call.asker.user, "via": call.asker.via}


def _no_container(name: str) -> Exception:
    return error(NOT_THERE, f"{name}: you have no such container", "api.container", "`docker ps -a` lists yours")


def _seconds(milliseconds: int | None) -> int | None:
    return None if milliseconds is None else milliseconds // 1000
