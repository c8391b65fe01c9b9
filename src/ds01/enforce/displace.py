"""At the start of a reservation: what is only kept for others is given up, what runs is stopped if the policy says so.

Nobody is stopped who was not told at least `TOLD_MS` before, however late the reservation was made.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ds01.allocator.answers import instant
from ds01.allocator.model import Refusal
from ds01.allocator.reservations import Notice
from ds01.allocator.service import Allocator
from ds01.engine.api import Engine
from ds01.ledger import Ledger, leases
from ds01.lifecycle.acts import Act, carry_out
from ds01.reconcile.apply import Outcome

TOLD_MS: Final = 15 * 60_000
"""From the warning until a container is stopped at the earliest: time to save what is in memory."""


class Displacer:
    """Clears devices for those who reserved them; for the life of a process."""

    def __init__(self) -> None:
        """Nothing is being stopped yet."""
        self._stopping: dict[str, threading.Thread] = {}

    def clear(self, allocator: Allocator, ledger: Ledger, notices: Iterable[Notice], outcome: Outcome) -> None:
        """Clear the devices of the reservations that have begun, and note what was done. Raises LedgerError, CdiError.

        Args:
            allocator: Of the policy that counts.
            ledger: The one it works on.
            notices: Who holds what is reserved for another.
            outcome: Takes what is done.
        """
        due = {notice.holder.token: notice for notice in notices if notice.due}
        for token, notice in due.items():
            if notice.holder.state in {"held", "bound"}:
                if not isinstance(allocator.release(token, f"reserved for {notice.booking.whose}"), Refusal):
                    outcome.lines.append(
                        f"container {_name(notice)}: gives up its GPUs, reserved for {notice.booking.whose}"
                    )
            elif allocator.people.allocation["reservations_displace"]:
                self._stop(allocator, ledger, notice, outcome)

    def wait(self) -> None:
        """Wait until what is being stopped has ended."""
        for thread in self._stopping.values():
            thread.join()

    def _stop(self, allocator: Allocator, ledger: Ledger, notice: Notice, outcome: Outcome) -> None:
        holder = notice.holder
        with ledger.read() as view:
            claim = leases.find_claim(view, holder.token)
            early = notice.told is None or view.now < notice.told + TOLD_MS
            person = allocator.people.known(holder.uid, holder.user, holder.group, view.now)
        self._stopping = {token: thread for token, thread in self._stopping.items() if thread.is_alive()}
        if holder.state != "running" or early or claim is None or claim.container_id is None:
            return
        if holder.token in self._stopping:
            return
        act = Act(
            kind="stop",
            container=claim.container_id,
            name=_name(notice),
            uid=holder.uid,
            user=holder.user,
            rule="reservations_displace",
            limit_from="gpu_allocation",
            reason=f"{notice.device.id} is reserved for {notice.booking.whose} since {instant(notice.booking.starts)}",
            fix="start it again: it gets another GPU if one is free",
            grace_s=person.limits.sigterm_grace,
        )
        # It may take its whole grace, and the rest goes on meanwhile.
        thread = threading.Thread(target=_end, args=(ledger.path, act), name="displace", daemon=True)
        self._stopping[holder.token] = thread
        outcome.lines.append(act.line)
        thread.start()


def _end(path: Path, act: Act) -> None:
    with Ledger(path) as ledger:
        for problem in carry_out(Engine(), ledger, [act], dry_run=False).problems:
            print(problem, flush=True)  # noqa: T201 - the journal has it


def _name(notice: Notice) -> str:
    return notice.holder.container or notice.holder.token[:8]
