"""Measure what people's containers, volumes and images take. It takes the engine minutes, so nobody waits for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from ds01.engine.api import Engine, NoSuchObjectError
from ds01.engine.owners import OWN_IMAGE, short, uid_in_image, uid_in_name
from ds01.ledger.disk import DiskUse
from ds01.ledger.rows import ObjectKind
from ds01.monitor.layers import Layers, OwnImage, shares, sizes, stored

_UID: Final = "ds01.uid"
_MEASURE: Final = "/system/df?type=container&type=volume&type=image"
_DIGITS: Final = 12


def measure(engine: Engine, owners: Mapping[tuple[ObjectKind, str], int | None]) -> list[DiskUse]:
    """Return what everybody's objects take.

    Args:
        engine: The engine; it walks through all files, so it needs time.
        owners: Who owns which object of the engine, by kind and id, as the ledger says.

    Raises:
        EngineUnavailableError: It does not answer, or does not know the size of something: then nothing is known.
    """
    found = engine.get(_MEASURE)
    info = engine.info()
    root = Path(str(info.get("DockerRootDir", "")))
    result: list[DiskUse] = []
    for row in found.get("Containers") or []:
        name = str((row.get("Names") or ["/"])[0]).lstrip("/")
        uid = _owner(owners.get(("container", row["Id"])), row, name)
        if uid is not None:
            used = int(row.get("SizeRw") or 0) + _logs(root / "containers" / row["Id"])
            result.append(DiskUse(uid, "container", row["Id"], short(name, uid), used))
    for row in found.get("Volumes") or []:
        name = str(row["Name"])
        uid = _owner(owners.get(("volume", name)), row, name)
        used = int((row.get("UsageData") or {}).get("Size", -1))
        # Below 0: the engine could not look. It will be seen the next time; a limit is not hit by a guess.
        if uid is not None and used >= 0:
            result.append(DiskUse(uid, "volume", name, short(name, uid), used))
    store = root / "image" / str(info.get("Driver", ""))
    return [*result, *_images(engine, store, found.get("Images") or [])]


def _owner(known: int | None, row: Mapping[str, Any], name: str) -> int | None:
    if known is not None:
        return known
    label = str((row.get("Labels") or {}).get(_UID, ""))
    return int(label) if label.isdecimal() else uid_in_name(name)


def _logs(directory: Path) -> int:
    """Return the bytes of a container's log; one that never ran has none."""
    total = 0
    try:
        for path in directory.glob("*-json.log*"):
            total += path.stat().st_size
    except OSError:
        # It goes away at this moment.
        return total
    return total


def _images(engine: Engine, store: Path, rows: list[dict[str, Any]]) -> list[DiskUse]:
    everybodys: list[Layers] = []
    own: dict[int, dict[str, OwnImage]] = {}
    names: dict[tuple[int, str], str] = {}
    for row in rows:
        tags = [str(tag) for tag in row.get("RepoTags") or [] if tag != "<none>:<none>"]
        people = {uid_in_image(tag) for tag in tags}
        if not tags:
            # What is left of a build that failed: each of its steps carries whose it is.
            label = str((row.get("Labels") or {}).get(_UID, ""))
            people = {int(label) if label.isdecimal() else None}
        try:
            identity = str(row["Id"])
            layers: Layers = tuple(engine.get(f"/images/{quote(identity)}/json")["RootFS"].get("Layers") or ())
            if None in people:
                everybodys.append(layers)
                continue
            taken = stored(store, layers)
            if taken is None:
                taken = sizes(layers, engine.get(f"/images/{quote(identity)}/history"))
            image = OwnImage(identity, layers, taken)
        except NoSuchObjectError:
            continue
        for uid in people:
            if uid is not None:
                own.setdefault(uid, {})[identity] = image
                names[uid, identity] = _image_name(identity, [tag for tag in tags if uid_in_image(tag) == uid])
    return [
        DiskUse(uid, "image", identity, names[uid, identity], used)
        for uid, images in own.items()
        for identity, used in shares(images.values(), everybodys).items()
    ]


def _image_name(identity: str, tags: list[str]) -> str:
    for tag in tags:
        match = OWN_IMAGE.match(tag)
        # Those without a name are kept by one that is their id.
        if match is None or identity.removeprefix("sha256:") not in match[2]:
            return match[2] if match else tag
    return identity.removeprefix("sha256:")[:_DIGITS]
