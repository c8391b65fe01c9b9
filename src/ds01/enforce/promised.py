"""Who has been promised GPU devices, for a change of the layout: a held device is used, though no process is on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ds01.ledger import LEDGER, Ledger, LedgerMissingError
from ds01.ledger.devices import devices, mark
from ds01.ledger.leases import live
from ds01.ledger.rows import DeviceRow, LiveLease
from ds01.mig.model import Holder

_CHANGING: Final = "the layout of its GPU is being changed"


class Promised:
    """The leases of the ledger; none where there is no ledger yet."""

    def __init__(self, path: Path = LEDGER) -> None:
        """Ask the ledger at `path`, each time anew."""
        self._path = path

    def holders(self) -> dict[str, list[Holder]]:
        """Return who has been promised which device, by its UUID.

        Raises:
            LedgerError: The ledger is there and cannot be read: then nothing may be taken for free.
        """
        try:
            with Ledger(self._path) as ledger, ledger.read() as view:
                return _holders(live(view))
        except LedgerMissingError:
            return {}

    @contextmanager
    def withdrawn(self, uuids: Collection[str]) -> Iterator[list[Holder]]:
        """Keep devices from being granted while they are taken apart; yields who was faster, if anybody was.

        Afterwards they count as gone, until the next look at the machine finds those that are still there. After a kill
        in between they stay drained: the next change of the layout goes on with them.

        Raises:
            LedgerError: As `holders`, or it cannot be written.
        """
        takers, drained = self._drain(uuids)
        try:
            yield takers
        finally:
            if drained:
                with Ledger(self._path) as ledger, ledger.transaction() as tx:
                    for device in drained:
                        if device.state == "ok" or device.reason == _CHANGING:
                            mark(tx, device.uuid, "gone", "the layout of its GPU was changed")
                        else:
                            # Given to nobody, and for another reason: if it is still there, that reason is, too.
                            mark(tx, device.uuid, device.state, device.reason)

    def _drain(self, uuids: Collection[str]) -> tuple[list[Holder], list[DeviceRow]]:
        """Mark devices, unless one is promised. Returns who has been promised one, or the devices as they were."""
        try:
            with Ledger(self._path) as ledger, ledger.transaction() as tx:
                holders = _holders(live(tx))
                if takers := [holder for uuid in uuids for holder in holders.get(uuid, ())]:
                    return takers, []
                drained = [device for device in devices(tx) if device.uuid in uuids]
                for device in drained:
                    mark(tx, device.uuid, "draining", _CHANGING)
                return [], drained
        except LedgerMissingError:
            return [], []


def _holders(leases: Collection[LiveLease]) -> dict[str, list[Holder]]:
    found: dict[str, list[Holder]] = {}
    for lease in leases:
        found.setdefault(lease.device, []).append(Holder(lease.user, _what(lease)))
    return found


def _what(lease: LiveLease) -> str:
    container = f"container {lease.container_name}" if lease.container_name else "a container that is being made"
    return f"lease of {container} ({lease.state})"
