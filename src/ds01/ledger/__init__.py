"""Who holds which GPU, since when and until when, and whose each object of the engine is: one SQLite database.

`Ledger.transaction()` is the one way to change it, `LeasedSpecs.change()` where leases begin or end; the modules beside
are functions on an open transaction. The package knows the rules that must hold, and no policy.
"""

from .clock import Clock, Moment, system_clock
from .errors import (
    DeviceTakenError,
    LedgerBusyError,
    LedgerConflictError,
    LedgerCorruptError,
    LedgerError,
    LedgerFullError,
    LedgerMissingError,
    LedgerNotReadyError,
    LedgerReadOnlyError,
    LedgerVersionError,
)
from .migrate import create
from .store import DEADLINE_S, JOB_DEADLINE_S, LEDGER, Ledger, Transaction, View

__all__ = [
    "DEADLINE_S",
    "JOB_DEADLINE_S",
    "LEDGER",
    "Clock",
    "DeviceTakenError",
    "Ledger",
    "LedgerBusyError",
    "LedgerConflictError",
    "LedgerCorruptError",
    "LedgerError",
    "LedgerFullError",
    "LedgerMissingError",
    "LedgerNotReadyError",
    "LedgerReadOnlyError",
    "LedgerVersionError",
    "Moment",
    "Transaction",
    "View",
    "create",
    "system_clock",
]
