"""Whose an object of the engine is, and which of a person's objects a name means.

The ledger says it; a copy in memory answers. Names carry their owner too (`names`), and only the gateway gives them
out, so an object whose row was not written, because the gateway ended at that moment or the ledger cannot be used, is
still its owner's; the reconciler writes the row.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from ds01.engine import owners
from ds01.gateway import target
from ds01.gateway.engine import Engine
from ds01.gateway.refusals import Refused, not_found
from ds01.gateway.workers import Workers
from ds01.ledger import Ledger, LedgerError, devices, disk, objects
from ds01.ledger.disk import DiskUse
from ds01.ledger.rows import DeviceRow, ObjectKind, OwnedObject

_LEDGER_S: Final = 6.0
"""Seconds: a little more than a transaction of the ledger may take by itself."""
_PREFIX_LEAST: Final = 1
_HEX: Final = frozenset("0123456789abcdef")

_Row = TypeVar("_Row")
log = logging.getLogger(__name__)
Kinds: Final[tuple[ObjectKind, ...]] = ("container", "volume", "network")


class Ownership:
    """Who owns what."""

    def __init__(self, ledger: Ledger, engine: Engine) -> None:
        """Take the ledger, which one thread of this object uses, and the engine."""
        self._ledger = ledger
        self._engine = engine
        self._workers = Workers("the ledger", 1, _LEDGER_S)
        self._creating: dict[int, asyncio.Lock] = {}
        self._rows: dict[ObjectKind, dict[str, tuple[str, int | None]]] = {kind: {} for kind in (*Kinds, "image")}
        self._mine: dict[tuple[ObjectKind, int], dict[str, str]] = {}
        """The same by owner: id and engine name."""
        self._gone: deque[tuple[ObjectKind, str]] = deque()
        """What the ledger still says to be there."""
        self._noting: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Read the ledger; without one, only what carries its owner is somebody's."""
        for row in await self._known_to_ledger(self._listing):
            if row.kind in self._rows:
                self._put(row.kind, row.engine_id, row.name, row.uid)

    def owners(self, kind: ObjectKind) -> set[int]:
        """Who has such an object."""
        return {uid for of, uid in self._mine if of == kind}

    async def compare(self) -> None:
        """Compare with the engine: what is gone is noted, what carries its owner is adopted.

        Raises:
            Refused: The engine does not answer.
        """
        for name in list(self._rows["image"]):
            # A push under way has begun with what the name meant; one that is not any more must not leave it.
            await self.put_back(name)
        for kind in Kinds:
            # What is made while the engine answers is in one and not in the other.
            known = set(self._rows[kind])
            there = dict(await self._there(kind))
            for engine_id in known - set(there):
                await self._missing(kind, engine_id)
            for engine_id, name in there.items():
                owner = owners.uid_in_name(name)
                if owner is not None and engine_id not in self._rows[kind]:
                    await self.note(kind, engine_id, name, owner)

    def owner(self, kind: ObjectKind, engine_id: str, engine_name: str) -> int | None:
        """Whose an object is; None is nobody's that we know."""
        known = self._rows[kind].get(engine_id)
        return known[1] if known is not None else owners.uid_in_name(engine_name)

    def known(self, kind: ObjectKind, engine_id: str) -> bool:
        """Whether there is a row for an object."""
        return engine_id in self._rows[kind]

    def owned(self, kind: ObjectKind, uid: int) -> list[tuple[str, str]]:
        """Return id and engine name of everything that somebody has now."""
        return list(self._mine.get((kind, uid), {}).items())

    async def resolve(self, kind: ObjectKind, typed: str, uid: int) -> tuple[str, str]:
        """Return id and engine name of the object that a person means: by id, either spelling, or the start of its id.

        Raises:
            Refused: They have no such object; somebody else's is no different.
        """
        if (found := self._find(kind, typed, uid)) is not None:
            return found
        # Somebody else may have written to the ledger: the reconciler adopts, another gateway process drains.
        for row in await self._known_to_ledger(lambda: self._listing(kind, uid)):
            if row.engine_id not in self._rows[kind] and (kind, row.engine_id) not in self._gone:
                self._put(kind, row.engine_id, row.name, row.uid)
        if (found := self._find(kind, typed, uid)) is None:
            raise not_found(kind, typed)
        return found

    async def note(self, kind: ObjectKind, engine_id: str, name: str, uid: int) -> None:
        """Note an object and its owner."""
        self._put(kind, engine_id, name, uid)

        def write() -> None:
            with self._ledger.transaction() as tx:
                objects.note(tx, kind, engine_id, name, uid)

        await self._write(write)

    async def removed(self, kind: ObjectKind, engine_id: str) -> None:
        """Note that an object is gone."""
        self._drop(kind, engine_id)

        def write() -> None:
            with self._ledger.transaction() as tx:
                objects.remove(tx, kind, engine_id)

        await self._write(write)

    def destroyed(self, kind: ObjectKind, engine_id: str) -> None:
        """Note that the engine says that an object is gone; soon, so that nobody waits for disk and ledger.

        Of a volume it may be an old story: its name is its id, and somebody may have made one of that name since.
        """
        if kind != "volume":
            self._drop(kind, engine_id)
        self._gone.append((kind, engine_id))
        if self._noting is None or self._noting.done():
            self._noting = asyncio.get_running_loop().create_task(self._note_gone())

    async def put_back(self, reference: str) -> None:
        """Let a name of a registry mean what it meant before an image got it to be pushed. Raises Refused."""
        before, _ = self._rows["image"].get(reference, ("", None))
        segments: list[str] = ["images", *reference.split("/")]
        repository, _, tag = reference.rpartition(":")
        if before:
            segments = ["images", before, "tag"]
        path = target.build(
            await self._engine.version(), segments, [("repo", repository), ("tag", tag)] if before else []
        )
        await self._engine.ask("POST" if before else "DELETE", path)
        await self.removed("image", reference)

    async def disk_uses(self, uid: int) -> list[DiskUse]:
        """Return what somebody's objects took when that was measured last; nothing where that is not known."""

        def read() -> list[DiskUse]:
            with self._ledger.read() as view:
                return disk.uses(view, uid)

        return await self._known_to_ledger(read)

    async def volume_sizes(self, uid: int) -> dict[str, int]:
        """Return the bytes of somebody's volumes by name, measured last: none is walked for a question."""
        return {use.engine_id: use.bytes for use in await self.disk_uses(uid) if use.kind == "volume"}

    async def has_gpus(self) -> bool:
        """Whether this host has any GPU that people may have."""

        def read() -> list[DeviceRow]:
            with self._ledger.read() as view:
                return devices.devices(view)

        return bool(await self._known_to_ledger(read))

    def creating(self, uid: int) -> asyncio.Lock:
        """What somebody holds between counting their objects and making one more."""
        return self._creating.setdefault(uid, asyncio.Lock())

    def close(self) -> None:
        """Let go of the thread."""
        self._workers.close()

    async def _note_gone(self) -> None:
        # One after the other: hundreds at a time would take all the places in which others' questions wait.
        while self._gone:
            try:
                await self._missing(*self._gone[0])
            except Refused as error:
                log.warning("what is gone is found out later: %s", error)
            finally:
                self._gone.popleft()

    async def _missing(self, kind: ObjectKind, engine_id: str) -> None:
        """Note that an object is gone, unless it is a volume, noted before it is made, that came to be meanwhile."""
        name, uid = self._rows[kind].get(engine_id, ("", None))
        if kind == "volume" and uid is not None:
            async with self.creating(uid):
                if (await self._engine.get("volumes", name)).ok:
                    return
        await self.removed(kind, engine_id)

    def _put(self, kind: ObjectKind, engine_id: str, name: str, uid: int | None) -> None:
        self._drop(kind, engine_id)
        self._rows[kind][engine_id] = (name, uid)
        if uid is not None:
            self._mine.setdefault((kind, uid), {})[engine_id] = name

    def _drop(self, kind: ObjectKind, engine_id: str) -> None:
        _, uid = self._rows[kind].pop(engine_id, ("", None))
        if uid is not None:
            del self._mine[kind, uid][engine_id]
            if not self._mine[kind, uid]:
                del self._mine[kind, uid]

    def _find(self, kind: ObjectKind, typed: str, uid: int) -> tuple[str, str] | None:
        mine = self._mine.get((kind, uid), {})
        if typed in mine:
            return typed, mine[typed]
        engine_name = f"{typed}{owners.SUFFIX}{uid}"
        for wanted in (engine_name, typed):
            for engine_id, name in mine.items():
                if name == wanted:
                    return engine_id, name
        if kind == "volume" or len(typed) < _PREFIX_LEAST or not _HEX.issuperset(typed):
            return None
        matches = [engine_id for engine_id in mine if engine_id.startswith(typed)]
        if len(matches) > 1:
            raise Refused(400, f"multiple IDs found with provided prefix: {typed}", f"owner.{kind}")
        return (matches[0], mine[matches[0]]) if matches else None

    def _listing(self, kind: ObjectKind | None = None, uid: int | None = None) -> list[OwnedObject]:
        with self._ledger.read() as view:
            return objects.listing(view, kind, uid)

    async def _there(self, kind: ObjectKind) -> Iterable[tuple[str, str]]:
        """What the engine has: id and name; volumes have only names."""
        answers: dict[ObjectKind, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
            "container": (("containers", "json"), (("all", "1"),)),
            "volume": (("volumes",), ()),
            "network": (("networks",), ()),
        }
        segments, query = answers[kind]
        found: Any = (await self._engine.get(*segments, query=query)).json()
        if kind == "container":
            return [(row["Id"], row["Names"][0].lstrip("/")) for row in found if row.get("Names")]
        if kind == "volume":
            return [(row["Name"], row["Name"]) for row in found.get("Volumes") or []]
        return [(row["Id"], row["Name"]) for row in found]

    async def _known_to_ledger(self, listing: Callable[[], list[_Row]]) -> list[_Row]:
        """Return rows of the ledger, none where it cannot be read: what was adopted is nobody's until it can."""
        try:
            return await self._workers.ask(listing)
        except (LedgerError, Refused) as error:
            log.warning("what only the ledger knows is not known now: %s", error)
            return []

    async def _write(self, write: Callable[[], None]) -> None:
        try:
            await self._workers.ask(write)
        except (LedgerError, Refused) as error:
            log.warning("a row is left to the reconciler: %s", error)
