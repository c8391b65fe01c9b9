"""The disk space of the caller's own things, and giving it back."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ds01.gateway import fields, jsonbody, references
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import images
from ds01.gateway.handlers.common import own_label, read_filters, to_owner, with_filters
from ds01.gateway.handlers.images import Image
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused

_PRUNE_FILTERS: Final = ("dangling", "until", "label")
_UNKNOWN: Final = -1
"""What the API says for a size that nobody has measured yet."""


async def prune(exchange: Exchange, ownership: Ownership) -> None:
    """Remove the caller's images that no container uses: those without a name, or all."""
    del ownership
    filters = read_filters(exchange, *_PRUNE_FILTERS)
    only_unnamed = images.TRUE.issuperset(filters.pop("dangling", ["true"]))
    uid = exchange.caller.uid
    removed: list[dict[str, str]] = []
    freed = 0
    for row in await _own_images(exchange, with_filters([("shared-size", "1")], filters)):
        found = Image(str(row["Id"]), str(row["Id"]), row)
        own = found.own(uid)
        if only_unnamed and not all(references.untagged(name) for name in own):
            continue
        try:
            gone = await images.remove_names(exchange, found, own)
        except Refused as refusal:
            if refusal.status != 409:  # noqa: PLR2004 - a container uses it
                raise
            continue
        removed += gone
        if any("Deleted" in entry for entry in gone):
            freed += _alone(row)
    await exchange.answer(200, jsonbody.write({"ImagesDeleted": removed or None, "SpaceReclaimed": freed}))


async def prune_builds(exchange: Exchange, ownership: Ownership) -> None:
    """Say that nothing of the caller's is left over from builds, as `docker system prune` wants to hear at its end."""
    del ownership
    await exchange.answer(200, jsonbody.write({"CachesDeleted": [], "SpaceReclaimed": 0}))


async def disk_usage(exchange: Exchange, ownership: Ownership) -> None:
    """Say what the caller's own images, containers and volumes take."""
    wanted = {value for key, value in exchange.query if key == "type"} or {
        "image",
        "container",
        "volume",
        "build-cache",
    }
    uid, engine = exchange.caller.uid, exchange.engine
    query = with_filters([("all", "1"), ("size", "1")], {"label": [own_label(exchange)]})
    containers: list[dict[str, Any]] = [
        row for row in (await engine.get("containers", "json", query=query)).json()
        if ownership.owner("container", str(row["Id"]), "") == uid
    ]  # fmt: skip
    used = Counter(mount.get("Name") for row in containers for mount in row.get("Mounts") or [])
    answer: dict[str, Any] = {}
    if "image" in wanted:
        rows = await _own_images(exchange, [("shared-size", "1")])
        for row in rows:
            row["Containers"] = sum(box.get("ImageID") == row["Id"] for box in containers)
        answer["LayersSize"] = sum(_alone(row) for row in rows)
        answer["Images"] = [
            row | {name: images.names(exchange, row.get(name) or []) for name in ("RepoTags", "RepoDigests")}
            for row in rows
        ]
    if "container" in wanted:
        answer["Containers"] = [to_owner(exchange, row, fields.CONTAINER) for row in containers]
    if "volume" in wanted:
        sizes = await ownership.volume_sizes(uid)
        answer["Volumes"] = [
            await _volume(exchange, name, {"Size": sizes.get(name, _UNKNOWN), "RefCount": used[name]})
            for _, name in ownership.owned("volume", uid)
        ]
    if "build-cache" in wanted:
        answer |= {"BuildCache": [], "BuilderSize": 0}
    await exchange.answer(200, jsonbody.write(answer))


async def _own_images(exchange: Exchange, query: list[tuple[str, str]]) -> list[dict[str, Any]]:
    uid = exchange.caller.uid
    rows = (await exchange.engine.get("images", "json", query=query)).json()
    return [row for row in rows if Image("", "", row).own(uid)]


async def _volume(exchange: Exchange, name: str, usage: dict[str, int]) -> dict[str, Any]:
    found = (await exchange.engine.get("volumes", name)).json()
    shown: dict[str, Any] = to_owner(exchange, found, fields.VOLUME)
    return shown | {"UsageData": usage}


def _alone(row: dict[str, Any]) -> int:
    """Bytes that only this image takes."""
    return max(int(row["Size"]) - max(int(row.get("SharedSize") or 0), 0), 0)
