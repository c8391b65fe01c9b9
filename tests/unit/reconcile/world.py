"""A real ledger and real spec files, and what an engine and its GPUs show of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ds01 import events
from ds01.cdi.files import SpecFiles
from ds01.gpu.health import GpuHealth
from ds01.ledger import Ledger, leases
from ds01.ledger import devices as table
from ds01.ledger.rows import LiveLease
from ds01.reconcile.apply import Outcome, reconcile
from ds01.reconcile.containers import SeenContainer
from ds01.reconcile.model import Observation, SeenObject, SeenProcess
from tests.specs import spec_files
from tests.unit.ledger.machine import GPUS, IDS, Time, claim_for

MINUTE = 60_000
Pass = Callable[..., Outcome]


@pytest.fixture
def event_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "events.jsonl"
    log.touch()
    monkeypatch.setattr(events, "EVENTS_FILE", log)
    return log


@pytest.fixture
def specs(tmp_path: Path) -> SpecFiles:
    return spec_files(tmp_path, IDS)


class World:
    """A ledger, the specs, and the engine's containers as a test tells them."""

    def __init__(self, ledger: Ledger, specs: SpecFiles, time: Time) -> None:
        self.ledger, self.specs, self.time = ledger, specs, time
        self.containers: dict[str, SeenContainer] = {}
        self.processes: list[SeenProcess] = []
        self.objects: list[SeenObject] = []
        self.inventory = GPUS
        self.health: tuple[GpuHealth, ...] = ()

    def see(self) -> Observation:
        with self.ledger.read() as view:
            claims = leases.open_claims(view)
            rows = view.value("SELECT json_group_array(json_array(kind, engine_id)) FROM objects WHERE removed IS NULL")
            return Observation(
                at=view.now,
                containers=tuple(self.containers.values()),
                objects=tuple(self.objects),
                inventory=self.inventory,
                health=self.health,
                processes=tuple(self.processes),
                specs=self.specs.given(),
                known=frozenset((kind, identity) for kind, identity in json.loads(rows)),
                bound=frozenset(claim.container_id for claim in claims if claim.container_id),
            )

    def look(self, seen: Observation | None = None, *, dry_run: bool = False) -> Outcome:
        return reconcile(
            self.ledger,
            self.see() if seen is None else seen,
            self.specs,
            hold_of=lambda _: 10 * MINUTE,
            unused_of=lambda _: 30 * MINUTE,
            group_of=lambda _: ("student", 10),
            dry_run=dry_run,
        )

    def add(self, name: str, *, token: str | None = None, names: tuple[str, ...] = (), running: bool = True) -> str:
        identity = f"{name}-id"
        self.containers[identity] = SeenContainer(
            id=identity,
            name=name,
            running=running,
            created=self.time.wall,
            uid=1000,
            user="user1000",
            how="uid" if token else "label",
            token=token,
            names=frozenset(names),
            ours=token is not None,
        )
        return identity

    def lease(self, name: str, *uuids: str, running: bool = True) -> str:
        """A container made the right way."""
        with self.ledger.transaction() as tx:
            token = claim_for(tx).token
            for uuid in uuids:
                leases.grant(tx, token, uuid, expires=tx.now + MINUTE)
        identity = self.add(name, token=token, running=running)
        self.specs.write(token, uuids)
        with self.ledger.transaction() as tx:
            leases.bind(tx, token, identity, name)
            if running:
                leases.start(tx, token)
        return token

    def live(self) -> list[LiveLease]:
        with self.ledger.read() as view:
            return leases.live(view)

    def states(self) -> dict[str, str]:
        return {lease.device: lease.state for lease in self.live()}

    def devices(self) -> dict[str, tuple[str, str | None]]:
        with self.ledger.read() as view:
            return {row.uuid: (row.state, row.reason) for row in table.devices(view)}

    def foreign(self) -> dict[str, int]:
        with self.ledger.read() as view:
            return {row.uuid: row.foreign_use for row in table.devices(view) if row.foreign_use}


@pytest.fixture
def world(ledger: Ledger, specs: SpecFiles, time: Time, event_log: Path) -> World:
    assert event_log
    found = World(ledger, specs, time)
    found.look()
    time.spend(MINUTE)
    return found
