"""Can DS01 work now? What needs no rights and takes no time; `ds01 health` of root tries the limits out."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ds01.health.model import Check, failed, ok, warning, worst
from ds01.ledger import LedgerError

if TYPE_CHECKING:
    from ds01.api.call import Call
    from ds01.api.desk import Desk
    from ds01.ledger import Ledger


def health(desk: Desk, call: Call) -> Any:  # noqa: ARG001 - the same for everybody
    """Say whether the engine, the ledger and the policy can be used."""
    down = failed("engine", "the container engine does not answer", "tell the administrator")
    # Without a policy nobody would have come as far as this.
    checks = [
        ok("engine", "answers") if desk.engine.answers() else down,
        check_ledger(desk.ledger),
        ok("policy", "in force"),
    ]
    return {"status": worst(checks), "checks": [dataclasses.asdict(check) for check in checks]}


def check_ledger(ledger: Ledger) -> Check:
    """The ledger can be read, and devices may be granted from it."""
    try:
        with ledger.read() as view:
            reason = view.value("SELECT value FROM meta WHERE key = 'unverified'")
    except LedgerError as error:
        return failed("ledger", str(error), "ds01 enforce reconcile")
    if reason is not None:
        text = f"{reason}, and not yet compared with what runs: nothing is granted"
        return warning("ledger", text, "ds01 enforce reconcile")
    return ok("ledger", "can be used")
