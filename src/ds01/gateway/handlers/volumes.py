"""Volumes: local ones without options, each its owner's."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, jsonbody, names, target
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import images
from ds01.gateway.handlers.common import (
    labels,
    name_filter,
    read_filters,
    renamer,
    segments,
    shown,
    to_owner,
    with_filters,
)
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import empty, only, table, text

PER_PERSON: Final = 128
"""Volumes, with and without a name: each is a directory on the disk of all, and part of every list that is read."""
PER_CONTAINER: Final = 64
"""New ones that one container may bring along: they are all made while its owner's other requests wait."""
_FILTERS: Final = ("dangling", "driver", "label", "name")
_CREATE: Final = only(
    {"Name": text, "Driver": text, "DriverOpts": table(text), "Labels": table(text), "ClusterVolumeSpec": empty}
)


async def listing(exchange: Exchange, ownership: Ownership) -> None:
    """List the caller's volumes."""
    uid = exchange.caller.uid
    filters = read_filters(exchange, *_FILTERS)
    if "name" in filters:
        filters["name"] = [name_filter(pattern, uid) for pattern in filters["name"]]

    def change(answer: Any) -> Any:
        mine = [
            row for row in answer.get("Volumes") or [] if ownership.owner("volume", row["Name"], row["Name"]) == uid
        ]
        return {"Volumes": [_seen(exchange, row) for row in mine], "Warnings": answer.get("Warnings")}

    await exchange.forward(["volumes"], with_filters(exchange.query, filters), change=change)


async def create(exchange: Exchange, ownership: Ownership) -> None:
    """Make a volume, or answer the one that is there."""
    wanted = _CREATE(await exchange.json_body(), "") or {}
    check_driver(wanted.get("Driver"), wanted.get("DriverOpts"))
    engine_name = renamer(exchange, ownership)("volume", wanted.get("Name") or secrets.token_hex(32))
    content = jsonbody.write({"Name": engine_name, "Labels": labels(exchange, wanted.get("Labels"))})
    async with ownership.creating(exchange.caller.uid):
        check_room(exchange, ownership, [engine_name])
        await ownership.note("volume", engine_name, engine_name, exchange.caller.uid)
        await exchange.forward(
            ["volumes", "create"], content=content, change=lambda answer: _seen(exchange, answer),
            shown=shown(exchange, engine_name, wanted.get("Name", "")),
        )  # fmt: skip


def check_driver(driver: str | None, options: dict[str, str] | None) -> None:
    """See that a volume is only a directory of the engine's. Raises Refused."""
    if driver not in {None, "", "local"}:
        raise Refused(403, f"volume driver {driver!r} is not offered", "volume.driver", "use local")
    if options:
        raise Refused(
            403, "a volume with driver options can be any directory or device of the host", "volume.options",
            "leave the options out; bind a directory of yours with -v instead",
        )  # fmt: skip


def check_room(exchange: Exchange, ownership: Ownership, named: Iterable[str], unnamed: int = 0) -> None:
    """See that the caller may have more volumes: these, if they are not there, and so many without a name.

    Raises:
        Refused: They would have too many.
    """
    uid = exchange.caller.uid
    there = {name for _, name in ownership.owned("volume", uid)}
    new = len(set(named) - there) + unnamed
    if new > PER_CONTAINER:
        raise Refused(403, f"a container brings {PER_CONTAINER} new volumes at most, not {new}", "volume.count",
                      "use one volume with directories in it")  # fmt: skip
    if new and len(there) + new > PER_PERSON:
        raise Refused(
            403, f"you have {len(there)} volumes and may have {PER_PERSON}", "volume.count",
            "`docker volume ls` lists them, `docker volume prune --all` removes those that nothing uses",
        )  # fmt: skip


async def ensure(exchange: Exchange, ownership: Ownership, engine_name: str, given: dict[str, str] | None) -> None:
    """Make a volume that a container names, so that it is its owner's from the beginning. Raises Refused."""
    if ownership.owner("volume", engine_name, "") == exchange.caller.uid:
        return
    await ownership.note("volume", engine_name, engine_name, exchange.caller.uid)
    answer = await exchange.engine.ask(
        "POST",
        target.build(await exchange.version(), ["volumes", "create"]),
        content=jsonbody.write({"Name": engine_name, "Labels": labels(exchange, given)}),
        headers=[("Content-Type", "application/json")],
    )
    if not answer.ok:
        raise Refused(answer.head.status, f"the volume {owners.short(engine_name, exchange.caller.uid)} "
                      "could not be made", "engine.volume")  # fmt: skip


async def inspect(exchange: Exchange, ownership: Ownership) -> None:
    """Show a volume of the caller's."""
    engine_name, _ = await ownership.resolve("volume", exchange.names[0], exchange.caller.uid)
    await exchange.forward(
        segments(exchange, engine_name), change=lambda answer: _seen(exchange, answer),
        shown=shown(exchange, engine_name, exchange.names[0]),
    )  # fmt: skip


async def remove(exchange: Exchange, ownership: Ownership) -> None:
    """Remove a volume of the caller's."""
    try:
        engine_name, _ = await ownership.resolve("volume", exchange.names[0], exchange.caller.uid)
    except Refused as refusal:
        # Whoever forces wants it gone, and the engine is content when it is.
        if refusal.status != HTTPStatus.NOT_FOUND or exchange.parameter("force") not in images.TRUE:
            raise
        await exchange.answer(HTTPStatus.NO_CONTENT, b"")
        return
    head = await exchange.forward(
        segments(exchange, engine_name), exchange.query, shown=shown(exchange, engine_name, exchange.names[0])
    )
    if head.status in {204, 404}:
        await ownership.removed("volume", engine_name)


async def prune(exchange: Exchange, ownership: Ownership) -> None:
    """Remove the caller's volumes that nothing uses: those without a name, or all with `all`."""
    uid = exchange.caller.uid
    filters = read_filters(exchange, "all", "label", "label!")
    everything = bool(images.TRUE.intersection(filters.pop("all", [])))
    query = with_filters([], {"dangling": ["true"], **({"label": filters["label"]} if "label" in filters else {})})
    answer = await exchange.engine.get("volumes", query=query)
    sizes = await ownership.volume_sizes(uid)
    deleted, freed = [], 0
    for row in (json.loads(answer.content).get("Volumes") or []) if answer.ok else []:
        name = row["Name"]
        anonymous = names.ENGINE_ID.fullmatch(owners.short(name, uid)) is not None
        if ownership.owner("volume", name, name) != uid or not (everything or anonymous):
            continue
        path = target.build(await exchange.version(), ["volumes", name])
        if (await exchange.engine.ask("DELETE", path)).ok:
            await ownership.removed("volume", name)
            deleted.append(owners.short(name, uid))
            freed += sizes.get(name, 0)
    await exchange.answer(200, jsonbody.write({"VolumesDeleted": deleted, "SpaceReclaimed": freed}) + b"\n")


def _seen(exchange: Exchange, row: dict[str, Any]) -> dict[str, Any]:
    # Where it lies on the host is nobody's business, and nobody can go there.
    shown_row: dict[str, Any] = to_owner(exchange, row | {"Mountpoint": ""}, fields.VOLUME)
    return shown_row
