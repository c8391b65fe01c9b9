"""Start again what the engine could not: at its own start it restores containers before it knows any CDI device.

So no container with GPUs comes back after a boot, whatever its restart policy says. Docker 26.1 does that.
"""

from __future__ import annotations

from collections.abc import Iterable

from ds01.allocator.model import Refusal
from ds01.allocator.service import Allocator
from ds01.engine.api import Engine, EngineUnavailableError
from ds01.reconcile.apply import Outcome
from ds01.reconcile.containers import SeenContainer


class Restarter:
    """Starts each container that was left behind, once; for the life of a process."""

    def __init__(self) -> None:
        """Nothing was tried yet."""
        self._tried: frozenset[str] = frozenset()

    def waiting(self, containers: Iterable[SeenContainer]) -> list[SeenContainer]:
        """Return those that were left behind and not tried since; who came back meanwhile may be tried again."""
        left = [container for container in containers if container.left_behind]
        self._tried &= {container.id for container in left}
        return [container for container in left if container.id not in self._tried]

    def start(self, engine: Engine, allocator: Allocator, container: SeenContainer, outcome: Outcome) -> None:
        """Start one with what its claim may have now, and note what came of it. Raises LedgerError and CdiError."""
        failed = f"container {container.name}: not started again: "
        token = container.token or ""
        answer = allocator.start(token)
        if isinstance(answer, Refusal) and answer.kind == "internal":
            # Nothing was decided: the ledger is new, say, and the pass that follows makes it good.
            outcome.problems.append(failed + answer.message)
            return
        self._tried |= {container.id}
        if isinstance(answer, Refusal):
            outcome.problems.append(failed + answer.message)
            return
        try:
            engine.start(container.id)
        except EngineUnavailableError as error:
            allocator.stop(token, "the engine did not start its container")
            outcome.problems.append(failed + str(error))
        else:
            outcome.lines.append(f"container {container.name}: started: the engine had tried before it knew of GPUs")
