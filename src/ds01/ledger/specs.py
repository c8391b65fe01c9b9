"""Leases together with the CDI specs by which containers use them: no spec names what its claim does not hold.

A spec goes while its lease still stands, and is written once the lease is committed, by what the ledger says then. Both
happen in the turn of a writer, so nobody ends a lease in between. Whoever is killed leaves a spec missing at most: then
the container does not start until it is written again, at the next start or by the reconciler.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ds01.cdi.base import read_base
from ds01.cdi.files import SpecFiles
from ds01.cdi.spec import CdiError
from ds01.problems import ReportedError

from .errors import LedgerError
from .rows import Given
from .store import Ledger, Transaction, View


def held(view: View) -> Mapping[str, tuple[str, ...]]:
    """Return the devices of each claim that holds any, by token."""
    found: dict[str, tuple[str, ...]] = {}
    for lease in view.rows(
        Given,
        "SELECT token, device FROM leases INDEXED BY one_lease_per_device WHERE state <> 'released' ORDER BY id",
    ):
        found[lease.token] = (*found.get(lease.token, ()), lease.device)
    return found


@dataclass(frozen=True)
class LeasedSpecs:
    """A ledger and the specs of its claims. `specs` is None for a ledger that no engine works by, like a copy."""

    ledger: Ledger
    specs: SpecFiles | None

    @contextmanager
    def change(self, *, keep: bool = True) -> Iterator[tuple[Transaction, set[str]]]:
        """Change leases in the body; specs that name too much are gone before the change counts.

        Args:
            keep: False for a rehearsal, which is undone at its end.

        Yields:
            The transaction, and a set that has, afterwards, the claims whose specs `write` has to make anew.

        Raises:
            LedgerError: Nothing was changed, but specs may be missing.
            CdiError: A spec could not be removed; as above.
        """
        changed: set[str] = set()
        with self.ledger.transaction(keep=keep) as tx:
            before = self._held(tx)
            yield tx, changed
            after = self._held(tx)
            changed.update(token for token, devices in after.items() if before.get(token) != devices)
            if self.specs is not None and keep:
                for token, devices in before.items():
                    if not set(devices) <= set(after.get(token, ())):
                        self.specs.remove(token)

    def write(self, tokens: Collection[str]) -> dict[str, ReportedError]:
        """Let the containers of these claims start with what the claims hold now. Returns which cannot, and why."""
        if self.specs is None or not tokens:
            return {}
        failed: dict[str, ReportedError] = {}
        try:
            # Before it is our turn: NVIDIA's spec is long.
            base = read_base(self.specs.bases)
            with self.ledger.transaction(keep=False) as tx:
                now = held(tx)
                for token in sorted(now.keys() & tokens):
                    try:
                        self.specs.write(token, now[token], base)
                    except CdiError as error:
                        failed[token] = error
        except (CdiError, LedgerError) as error:
            return dict.fromkeys(tokens, error)
        return failed

    def write_all(self, unrestored: Mapping[str, tuple[str, ...]] | None = None) -> list[CdiError]:
        """Make all specs what the leases say: after a boot, a crash, a change of driver. Returns what went wrong.

        Args:
            unrestored: Devices of running containers that the ledger could not take in: only their specs tell of them.

        Raises:
            LedgerError: It cannot be read; nothing was changed.
            CdiError: NVIDIA's spec is missing; no spec was written, but those of what nobody holds are gone.
        """
        if self.specs is None:
            return []
        base, missing = None, None
        try:
            base = read_base(self.specs.bases)
        except CdiError as error:
            missing = error
        with self.ledger.transaction(keep=False) as tx:
            now = held(tx)
            problems = self.specs.sync({**(unrestored or {}), **now}, base)[1]
        if missing is not None and now:
            raise missing
        return problems

    def _held(self, view: View) -> Mapping[str, tuple[str, ...]]:
        return {} if self.specs is None else held(view)
