"""Whatever is running, and whatever the ledger says: afterwards nothing in use is free, and all is as it was seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ds01 import events
from ds01.cdi.files import SpecFiles
from ds01.ledger import Ledger, create, leases
from ds01.ledger import devices as table
from ds01.ledger.devices import take_inventory
from ds01.ledger.store import turn_path
from ds01.ledger.turn import Turn
from ds01.reconcile.apply import reconcile
from ds01.reconcile.containers import ALL, SeenContainer
from ds01.reconcile.diff import reached
from ds01.reconcile.model import Observation, SeenProcess
from tests.unit.ledger.machine import GPUS, IDS, Time, claim_for

MINUTE = 60_000


@dataclass(frozen=True)
class Had:
    """A claim that the ledger has: its devices, how far it came, and whether its container is still there, and runs."""

    devices: frozenset[str]
    stage: str
    there: bool
    runs: bool
    forgotten: bool
    """Whether the ledger lost it."""


had = st.builds(
    Had,
    devices=st.frozensets(st.sampled_from(IDS), min_size=1, max_size=2),
    stage=st.sampled_from(["pending", "bound", "running", "held"]),
    there=st.booleans(),
    runs=st.booleans(),
    forgotten=st.booleans(),
)
foreign = st.builds(
    lambda names, runs: (names, runs),
    names=st.frozensets(st.sampled_from([ALL, "0", "1", "1:0", "GPU-0", "9"]), max_size=2),
    runs=st.booleans(),
)
process = st.tuples(st.sampled_from(IDS), st.integers(2, 9), st.sampled_from([None, "c0", "f0", "elsewhere"]))


@contextmanager
def world() -> Iterator[tuple[Ledger, SpecFiles, Time]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        create(path)
        time = Time()
        kept = events.EVENTS_FILE
        events.EVENTS_FILE = Path(folder) / "events.jsonl"
        try:
            with Ledger(path, clock=time) as ledger:
                with ledger.transaction() as tx:
                    take_inventory(tx, GPUS)
                    tx.set_verified()
                yield ledger, SpecFiles(Path(folder) / "live", Path(folder) / "kept", (Path(folder) / "live",)), time
        finally:
            events.EVENTS_FILE = kept
            Turn(turn_path(path)).destroy()


def container(identity: str, *, runs: bool, token: str | None, names: frozenset[str] = frozenset()) -> SeenContainer:
    return SeenContainer(
        id=identity,
        name=identity,
        running=runs,
        created=0,
        uid=1000,
        user="u",
        token=token,
        names=names,
        ours=bool(token),
    )


def prepare(ledger: Ledger, claims: list[Had], time: Time) -> tuple[list[SeenContainer], dict[str, tuple[str, ...]]]:
    """Let the ledger have come to where it is; return the engine's containers and their specs."""
    containers, specs = [], {}
    for number, one in enumerate(claims):
        token, name = f"{number:032d}", f"c{number}"
        with ledger.transaction() as tx:
            taken = {lease.device for lease in leases.live(tx)} | {uuid for given in specs.values() for uuid in given}
            free = sorted(one.devices - taken)
            if not one.forgotten:
                claim_for(tx, token=token)
                for uuid in free:
                    leases.grant(tx, token, uuid, expires=tx.now + 10 * MINUTE)
                if one.stage != "pending":
                    leases.bind(tx, token, name, name)
                if one.stage in {"running", "held"}:
                    leases.start(tx, token)
                if one.stage == "held":
                    leases.stop(tx, token, hold_ms=None, reason="")
        if free:
            specs[token] = tuple(free)
        if one.there:
            containers.append(container(name, runs=one.runs and bool(free), token=token))
    time.spend(5 * MINUTE)
    return containers, specs


@settings(max_examples=120, deadline=None)
@example([Had(frozenset({"GPU-0"}), "pending", there=True, runs=False, forgotten=False)], [], [("GPU-0", 2, "c0")])
@given(st.lists(had, max_size=4), st.lists(foreign, max_size=2), st.lists(process, max_size=3))
def test_nothing_in_use_is_free_and_a_second_look_corrects_nothing(
    claims: list[Had], others: list[tuple[frozenset[str], bool]], processes: list[tuple[str, int, str | None]]
) -> None:
    with world() as (ledger, files, time):
        containers, specs = prepare(ledger, claims, time)
        containers += [
            container(f"f{number}", runs=runs, token=None, names=names) for number, (names, runs) in enumerate(others)
        ]
        with ledger.read() as view:
            bound = frozenset(claim.container_id for claim in leases.open_claims(view) if claim.container_id)
        seen = Observation(
            at=time.wall,
            containers=tuple(containers),
            inventory=GPUS,
            processes=tuple(SeenProcess(uuid, pid, 1, owner, 1000, "p") for uuid, pid, owner in processes),
            specs=specs,
            bound=bound,
        )
        hold, group = (lambda _: 0), (lambda _: ("student", 1))
        reconcile(ledger, seen, files, hold_of=hold, unused_of=hold, group_of=group)
        with ledger.read() as view:
            live = leases.live(view)
            busy = {row.uuid for row in table.devices(view) if row.foreign_use} | {lease.device for lease in live}
            holders = {lease.token: lease.container_name for lease in live}
        used = {uuid for uuid, _, _ in processes}
        for one in containers:
            if one.running:
                used |= {*reached(one.names, GPUS.devices), *specs.get(one.token or "", ())}
        assert used <= busy, "a device that is in use could be granted to somebody else"
        there = {one.id for one in containers}
        assert all(name is None or name in there for name in holders.values()), "a lease without its container"
        running = {one.token for one in containers if one.running}
        for lease in live:
            # A claim ends as a whole, when the last process has left the last of its devices.
            its = {other.device for other in live if other.token == lease.token}
            lingers = any(uuid in its and owner == lease.container_name for uuid, _, owner in processes)
            assert lease.state != "running" or lease.token in running or lingers, "it says it runs, and nothing does"
        again = reconcile(ledger, seen, files, hold_of=hold, unused_of=hold, group_of=group)
        assert again.lines == []
