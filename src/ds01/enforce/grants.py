"""Grants of bare metal: the GPUs of the host are open for a person until a moment, closed and left after it.

A grant counts by the ledger. The host follows: by a timer each minute, at once after each command, and with whatever
else looks at the logins. What opens a login is gone with the next boot, so that nothing stays open by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ds01 import events
from ds01.allocator.answers import instant
from ds01.enforce.evict import evict
from ds01.ledger import JOB_DEADLINE_S, Ledger, LedgerError, LedgerMissingError, lifecycle, permits
from ds01.ledger.permits import BARE_METAL, Permit
from ds01.slices.devices import converge_devices, granted_uids

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ds01.ledger import Transaction
    from ds01.slices.desired import LoginSpec

WARN_MS: Final = 15 * 60_000
"""So long before the end people are told once more. A grant that is shorter than twice that ends with one notice."""
AGAIN_MS: Final = 10 * 60_000
"""So long after an end logins, and what anybody has open, are looked at again: a pass may have been cut off."""


class Outcome(NamedTuple):
    """What was done, or would be, and what the kernel has otherwise even so."""

    changes: list[str]
    problems: list[str]


class _Turn(NamedTuple):
    """What the ledger says at this moment."""

    now: list[Permit]
    over: list[Permit]
    first: int | None
    """When the first grant of all was made, UTC ms."""
    lately: bool
    had: frozenset[int]
    """The uids of those who ever had one."""


def enforce_grants(
    data: LoginSpec, ledger_path: Path, *, dry_run: bool, evict: Callable[..., list[str]] = evict
) -> Outcome:
    """Make the host follow the grants: open, warn, close, end what still uses a GPU without one.

    Raises:
        ApplyError: systemd or another run was in the way.
        LedgerError: The ledger cannot be used.
        OSError: A file could not be read or written.
    """
    with Ledger(ledger_path, deadline_s=JOB_DEADLINE_S) as ledger, ledger.transaction(keep=not dry_run) as tx:
        turn = _turn(tx)
    if not dry_run:
        for one in turn.over:
            _say_over(one)
    granted = {one.uid for one in turn.now}

    def may() -> Collection[int] | None:
        now = granted_now(ledger_path)
        return None if now is None else granted | {*now}

    lines = [f"the grant of {one.user} is over" for one in turn.over]
    problems: list[str] = []
    if granted or granted_uids() or turn.lately:
        outcome = converge_devices(data, granted, dry_run=dry_run, via="enforce")
        lines += outcome.changes
        problems += outcome.problems
    if turn.first is not None and not dry_run and data.close_gpus:
        # Whoever had a grant is looked at for ever: an open file can be on its way to a process for any time.
        lines += evict(data, may, turn.first, whom=None if turn.lately else turn.had)
    return Outcome(lines, problems)


def granted_now(ledger_path: Path) -> Collection[int] | None:
    """Return who has a grant now; nobody without a ledger, None where it cannot say at this moment."""
    try:
        with Ledger(ledger_path) as ledger, ledger.read() as view:
            return {one.uid for one in permits.listing(view, "grants") if one.kind == BARE_METAL}
    except LedgerMissingError:
        return ()
    except LedgerError:
        # The job of the grants says so. It decides again in a minute; nobody's login changes to and fro meanwhile.
        return None


def _turn(tx: Transaction) -> _Turn:
    permits.follow_clock(tx, "grants")
    over = [one for one in permits.close_expired(tx, "grants") if one.kind == BARE_METAL]
    now = [one for one in permits.listing(tx, "grants") if one.kind == BARE_METAL]
    everything = [one for one in permits.listing(tx, "grants", past=True) if one.kind == BARE_METAL]
    for one in over:
        text = "Your time with the GPUs of the host itself is over. Ask an administrator for more."
        lifecycle.tell(tx, one.uid, "notice", permits.label(one), text)
    for one in now:
        if _is_due(tx, one):
            lifecycle.tell(tx, one.uid, "warning", permits.label(one), warning(one))
    lately = any(one.ended is not None and one.ended > tx.now - AGAIN_MS for one in everything)
    had = frozenset(one.uid for one in everything)
    return _Turn(now, over, min((one.created for one in everything), default=None), lately, had)


def _is_due(tx: Transaction, one: Permit) -> bool:
    """Whether the end is near, and nobody has said so yet."""
    if one.expires is None or one.expires - tx.now > WARN_MS or one.expires - one.created < 2 * WARN_MS:
        return False
    return all((said.subject, said.kind) != (permits.label(one), "warning") for said in lifecycle.notices(tx, one.uid))


def warning(one: Permit) -> str:
    """Return what somebody is told before the end."""
    end = instant(one.expires) if one.expires is not None else "never"
    return (
        f"Your time with the GPUs of the host itself ends at {end}. Save your work: what still uses a GPU outside "
        "containers then is asked to end, and killed half a minute later. Ask an administrator for more."
    )


def _say_over(one: Permit) -> None:
    events.record(
        "grant.expire",
        actor=events.this_process("enforce"),
        subject={"kind": "grant", "name": one.user, "id": str(one.id)},
        decision="changed",
        rule=one.kind,
        reason="its time is over",
        fix="Ask an administrator for a new one: `ds01 grant bare-metal`.",
        details={"uid": one.uid, "user": one.user},
    )
