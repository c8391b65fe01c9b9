"""Read the host's policy for a job; a broken one changes nothing and is reported once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ds01 import events
from ds01.enforce import state
from ds01.policy import DEFAULT_PATH, load_policy
from ds01.policy.problems import PolicyError

if TYPE_CHECKING:
    from datetime import datetime

    from ds01.policy import LoadedPolicy

POLICY_FILE = Path(DEFAULT_PATH)


def read_policy(now: datetime, *, dry_run: bool) -> LoadedPolicy:
    """Return the policy in force. Raises PolicyError, after an event for each new set of problems."""
    try:
        loaded = load_policy(POLICY_FILE, now=now)
    except PolicyError as error:
        if not dry_run:
            _report(error)
        raise
    if not dry_run and (known := state.load()).pop("rejected", None) is not None:
        state.save(known)
    return loaded


def _report(error: PolicyError) -> None:
    known = state.load()
    digest = sha256(str(error).encode("utf-8", "backslashreplace")).hexdigest()
    if known.get("rejected") == digest:
        return
    events.record(
        "policy.reject",
        actor=events.this_process("enforce"),
        subject={"kind": "policy", "name": str(POLICY_FILE)},
        decision="refused",
        reason=f"The policy on this host cannot be used: {len(error.errors)} problems. Nothing was changed.",
        fix="Correct the policy on the controller and run site.yml.",
        details={"problems": [str(problem) for problem in error.errors]},
    )
    state.save(known | {"rejected": digest})
