"""Containers and execs: everything but create and start."""

from __future__ import annotations

import re
from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, jsonbody, names, tarball
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import build, gpus, images, inherited, mounts, networks
from ds01.gateway.handlers.common import (
    Lines,
    described,
    name_filter,
    own_label,
    read_filters,
    segments,
    shown,
    to_owner,
    with_filters,
    working_dir,
)
from ds01.gateway.handlers.create_fields import HOST
from ds01.gateway.handlers.limits import clamp_update
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Malformed, Refused, not_found
from ds01.gateway.shapes import decimal, flag, items, only, record, required, text, whole, words

_LIST_FILTERS: Final = (
    "ancestor", "before", "expose", "exited", "health", "id", "isolation", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
_NO_IMAGE: Final = f"sha256:{'0' * 64}"
_BUILDER: Final = "buildx_buildkit_"
_PS_ARGUMENTS: Final = re.compile(r"[-A-Za-z0-9,% ]*")
"""No `=`: with it another column is called PID, by which the engine tells the container's processes from all others."""
_EXEC: Final = record(
    {
        "User": text, "Privileged": flag, "Tty": flag, "ConsoleSize": items(whole(0, 65_535)), "AttachStdin": flag,
        "AttachStderr": flag, "AttachStdout": flag, "Detach": flag, "DetachKeys": text, "detachKeys": text,
        "Env": items(required(text)),
        "WorkingDir": text, "Cmd": words, "Container": text,
    }
)  # fmt: skip
"""`Container` is what old clients repeat of the path, where alone it counts; `detachKeys` is what the SDK for Python
writes."""
_EXEC_START: Final = only({"Detach": flag, "Tty": flag, "ConsoleSize": items(whole(0, 65_535))})
"""dockerode says here, too, how it wants its own connection."""
_UPDATED: Final = (
    "Memory", "MemorySwap", "MemoryReservation", "NanoCpus", "CpuShares", "CpuQuota", "CpuPeriod", "PidsLimit",
    "RestartPolicy",
)  # fmt: skip
_NOT_UPDATED: Final = (
    "CgroupParent", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuRealtimePeriod", "CpuRealtimeRuntime", "CpusetCpus",
    "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests", "KernelMemory", "KernelMemoryTCP",
    "MemorySwappiness", "OomKillDisable", "Ulimits", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth",
)  # fmt: skip
"""What clients send with every update, empty where nothing is to change; none of it is the owner's to change."""
_UPDATE: Final = record({name: HOST[name][0] for name in (*_UPDATED, *_NOT_UPDATED)})


async def passed(exchange: Exchange, ownership: Ownership) -> None:
    """Forward something about a container of the caller's."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    await exchange.forward(
        segments(exchange, engine_id), exchange.query, shown=shown(exchange, engine_id, exchange.names[0])
    )


async def attach(exchange: Exchange, ownership: Ownership) -> None:
    """Join a container of the caller's at its terminal."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    await inherited.see_harmless(exchange, await described(exchange, engine_id), starting=False)
    await passed(exchange, ownership)


async def listing(exchange: Exchange, ownership: Ownership) -> None:
    """List the caller's containers."""
    uid = exchange.caller.uid
    filters = read_filters(exchange, *_LIST_FILTERS)
    query = dict(exchange.query)
    if "name" in filters:
        filters["name"] = [name_filter(pattern, uid) for pattern in filters["name"]]
    for name in ("before", "since"):
        if query.get(name):
            query[name], _ = await ownership.resolve("container", query[name], uid)
        if name in filters:
            filters[name] = [(await ownership.resolve("container", typed, uid))[0] for typed in filters[name]]
    if "ancestor" in filters:
        filters["ancestor"] = [await _ancestor(exchange, typed) for typed in filters["ancestor"]]
    if "network" in filters:
        filters["network"] = [await _network(ownership, typed, uid) for typed in filters["network"]]
    if "volume" in filters:
        filters["volume"] = [
            typed if typed.startswith("/") else f"{owners.short(typed, uid)}{owners.SUFFIX}{uid}"
            for typed in filters["volume"]
        ]
    # Counted after the filter; the engine would count everybody's.
    wanted = decimal(query.pop("limit", "")) or 0
    if wanted:
        query["all"] = "1"

    def change(answer: Any) -> Any:
        mine = [row for row in answer if ownership.owner("container", row["Id"], _engine_name(row)) == uid]
        rows = mine[:wanted] if wanted else mine
        seen = [to_owner(exchange, mounts.as_typed(row), fields.CONTAINER) for row in rows]
        return [row | {"Image": images.as_typed(str(row["Image"]), row.get("Labels") or {})} for row in seen]

    await exchange.forward(["containers", "json"], with_filters(list(query.items()), filters), change=change)


async def inspect(exchange: Exchange, ownership: Ownership) -> None:
    """Show a container of the caller's."""
    _no_builder(exchange)
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    await exchange.forward(
        segments(exchange, engine_id), exchange.query, shown=shown(exchange, engine_id, exchange.names[0]),
        change=lambda answer: _seen(exchange, answer),
    )  # fmt: skip


def _no_builder(exchange: Exchange) -> None:
    """Refuse BuildKit where clients look for their builder or use it: they print this, and not the first refusal."""
    if exchange.names[0].startswith(_BUILDER):
        raise Refused(403, build.BUILDKIT, "build.buildkit", build.INSTEAD)


async def top(exchange: Exchange, ownership: Ownership) -> None:
    """Show processes; the engine runs ps as root with what it is given."""
    arguments = exchange.parameter("ps_args") or ""
    if not _PS_ARGUMENTS.fullmatch(arguments):
        raise Refused(400, f"ps_args: {arguments[:40]!r}: expected letters, digits and - , %", "container.top")
    await passed(exchange, ownership)


async def rename(exchange: Exchange, ownership: Ownership) -> None:
    """Give a container another name of the caller's."""
    uid = exchange.caller.uid
    engine_id, _ = await ownership.resolve("container", exchange.names[0], uid)
    engine_name = names.to_engine(exchange.parameter("name") or "", uid)
    await exchange.forward(
        segments(exchange, engine_id), [("name", engine_name)], shown=shown(exchange, engine_id, exchange.names[0]),
        before=lambda: ownership.note("container", engine_id, engine_name, uid),
    )  # fmt: skip


async def update(exchange: Exchange, ownership: Ownership) -> None:
    """Change the limits of a container, within those of its owner."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    given = _UPDATE(await exchange.json_body(), "") or {}
    # The engine, too, takes what is empty as left alone.
    wanted = {name: value for name, value in given.items() if value and value != {"Name": "", "MaximumRetryCount": 0}}
    for name in wanted:
        if name not in _UPDATED:
            raise Refused(403, f"{name} of a container cannot be changed", "update.field", "make a new container")
    warnings: list[str] = []
    changed = clamp_update(wanted, await exchange.people.limits(exchange.caller.person), warnings)
    await exchange.forward(
        segments(exchange, engine_id), content=jsonbody.write(changed),
        change=lambda answer: answer | {"Warnings": [*(answer.get("Warnings") or []), *warnings]},
        shown=shown(exchange, engine_id, exchange.names[0]),
    )  # fmt: skip


async def stats(exchange: Exchange, ownership: Ownership) -> None:
    """Stream what a container uses, by the name its owner gave it."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    rename = Lines(lambda row: to_owner(exchange, row, fields.STATS))
    with exchange.shared.stats.held(exchange.caller.uid):
        await exchange.forward(
            segments(exchange, engine_id), exchange.query, stream=rename,
            shown=shown(exchange, engine_id, exchange.names[0]),
        )  # fmt: skip


async def get_archive(exchange: Exchange, ownership: Ownership) -> None:
    """Pack files of a container: the engine goes through its binds for that, as it does to start it."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    await mounts.renew(exchange, await described(exchange, engine_id), missing_only=True)
    await passed(exchange, ownership)


async def put_archive(exchange: Exchange, ownership: Ownership) -> None:
    """Unpack a tar stream in a container; a packed one would run the container's own unpacker as root."""
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    await mounts.renew(exchange, await described(exchange, engine_id), missing_only=True)
    await exchange.forward(
        segments(exchange, engine_id), exchange.query, upload="application/x-tar", look=_plain_tar,
        shown=shown(exchange, engine_id, exchange.names[0]),
    )  # fmt: skip


async def remove(exchange: Exchange, ownership: Ownership) -> None:
    """Remove a container of the caller's."""
    engine_id, engine_name = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    query = [(name, value) for name, value in exchange.query if name != "link"]
    exchange.gpus.ended()
    head = await exchange.forward(
        segments(exchange, engine_id), query, shown=shown(exchange, engine_id, exchange.names[0])
    )
    if head.status in {204, 404}:
        exchange.gpus.removed(engine_id)
        await ownership.removed("container", engine_id)
        if head.status == 204:  # noqa: PLR2004 - gone now
            await exchange.audit.record(
                "container.remove", exchange.caller, {"kind": "container", "name": engine_name, "id": engine_id},
                "allowed",
            )  # fmt: skip


async def prune(exchange: Exchange, ownership: Ownership) -> None:
    """Remove the caller's stopped containers; the label says whose they are."""
    filters = read_filters(exchange, "until", "label", "label!")
    filters["label"] = [*filters.get("label", []), own_label(exchange)]
    gone: list[str] = []

    def change(answer: Any) -> Any:
        gone.extend(answer.get("ContainersDeleted") or [])
        return answer

    async def forget() -> None:
        for engine_id in gone:
            exchange.gpus.removed(engine_id)
            await ownership.removed("container", engine_id)

    async with exchange.shared.prunes["container"]:
        await exchange.forward(["containers", "prune"], with_filters([], filters), change=change, before=forget)


async def create_exec(exchange: Exchange, ownership: Ownership) -> None:
    """Prepare a further process in a container of the caller's."""
    _no_builder(exchange)
    engine_id, _ = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    wanted = _EXEC(await exchange.json_body(), "") or {}
    wanted.pop("Container", None)
    if keys := wanted.pop("detachKeys", None):
        wanted["DetachKeys"] = keys
    if wanted.pop("Privileged", False):
        raise Refused(403, "a privileged exec has the rights of the host", "exec.privileged", "leave --privileged out")
    working_dir(wanted.get("WorkingDir", ""))
    await inherited.see_harmless(exchange, await described(exchange, engine_id), starting=False)
    await exchange.forward(
        segments(exchange, engine_id), content=jsonbody.write(wanted),
        shown=shown(exchange, engine_id, exchange.names[0]),
    )  # fmt: skip


async def start_exec(exchange: Exchange, ownership: Ownership) -> None:
    """Start a prepared process; the stream is raw only when the engine says so."""
    exec_id = await _own_exec(exchange, ownership)
    wanted = _EXEC_START(await exchange.json_body(), "") or {}
    await exchange.forward(segments(exchange, exec_id), content=jsonbody.write(wanted))


async def passed_exec(exchange: Exchange, ownership: Ownership) -> None:
    """Forward something about a process that the caller prepared."""
    await exchange.forward(segments(exchange, await _own_exec(exchange, ownership)), exchange.query)


async def _own_exec(exchange: Exchange, ownership: Ownership) -> str:
    exec_id = exchange.names[0]
    if not names.ENGINE_ID.fullmatch(exec_id):
        raise not_found("exec", exec_id)
    answer = await exchange.engine.get("exec", exec_id, "json")
    container = str(answer.json().get("ContainerID")) if answer.ok else ""
    if ownership.owner("container", container, "") != exchange.caller.uid:
        raise not_found("exec", exec_id)
    return exec_id


async def _ancestor(exchange: Exchange, typed: str) -> str:
    try:
        return (await images.find(exchange, typed)).identity
    except Refused as refusal:
        if refusal.status != 404:  # noqa: PLR2004 - nothing of the caller's is made from it
            raise
        return _NO_IMAGE


async def _network(ownership: Ownership, typed: str, uid: int) -> str:
    try:
        return (await ownership.resolve("network", typed, uid))[0]
    except Refused as refusal:
        if refusal.status != 404:  # noqa: PLR2004 - then it filters for nothing, or for a predefined one
            raise
        return typed


def _seen(exchange: Exchange, answer: Any) -> Any:
    uid = exchange.caller.uid
    typed = mounts.as_typed(networks.as_named(networks.as_default(answer, uid), uid))
    found = gpus.as_asked(to_owner(exchange, typed, fields.CONTAINER))
    config = found.get("Config") or {}
    if config.get("Image"):
        config["Image"] = images.as_typed(str(config["Image"]), config.get("Labels") or {})
    return found


def _engine_name(row: dict[str, Any]) -> str:
    # A container that others link to has a second name, /other/alias.
    return next((name[1:] for name in row.get("Names") or [] if name.count("/") == 1), "")


def _plain_tar(beginning: bytes) -> None:
    if not tarball.begins(beginning):
        raise Malformed("the archive is packed, or no tar file: send a plain tar stream, as docker cp does", 415)
