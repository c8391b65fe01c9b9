"""What a client is told when its request is not forwarded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is not forwarded: an HTTP status and, for people, why and what to do."""

    def __init__(
        self,
        status: int,
        reason: str,
        rule: str,
        fix: str = "",
        *,
        facts: Mapping[str, Any] | None = None,
        said: bool = False,
    ) -> None:
        """Take the facts.

        Args:
            status: HTTP status: 400 malformed, 403 policy, 404 not there, 409 conflict, 413 too large, 503 not now.
            reason: One sentence that names the value.
            rule: The rule that decided, for the audit log.
            fix: What the person can do; empty where nothing helps.
            facts: What programs read beside the message: the numbers of a quota.
            said: Whether the event log has it already.
        """
        self.status = status
        self.reason = reason
        self.rule = rule
        self.fix = fix
        self.facts = facts or {}
        self.said = said
        super().__init__(f"{reason}: {fix}" if fix else reason)

    def body(self) -> bytes:
        """The answer as clients of the engine expect it."""
        return json.dumps({"message": str(self), **self.facts}).encode() + b"\n"


class Malformed(Refused):
    """A request outside the grammar; the connection ends, because nobody can say where the next one would begin."""

    def __init__(self, reason: str, status: int = 400) -> None:
        """Take what is wrong with it."""
        super().__init__(status, reason, "http.grammar")


def not_found(kind: str, name: str) -> Refused:
    """The engine's own text for an object that is not there, and for everybody else's."""
    texts = {
        "container": f"No such container: {name}",
        "exec": f"No such exec instance: {name}",
        "image": f"No such image: {name}",
        "network": f"network {name} not found",
        "volume": f"get {name}: no such volume",
    }
    return Refused(404, texts[kind], f"owner.{kind}")
