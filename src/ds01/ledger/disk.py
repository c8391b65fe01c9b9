"""What the containers, volumes and images of people take on the disk, as it was measured last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from .store import Transaction, View

DiskKind = Literal["container", "volume", "image"]
_MEASURED: Final = "disk use measured"


class DiskUse(NamedTuple):
    """One object; an image of several people counts for each of them."""

    uid: int
    kind: DiskKind
    engine_id: str
    name: str
    """As its owner knows it."""
    bytes: int


class _Total(NamedTuple):
    uid: int
    bytes: int


def measured(view: View) -> int | None:
    """Return when everything was measured last (UTC ms); None: never, so that nothing is known of anybody."""
    found = view.value("SELECT value FROM meta WHERE key = ?", (_MEASURED,))
    return None if found is None else int(found)


def replace(tx: Transaction, uses: Iterable[DiskUse]) -> None:
    """Keep a new measurement in place of the last one."""
    tx.change("DELETE FROM disk_use")
    for use in uses:
        tx.insert("disk_use", **use._asdict())
    tx.change("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_MEASURED, str(tx.now)))


def uses(view: View, uid: int | None = None) -> list[DiskUse]:
    """Return the objects of one person, or of all, the biggest first."""
    return view.rows(
        DiskUse, "SELECT * FROM disk_use WHERE :uid IS NULL OR uid = :uid ORDER BY bytes DESC, kind, name", {"uid": uid}
    )


def total(view: View, uid: int) -> int | None:
    """Return the bytes of one person; None while nothing was measured."""
    if measured(view) is None:
        return None
    return int(view.value("SELECT coalesce(sum(bytes), 0) FROM disk_use WHERE uid = ?", (uid,)))


def totals(view: View) -> dict[int, int]:
    """Return the bytes of everybody who has something, by uid."""
    found = view.rows(_Total, "SELECT uid, sum(bytes) AS bytes FROM disk_use GROUP BY uid")
    return {one.uid: one.bytes for one in found}
