"""Whose each container, volume, network and image is."""

from __future__ import annotations

from .rows import ObjectKind, OwnedObject
from .store import Transaction, View


def note(
    tx: Transaction, kind: ObjectKind, engine_id: str, name: str, uid: int | None, *, legacy: bool = False
) -> None:
    """Note an object and its owner; None is nobody. One with the id of a removed one takes its place.

    An owner who is known stays: objects do not change hands by being seen again.
    """
    tx.change(
        "INSERT INTO objects VALUES (:kind, :id, :name, :uid, :now, NULL, :legacy)"
        " ON CONFLICT DO UPDATE SET name = excluded.name,"
        " uid = iif(removed IS NULL, coalesce(uid, excluded.uid), excluded.uid),"
        " created = iif(removed IS NULL, created, excluded.created),"
        " legacy = iif(removed IS NULL, legacy, excluded.legacy), removed = NULL",
        {"kind": kind, "id": engine_id, "name": name, "uid": uid, "now": tx.now, "legacy": legacy},
    )
    _name_claim(tx, kind, engine_id, name)


def rename(tx: Transaction, kind: ObjectKind, engine_id: str, name: str) -> None:
    """Note the name that an object has now."""
    tx.change("UPDATE objects SET name = ? WHERE (kind, engine_id) = (?, ?)", (name, kind, engine_id))
    _name_claim(tx, kind, engine_id, name)


def _name_claim(tx: Transaction, kind: ObjectKind, engine_id: str, name: str) -> None:
    # Whoever renames a container comes through here: its devices are found by the name that it has.
    if kind == "container":
        tx.change("UPDATE claims SET container_name = ? WHERE container_id = ?", (name, engine_id))


def give(tx: Transaction, kind: ObjectKind, engine_id: str, uid: int | None) -> bool:
    """Make somebody else the owner. Returns whether there is such an object."""
    return bool(
        tx.change(
            "UPDATE objects SET uid = ? WHERE (kind, engine_id) = (?, ?) AND removed IS NULL", (uid, kind, engine_id)
        )
    )


def remove(tx: Transaction, kind: ObjectKind, engine_id: str) -> bool:
    """Note that an object is gone. Returns whether it was there."""
    return bool(
        tx.change(
            "UPDATE objects SET removed = ? WHERE (kind, engine_id) = (?, ?) AND removed IS NULL",
            (tx.now, kind, engine_id),
        )
    )


def find(view: View, kind: ObjectKind, engine_id: str) -> OwnedObject | None:
    """Return an object that exists, or None."""
    return view.row(
        OwnedObject,
        "SELECT * FROM objects WHERE (kind, engine_id) = (?, ?) AND removed IS NULL",
        (kind, engine_id),
    )


def named(view: View, kind: ObjectKind, name: str) -> OwnedObject | None:
    """Return an object that exists by its engine name, or None."""
    return view.row(OwnedObject, "SELECT * FROM objects WHERE (kind, name) = (?, ?) AND removed IS NULL", (kind, name))


def listing(view: View, kind: ObjectKind | None = None, uid: int | None = None) -> list[OwnedObject]:
    """Return the objects that exist, of one kind or owner if given."""
    return view.rows(
        OwnedObject,
        "SELECT * FROM objects WHERE removed IS NULL AND (:kind IS NULL OR kind = :kind)"
        " AND (:uid IS NULL OR uid = :uid) ORDER BY kind, name",
        {"kind": kind, "uid": uid},
    )
