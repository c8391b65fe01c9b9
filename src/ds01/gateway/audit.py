"""Verdicts as events: who, what, by which rule and how to fix it. Never a body, an environment or a password."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from ds01 import events
from ds01.gateway.engine import EngineSaid
from ds01.gateway.people import Caller
from ds01.gateway.refusals import Refused
from ds01.gateway.workers import Workers

_REPEAT_S: Final = 60.0
"""A client that asks again and again for what it does not get is one line a minute."""
_REFUSALS_MAX: Final = 300
"""Of one person in that time: whoever varies what is refused neither fills the log nor keeps others out of it."""
_REMEMBERED_MAX: Final = 4_096
_WRITE_S: Final = 2.0


class Audit:
    """Writes events in order, away from the loop."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._workers = Workers("the event log", 1, _WRITE_S)
        self._said: dict[tuple[Any, ...], float] = {}
        self._counted: dict[int | None, tuple[float, int]] = {}

    async def refused(self, caller: Caller | None, what: str, kind: str, name: str, refusal: Refused) -> str | None:
        """Record a refusal; return the id of the event, or None where the same was said a moment ago."""
        if refusal.rule.startswith("owner.") and refusal.status == 404:  # noqa: PLR2004 - clients ask all day what is there
            return None
        if refusal.said or refusal.rule == EngineSaid.RULE:
            return None
        uid = caller.uid if caller else None
        if self._repeated((uid, what, name, refusal.rule)) or self._too_many(uid):
            return None
        return await self.record(
            "gateway.refuse",
            caller,
            {"kind": kind, "name": name},
            "refused",
            rule=refusal.rule,
            reason=refusal.reason,
            fix=refusal.fix or None,
            details={"request": what, "status": refusal.status},
        )

    async def record(
        self,
        type: events.EventType,  # noqa: A002 - the name of the field
        caller: Caller | None,
        subject: Mapping[str, Any],
        decision: events.Decision,
        **fields: Any,
    ) -> str | None:
        """Record an event and return its id; None when the log does not take it in time. Never raises."""
        actor = caller.actor() if caller else {"uid": None, "user": None, "via": "gateway"}
        try:
            return await self._workers.ask(
                lambda: events.record(type, actor=actor, subject=subject, decision=decision, **fields)
            )
        except Refused:
            return None

    def close(self) -> None:
        """Let go of the thread."""
        self._workers.close()

    def _too_many(self, uid: int | None) -> bool:
        now = time.monotonic()
        since, count = self._counted.get(uid, (now, 0))
        if now - since >= _REPEAT_S:
            since, count = now, 0
        self._counted[uid] = since, count + 1
        return count >= _REFUSALS_MAX

    def _repeated(self, key: tuple[Any, ...]) -> bool:
        now = time.monotonic()
        if now - self._said.get(key, -_REPEAT_S) < _REPEAT_S:
            return True
        if len(self._said) >= _REMEMBERED_MAX:
            self._said = {known: when for known, when in self._said.items() if now - when < _REPEAT_S}
        if len(self._said) < _REMEMBERED_MAX:
            self._said[key] = now
        return False
