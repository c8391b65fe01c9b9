from tests.unit.ledger.conftest import ledger, path, time
from tests.unit.reconcile.world import event_log, specs, world

__all__ = ["event_log", "ledger", "path", "specs", "time", "world"]
