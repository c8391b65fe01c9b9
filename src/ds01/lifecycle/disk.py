"""The job that measures the disk space of people's containers, volumes and images. Nothing is stopped or removed.

The gateway refuses more to who is beyond the limit (`room`); `ds01.notify` tells people beforehand.
"""

from __future__ import annotations

from typing import Final

from ds01.engine.api import Engine
from ds01.ledger import JOB_DEADLINE_S, Ledger, disk, objects
from ds01.lifecycle.acts import Outcome
from ds01.lifecycle.passes import Place, wait_for_engine
from ds01.monitor.disk import measure
from ds01.policy.units import rounded_size

_MEASURE_S: Final = 270.0
"""Seconds for the engine to look through all files: with its waits for engine and ledger less than a job may take."""


def account(place: Place | None = None, *, dry_run: bool = False) -> Outcome:
    """Wait a while for the engine, measure what everybody has, and keep it.

    Raises:
        EngineUnavailableError: It cannot be measured: the last measurement counts.
        LedgerError: The ledger cannot be used.
    """
    where = place or Place()
    with Ledger(where.ledger, clock=where.clock, deadline_s=JOB_DEADLINE_S) as ledger:
        with ledger.read() as view:
            owners = {(row.kind, row.engine_id): row.uid for row in objects.listing(view)}
        wait_for_engine(Engine(where.engine), where.patience_s)
        found = measure(Engine(where.engine, timeout=_MEASURE_S), owners)
        if not dry_run:
            with ledger.transaction() as tx:
                disk.replace(tx, found)
    people = len({use.uid for use in found})
    return Outcome([f"{len(found)} objects of {people} people take {rounded_size(sum(use.bytes for use in found))}"])
