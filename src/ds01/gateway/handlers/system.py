"""The engine as a whole: versions, facts about the host, events."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, references, target
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import images
from ds01.gateway.handlers.common import Filters, Lines, read_filters, to_owner, with_filters
from ds01.gateway.ownership import Kinds, Ownership
from ds01.gateway.refusals import Refused
from ds01.gateway.target import NEWEST
from ds01.ledger.rows import ObjectKind

_INFO: Final = (
    "ID", "Driver", "MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit",
    "IPv4Forwarding", "LoggingDriver", "CgroupDriver", "CgroupVersion", "KernelVersion", "OperatingSystem", "OSVersion",
    "OSType", "Architecture", "NCPU", "MemTotal", "IndexServerAddress", "Name", "ServerVersion", "Runtimes",
    "DefaultRuntime", "SecurityOptions", "Isolation", "InitBinary", "SystemTime",
)  # fmt: skip
"""What /info says to people. Counts, registries, labels, paths and the swarm are the administrator's."""
_NVIDIA: Final = {"nvidia": {"path": "nvidia-container-runtime"}}
_GPU_LIMITS: Final = ("max_mig_instances", "max_gpu_equivalents", "max_gpus_per_container")
_EVENT_FILTERS: Final = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
)  # fmt: skip


async def ping(exchange: Exchange, ownership: Ownership) -> None:
    """Answer as the engine does."""
    del ownership
    await exchange.repeat(await exchange.engine.greeting())


async def version(exchange: Exchange, ownership: Ownership) -> None:
    """Say the newest version that we know too."""
    del ownership

    def change(answer: Any) -> Any:
        for place in (answer, *(part.get("Details") or {} for part in answer.get("Components") or [])):
            if "ApiVersion" in place:
                major, _, minor = str(place["ApiVersion"]).partition(".")
                place["ApiVersion"] = target.text(min(NEWEST, (int(major), int(minor))))
        return answer

    await exchange.forward(["version"], change=change)


async def info(exchange: Exchange, ownership: Ownership) -> None:
    """Say what clients need to know about the engine, with the caller's own counts."""
    counts = await _counts(exchange, ownership)
    more = _NVIDIA if await _may_have_gpus(exchange, ownership) else {}

    def change(answer: Any) -> Any:
        kept = {name: answer[name] for name in _INFO if name in answer}
        return kept | counts | {
            "Runtimes": kept.get("Runtimes", {}) | more,
            "Plugins": {"Volume": ["local"], "Network": ["bridge", "none"], "Authorization": None, "Log": ["local"]},
            "Swarm": {"LocalNodeState": "inactive"},
            "RegistryConfig": {},
            "Warnings": None,
            "Debug": False,
            "ExperimentalBuild": False,
        }  # fmt: skip

    await exchange.forward(["info"], change=change)


async def _may_have_gpus(exchange: Exchange, ownership: Ownership) -> bool:
    """Whether NVIDIA's runtime is among those that the caller sees: by it dev containers decide to ask for a GPU."""
    try:
        values = (await exchange.people.limits(exchange.caller.person)).values
    except Refused:
        return False
    return not any(values[name] == 0 for name in _GPU_LIMITS) and await ownership.has_gpus()


async def _counts(exchange: Exchange, ownership: Ownership) -> dict[str, int]:
    """How many containers are the caller's, and how many images `docker images` shows them. Raises Refused."""
    uid = exchange.caller.uid
    rows = (await exchange.engine.get("containers", "json", query=[("all", "1")])).json()
    states = Counter(row["State"] for row in rows if ownership.owner("container", row["Id"], "") == uid)
    there = (await exchange.engine.get("images", "json")).json()
    return {
        "Containers": states.total(),
        "ContainersRunning": states["running"],
        "ContainersPaused": states["paused"],
        "ContainersStopped": states.total() - states["running"] - states["paused"],
        "Images": sum(any(images.visible(exchange, tag) for tag in row.get("RepoTags") or []) for row in there),
    }


async def events(exchange: Exchange, ownership: Ownership) -> None:
    """Stream what happens to the caller's objects, as it happens."""
    filters = read_filters(exchange, *_EVENT_FILTERS)
    await _resolve(exchange, ownership, filters)
    with exchange.shared.events.held(exchange.caller.uid):
        await exchange.forward(
            ["events"],
            with_filters(exchange.query, filters),
            stream=Lines(lambda event: _seen(exchange, ownership, event)),
        )


def _seen(exchange: Exchange, ownership: Ownership, event: dict[str, Any]) -> dict[str, Any] | None:
    """What somebody sees of an event: nothing of what happens to the objects of others."""
    kind: Any = event.get("Type")
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    uid = exchange.caller.uid
    if kind == "image":
        return _image(exchange, event, actor)
    if kind not in fields.EVENT:
        return None
    engine_id = str(actor.get("ID"))
    name = engine_id if kind == "volume" else str(attributes.get("name", ""))
    if ownership.owner(kind, engine_id, name) != uid and not _joined(ownership, kind, attributes, uid):
        return None
    renamed: dict[str, Any] = to_owner(exchange, event, fields.EVENT[kind])
    for holder, key in ((attributes, "image"), (renamed, "from")):
        if kind == "container" and holder.get(key):
            holder[key] = images.as_typed(str(holder[key]), attributes)
    return renamed


def _image(exchange: Exchange, event: dict[str, Any], actor: dict[str, Any]) -> dict[str, Any] | None:
    """An event of an own image, or of everybody's that came; a push and a digest do not say whose they are."""
    attributes = actor.get("Attributes") or {}
    name, uid = str(attributes.get("name", "")), exchange.caller.uid
    came = event.get("Action") == "pull" and "@" not in str(actor.get("ID"))
    if references.untagged(name) or not (references.owner_of(name) == uid or (came and images.visible(exchange, name))):
        return None
    attributes["name"] = references.to_owner(name, uid)
    for holder, key in ((actor, "ID"), (event, "id")):
        if key in holder:
            holder[key] = references.to_owner(str(holder[key]), uid)
    return event


def _joined(ownership: Ownership, kind: ObjectKind, attributes: dict[str, Any], uid: int) -> bool:
    """Whether one of the caller's containers joined or left a network that is nobody's, or mounted a volume."""
    container = str(attributes.get("container", ""))
    return kind in {"network", "volume"} and bool(container) and ownership.owner("container", container, "") == uid


async def _resolve(exchange: Exchange, ownership: Ownership, filters: Filters) -> None:
    uid = exchange.caller.uid
    for kind in Kinds:
        resolved = []
        for typed in filters.get(kind, []):
            try:
                resolved.append((await ownership.resolve(kind, typed, uid))[0])
            except Refused as refusal:
                if refusal.status != 404:  # noqa: PLR2004 - it may come to be later: then by its name
                    raise
                resolved.append(f"{typed}{owners.SUFFIX}{uid}")
        if resolved:
            filters[kind] = resolved
