"""Grants of bare metal: who may use the GPUs of the host itself, until when, and who agreed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Final

from ds01 import events
from ds01.api.call import bad, check_length
from ds01.api.changes import number_of
from ds01.api.desk import account_of
from ds01.api.errors import FORBIDDEN, NOT_NOW, NOT_THERE, error

if TYPE_CHECKING:
    from ds01.api.call import Call
    from ds01.api.desk import Desk
    from ds01.ledger import View
    from ds01.ledger.permits import Permit

_LONGEST_S: Final = 366 * 86_400
_REASON_MAX: Final = 500
_JOB: Final = "ds01-enforce-grants.service"
_START_S: Final = 5.0


def grants(desk: Desk, call: Call) -> Any:
    """List the grants; administrators see all, others their own."""
    from ds01.ledger import permits  # noqa: PLC0415 - most questions need none of it

    with desk.ledger.read() as view:
        found = permits.listing(view, "grants", past=call.flag("past"))
    return [_grant(one) for one in found if call.asker.admin or one.uid == call.asker.uid]


def grant(desk: Desk, call: Call) -> Any:
    """Let somebody use the GPUs of the host for a time; for administrators. It takes the place of an earlier one."""
    from ds01.allocator.answers import instant  # noqa: PLC0415 - as above
    from ds01.ledger import lifecycle, permits  # noqa: PLC0415 - as above

    _admins_only(call)
    user, reason = call.value("user", str), call.value("reason", str)
    seconds = call.value("seconds", int, default=desk.tables["bare_metal"]["default_grant_duration"])
    if user is None:
        raise bad("user", user, "name the person")
    if not reason or not reason.strip() or len(reason) > _REASON_MAX:
        raise bad("reason", reason, f"say why in 1 to {_REASON_MAX} characters")
    check_length(seconds, _LONGEST_S, "who needs no end goes into bare_metal.exempt_users")
    uid, user = account_of(user)
    if not desk.tables["logins"]["close_gpus"]:
        text, fix = "the GPUs of this host are open to everybody", "nothing is to be granted: see bare_metal.close_gpus"
        raise error(NOT_NOW, text, "bare_metal", fix)
    with desk.ledger.transaction() as tx:
        for earlier in _of(tx, uid):
            permits.end(tx, "grants", earlier.id)
        made = permits.add(
            tx, "grants", uid=uid, user=user, kind=permits.BARE_METAL, reason=reason, approved_by=call.asker.user,
            expires=tx.now + seconds * 1000,
        )  # fmt: skip
        text = (
            f"{call.asker.user} lets you use the GPUs of the host itself until {instant(tx.now + seconds * 1000)}. "
            "What uses one outside containers then is ended."
        )
        lifecycle.tell(tx, uid, "notice", permits.label(made), text)
    events.record(
        "grant.add", actor=_actor(call), subject={"kind": "grant", "name": user, "id": str(made.id)},
        decision="allowed", rule=made.kind, reason=reason, details={"uid": uid, "user": user, "until": made.expires},
    )  # fmt: skip
    return _grant(made) | {"at_once": _apply(desk)}


def revoke(desk: Desk, call: Call) -> Any:
    """End a grant before its time; for administrators."""
    from ds01.ledger import lifecycle, permits  # noqa: PLC0415 - as above

    _admins_only(call)
    number = number_of(call)
    with desk.ledger.transaction() as tx:
        found = permits.find(tx, "grants", number)
        done = permits.end(tx, "grants", number)
        if found is not None and done:
            text = f"{call.asker.user} has ended your time with the GPUs of the host itself. What uses one is ended."
            lifecycle.tell(tx, found.uid, "notice", permits.label(found), text)
    if found is None or not done:
        raise error(
            NOT_THERE, f"{number}: no grant of that number counts now", "grants", "`ds01 grant list` shows them"
        )
    events.record(
        "grant.expire", actor=_actor(call), subject={"kind": "grant", "name": found.user, "id": str(number)},
        decision="changed", rule=found.kind, reason=f"ended by {call.asker.user}",
        details={"uid": found.uid, "user": found.user},
    )  # fmt: skip
    return {"ended": number, "at_once": _apply(desk)}


def bare_metal(desk: Desk, view: View, uid: int) -> dict[str, Any]:
    """Return whether the GPUs of the host are open for somebody, by what and until when."""
    from ds01.slices.desired import LoginSpec  # noqa: PLC0415 - as above
    from ds01.slices.people import exempt_uids  # noqa: PLC0415 - as above

    spec = LoginSpec.from_dict(desk.tables["logins"])
    if not spec.close_gpus:
        return {"open": True, "by": "close_gpus", "until": None, "grant": None}
    if uid == 0 or uid in exempt_uids(spec, [uid]):
        return {"open": True, "by": "exempt", "until": None, "grant": None}
    found = _of(view, uid)
    if found:
        return {"open": True, "by": "grant", "until": found[-1].expires, "grant": found[-1].id}
    return {"open": False, "by": None, "until": None, "grant": None}


def _of(view: View, uid: int) -> list[Permit]:
    from ds01.ledger import permits  # noqa: PLC0415 - as above

    return [one for one in permits.listing(view, "grants") if one.uid == uid and one.kind == permits.BARE_METAL]


def _apply(desk: Desk) -> bool:
    """Let the host follow now and not within the minute in which its timer does; whether that could be begun."""
    if not desk.of_host:
        return False
    # Whoever answers may not write unit files; the job may.
    try:
        done = subprocess.run(
            ["/usr/bin/systemctl", "start", "--no-block", _JOB],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_START_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _grant(one: Permit) -> dict[str, Any]:
    return {
        "id": one.id, "user": one.user, "kind": one.kind, "created": one.created, "expires": one.expires,
        "ended": one.ended, "reason": one.reason, "approved_by": one.approved_by,
    }  # fmt: skip


def _admins_only(call: Call) -> None:
    if not call.asker.admin:
        raise error(FORBIDDEN, "only administrators grant the GPUs of the host", "grants", "ask an administrator")


def _actor(call: Call) -> dict[str, Any]:
    return {"uid": call.asker.uid, "user": call.asker.user, "via": call.asker.via}
