"""The ledger's jobs: compare it with what is running, keep copies of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01 import events
from ds01.allocator.people import People
from ds01.allocator.service import Allocator
from ds01.cdi.files import SpecFiles
from ds01.enforce.displace import Displacer
from ds01.enforce.restart import Restarter
from ds01.engine.api import Engine, EngineUnavailableError
from ds01.ledger import JOB_DEADLINE_S, LEDGER, Ledger, LedgerCorruptError, recovery
from ds01.ledger.backup import BACKUPS, back_up
from ds01.ledger.specs import LeasedSpecs
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables
from ds01.problems import ReportedError
from ds01.reconcile.apply import Outcome, reconcile
from ds01.reconcile.devices import take_devices
from ds01.reconcile.follow import Follower
from ds01.reconcile.observe import look_at_gpus, observe

if TYPE_CHECKING:
    from ds01.allocator.model import Limits
    from ds01.ledger.rows import Claim
    from ds01.reconcile.containers import SeenContainer


@dataclass(frozen=True)
class Place:
    """Where everything is; tests have their own."""

    ledger: Path = LEDGER
    backups: Path = BACKUPS
    specs: SpecFiles = field(default_factory=SpecFiles)
    policy: Path = Path(DEFAULT_PATH)


def compare(
    place: Place | None = None,
    *,
    dry_run: bool = False,
    restarter: Restarter | None = None,
    displacer: Displacer | None = None,
) -> Outcome:
    """Make ledger and CDI specs what is running; make a ledger where there is none.

    Args:
        place: Where everything is.
        dry_run: Only say what would be done.
        restarter: Starts first what the engine left behind.
        displacer: Clears devices at last for those who reserved them.

    Raises:
        EngineUnavailableError: The engine does not answer, so nothing can be said.
        LedgerError: The ledger cannot be used.
    """
    place = place or Place()
    if not dry_run:
        recovery.ensure(place.ledger, place.backups)
    try:
        return _compare(place, dry_run, restarter, displacer)
    except LedgerCorruptError:
        if dry_run:
            raise
        recovery.ensure(place.ledger, place.backups, deep=True)
        return _compare(place, dry_run, restarter, displacer)


def _compare(place: Place, dry_run: bool, restarter: Restarter | None, displacer: Displacer | None) -> Outcome:
    engine = Engine()
    policy = _Policy(place.policy)
    with Ledger(place.ledger) as ledger:
        seen = observe(engine, ledger, place.specs)
        first = Outcome()
        if restarter is not None and (left := restarter.waiting(seen.containers)):
            # Before it is noted that they do not run: their devices are still theirs, and others may wait for them.
            try:
                allocator = Allocator(ledger, policy.people, place.specs)
                for container in left:
                    restarter.start(engine, allocator, container, first)
            except ReportedError as error:
                first.problems.append(f"what the engine left behind was not started: {error}")
            seen = observe(engine, ledger, place.specs)
        outcome = reconcile(
            ledger,
            seen,
            place.specs,
            hold_of=policy.hold_of,
            unused_of=policy.unused_of,
            group_of=policy.group_of,
            dry_run=dry_run,
        )
        if not dry_run:
            try:
                # Whoever waits for what is free now gets it; reservations begin and end.
                allocator = Allocator(ledger, policy.people, place.specs)
                notices = allocator.turn_reservations()
                if displacer is not None:
                    displacer.clear(allocator, ledger, notices, outcome)
            except ReportedError as error:
                outcome.problems.append(f"nobody who waits was served: {error}")
        outcome.lines[:0], outcome.problems[:0] = first.lines, first.problems
        return outcome


def follow(place: Place | None = None) -> None:
    """Compare whenever the engine says that something happened, and every minute, until SIGTERM.

    A pass that fails is said once, and tried again at the next reason.
    """
    said: set[str] = set()
    restarter, displacer = Restarter(), Displacer()

    def look() -> None:
        try:
            outcome = compare(place, restarter=restarter, displacer=displacer)
        except ReportedError as error:
            lines, problems = [], [str(error)]
            # Its restarts are nothing to report: the next pass finds it again.
            if str(error) not in said and not isinstance(error, EngineUnavailableError):
                _failed(str(error))
        else:
            lines, problems = outcome.lines, outcome.problems
        for line in (*lines, *(problem for problem in problems if problem not in said)):
            print(line, flush=True)  # noqa: T201 - the journal has it
        said.clear()
        said.update(problems)

    follower = Follower(Engine, look)
    signal.signal(signal.SIGTERM, lambda *_: follower.stop())
    follower.run()


def copy(place: Place | None = None) -> Path:
    """Make the hourly copy of the ledger; a damaged one is set aside and restored instead.

    Raises:
        LedgerError: There is no ledger, or no copy could be made.
    """
    place = place or Place()
    try:
        with Ledger(place.ledger, deadline_s=JOB_DEADLINE_S) as ledger:
            return back_up(ledger, place.backups)
    except LedgerCorruptError:
        recovery.ensure(place.ledger, place.backups, deep=True)
        raise


def write_specs(place: Place | None = None) -> list[str]:
    """Let leases follow devices that the reboot made anew, and write the CDI specs of all; before the engine starts.

    Returns:
        What changed, and which claims have no spec; their containers do not start.

    Raises:
        LedgerError: The ledger cannot be read: then no spec is written, and no container with GPUs starts.
        CdiError: As above, where NVIDIA's spec is missing.
    """
    place = place or Place()
    inventory = look_at_gpus().inventory
    with Ledger(place.ledger) as ledger:
        leased, said = LeasedSpecs(ledger, place.specs), []
        if inventory is not None:
            with leased.change() as (tx, _):
                said = take_devices(tx, inventory)
        return [*said, *map(str, leased.write_all())]


def _failed(text: str) -> None:
    events.record(
        "health.fail",
        actor=events.this_process("reconcile"),
        subject={"kind": "ledger", "name": str(LEDGER)},
        decision="failed",
        rule="reconcile",
        reason=text,
        fix="`ds01 enforce reconcile` tries again and says more.",
    )


class _Policy:
    """What the policy says of people; read on first use, since most passes end nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._people: People | None = None

    def hold_of(self, claim: Claim) -> int | None:
        return _milliseconds(self._limits(claim).gpu_hold_after_stop)

    def unused_of(self, claim: Claim) -> int | None:
        return _milliseconds(self._limits(claim).created_container_timeout)

    def _limits(self, claim: Claim) -> Limits:
        return self.people.known(claim.uid, claim.user, claim.group_name, _now()).limits

    def group_of(self, container: SeenContainer) -> tuple[str, int]:
        person: Any = self.people.person(-1 if container.uid is None else container.uid, container.user, _now())
        return person.group, person.limits.priority

    @property
    def people(self) -> People:
        """Who may what. Raises PolicyError."""
        if self._people is None:
            self._people = People(load_tables(self._path))
        return self._people


def _milliseconds(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)
