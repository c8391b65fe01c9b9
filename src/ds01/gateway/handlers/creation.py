"""Create and start: what a container may be, with the limits of its owner."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, jsonbody, names, target
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import gpus, images, inherited, limits, mounts, networks, ports, volumes
from ds01.gateway.handlers.common import NEIGHBOURS, described, own_label, renamer, shown, without_ours, working_dir
from ds01.gateway.handlers.create_fields import ADDRESSES, HOST, TOP, Draft, apply, beside_image, shape
from ds01.gateway.head import ResponseHead
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import only, record, table
from ds01.slices.kernel import find_disks
from ds01.slices.names import SliceNameError, user_slice

_CREATE: Final = record(
    {
        **shape(TOP),
        "HostConfig": record(shape(HOST)),
        # The SDK for Python puts the name of a network where only this may be; the engine overlooks it.
        "NetworkingConfig": only({"EndpointsConfig": table(networks.ENDPOINT, NEIGHBOURS)}),
    }
)

_OPTIONS: Final = frozenset({"name", "platform"})
"""What dockerode repeats of the query in the body; the engine overlooks it there, as it overlooks what is empty."""
_OLD_PLACE: Final = frozenset({"Dns", "DnsSearch", "VolumesFrom"})
"""Harmless fields of HostConfig that old examples have beside it, where they count if there is none."""


async def create(exchange: Exchange, ownership: Ownership) -> None:
    """Make a container that is its owner's, within its owner's limits."""
    wanted = _CREATE(_in_place(await exchange.json_body()), "") or {}
    caller = exchange.caller
    short = (exchange.parameter("name") or "").removeprefix("/") or names.make_up()
    engine_name = names.to_engine(short, caller.uid)
    fields.rename(wanted, fields.CONTAINER, renamer(exchange, ownership))
    draft = Draft(exchange)
    found = await images.find(exchange, str(wanted.get("Image") or ""))
    image_id = found.identity
    if (protected := (await exchange.people.tables())["monitoring"]["infrastructure_label"]) in found.labels:
        raise Refused(403, f"the image {wanted['Image']} has the label {protected}, which only administrators give",
                      "create.Labels", "use an image without it")  # fmt: skip
    allowed = await exchange.people.limits(caller.person)
    body = apply(TOP, {"Env": [], "Labels": {}} | wanted, draft)
    if not body.get("WorkingDir"):
        working_dir(found.working_dir)
    if (health := beside_image(body.get("Healthcheck"), found.healthcheck, draft)) is not None:
        body["Healthcheck"] = health
    host = apply(
        HOST, {"CapDrop": [], "CgroupnsMode": "private", "IpcMode": "private"} | (wanted.get("HostConfig") or {}), draft
    )
    if draft.publish_all:
        exposed = [*(body.get("ExposedPorts") or {}), *found.exposed]
        host["PortBindings"] = ports.every(host.get("PortBindings") or {}, exposed)
    host["CapDrop"] = [name for name in host["CapDrop"] if name not in host.get("CapAdd", ())]
    limits.apply(host, allowed, draft.warnings, cpus_here=os.cpu_count() or 1, disks=find_disks())
    try:
        host["CgroupParent"] = user_slice(allowed.group, caller.person.name)
    except SliceNameError as error:
        raise Refused(503, str(error), "limits.slice", "tell the administrator") from error
    with _beside_image():
        await _containers(exchange, ownership, host)
        files = await mounts.judge(exchange, host)
        networking = await _networks(draft, ownership, host, wanted, short)
    # What an image says in our name means nothing; the engine adds its labels to those that are not given.
    body["Labels"] = dict.fromkeys(set(found.labels) - set(without_ours(found.labels)), "") | body["Labels"]
    body["Labels"] |= {"ds01.group": allowed.group, "ds01.name": short, images.LABEL: str(wanted.get("Image"))}
    body["Labels"] |= files.labels()
    body |= {"Image": found.reference, "HostConfig": host, "NetworkingConfig": networking}
    # Last, when nothing else can be wrong with it, and before the lock: it may wait in a queue.
    async with gpus.claimed(draft, body, host, found.environment) as claim, ownership.creating(caller.uid):
        await _count(exchange, allowed.values["max_containers_per_user"])
        volumes.check_room(exchange, ownership, files.volumes, _unnamed(body, host, found))
        for volume, given in files.volumes.items():
            # Made beforehand, so that they have an owner from the beginning.
            await volumes.ensure(exchange, ownership, volume, given)
        draft.warnings += await mounts.pin(exchange, files, image_id, str(body.get("User") or ""))
        try:
            await _send(draft, ownership, body, name=engine_name, image_id=image_id, claim=claim)
        finally:
            if not draft.made:
                await mounts.release(exchange, files)


def _in_place(given: Any) -> Any:
    """A request with what the engine would read elsewhere in its place, and without what it would not read at all."""
    if not isinstance(given, dict):
        return given
    host = given.get("HostConfig") or {}
    kept: dict[str, Any] = {}
    moved: dict[str, Any] = {}
    for name, value in given.items():
        outside = name in HOST and name not in TOP
        if name in _OLD_PLACE and value and not host:
            moved[name] = value
        elif name not in _OPTIONS and not (outside and (not value or name in _OLD_PLACE)):
            kept[name] = value
    return kept | {"HostConfig": moved} if moved else kept


async def start(exchange: Exchange, ownership: Ownership) -> None:
    """Start or restart a container, with what its owner's paths lead to now and the GPUs it may have now."""
    engine_id, engine_name = await ownership.resolve("container", exchange.names[0], exchange.caller.uid)
    found = await described(exchange, engine_id)
    await inherited.see_harmless(exchange, found, starting=True)
    await mounts.renew(exchange, found)
    await networks.follow_name(exchange, found)

    async def forward(action: str, query: gpus.Query) -> ResponseHead:
        return await exchange.forward(
            ["containers", engine_id, action], query, shown=shown(exchange, engine_id, exchange.names[0])
        )

    head = await gpus.started(exchange, found, forward)
    if head.status == 204:  # noqa: PLR2004 - started by this request
        await exchange.audit.record(
            "container.start", exchange.caller, {"kind": "container", "name": engine_name, "id": engine_id}, "allowed"
        )


async def _send(
    draft: Draft, ownership: Ownership, body: dict[str, Any], *, name: str, image_id: str, claim: gpus.Claim | None
) -> None:
    """Let the engine make it, note whose it is, and check that it is what was judged."""
    exchange, engine_name = draft.exchange, name
    caller = exchange.caller
    made: list[str] = []

    def change(answer: Any) -> Any:
        made.append(answer["Id"])
        return answer | {"Warnings": [*(answer.get("Warnings") or []), *draft.warnings]}

    async def noted() -> None:
        try:
            # Before it is anybody's: nobody can start what has not been looked at.
            volumes_made = await _verified(exchange, made[0], image_id)
            await ownership.note("container", made[0], engine_name, caller.uid)
            for volume in volumes_made:
                await ownership.note("volume", volume, volume, caller.uid)
            if claim is not None:
                await exchange.gpus.bind(caller.person, claim.token, made[0], engine_name)
                claim.bound = True
        except Refused:
            await _unmake(exchange, ownership, made[0])
            raise
        draft.made = True
        await exchange.audit.record(
            "container.create", caller, {"kind": "container", "name": engine_name, "id": made[0]}, "allowed",
            details={"image": body["Image"], "softened": draft.warnings},
        )  # fmt: skip

    query = [("name", engine_name)]
    if exchange.parameter("platform"):
        query.append(("platform", exchange.parameter("platform") or ""))
    uid = caller.uid
    await exchange.forward(
        ["containers", "create"], query, content=jsonbody.write(body), change=change, before=noted,
        shown=((f"{owners.SUFFIX}{uid}", ""), (f"ds01-{uid}/", "")),
    )  # fmt: skip


async def _verified(exchange: Exchange, engine_id: str, image_id: str) -> list[str]:
    """See that the tag still meant the image that was looked at. Returns the volumes without a name that came with it.

    Raises:
        Refused: It is another image.
    """
    found = (await exchange.engine.get("containers", engine_id, "json")).json()
    if found.get("Image") != image_id:
        raise Refused(409, "the image changed at this very moment", "image.changed", "try again")
    names = [str(mount.get("Name") or "") for mount in found.get("Mounts") or [] if mount.get("Type") == "volume"]
    return [name for name in names if name and owners.uid_in_name(name) is None]


async def _unmake(exchange: Exchange, ownership: Ownership, engine_id: str) -> None:
    """Remove a container that must not be."""
    answer = await exchange.engine.ask(
        "DELETE", target.build(await exchange.version(), ["containers", engine_id], [("force", "1"), ("v", "1")])
    )
    # One that the engine cannot remove now is its owner's, to try again.
    if answer.ok or answer.head.status == 404:  # noqa: PLR2004 - gone already
        await ownership.removed("container", engine_id)


async def _count(exchange: Exchange, most: int | None) -> None:
    if most is None:
        return
    query = [("all", "1"), ("filters", jsonbody.write({"label": [own_label(exchange)]}).decode())]
    there = len((await exchange.engine.get("containers", "json", query=query)).json())
    if there >= most:
        raise Refused(
            403, f"you have {there} containers and may have {most}", "limits.max_containers_per_user",
            "remove one: `docker ps -a` lists them, `docker rm NAME` removes one",
        )  # fmt: skip


def _unnamed(body: dict[str, Any], host: dict[str, Any], image: images.Image) -> int:
    """How many volumes without a name the engine makes with a container, at most: not all of these places are empty."""
    mounts_: int = sum(mount["Type"] == "volume" and not mount.get("Source") for mount in host["Mounts"])
    places: set[str] = {*(body.get("Volumes") or {}), *image.volumes}
    return len(places) + mounts_


@contextmanager
def _beside_image() -> Iterator[None]:
    """Say of what else is not there that the request is wrong, as the engine does: at a 404 clients fetch the image."""
    try:
        yield
    except Refused as refusal:
        if refusal.status != 404:  # noqa: PLR2004 - everything else is what it is
            raise
        raise Refused(400, refusal.reason, refusal.rule, refusal.fix) from refusal


async def _containers(exchange: Exchange, ownership: Ownership, host: dict[str, Any]) -> None:
    """Put ids for the other containers that are named; they must be the caller's."""
    uid = exchange.caller.uid
    for field in ("NetworkMode", "PidMode", "IpcMode"):
        prefix, colon, name = str(host.get(field) or "").partition(":")
        if prefix == "container" and colon:
            other, _ = await ownership.resolve("container", owners.short(name, uid), uid)
            await inherited.see_own_namespace(exchange, other, field)
            host[field] = f"container:{other}"
    if links := host.get("Links"):
        host["Links"] = [await networks.link(ownership, entry, uid) for entry in links]
    resolved = []
    for entry in host.get("VolumesFrom") or []:
        name, _, rest = entry.partition(":")
        engine_id, _ = await ownership.resolve("container", owners.short(name, uid), uid)
        resolved.append(f"{engine_id}:{rest}" if rest else engine_id)
    if resolved:
        host["VolumesFrom"] = resolved


async def _networks(
    draft: Draft, ownership: Ownership, host: dict[str, Any], wanted: dict[str, Any], short: str
) -> dict[str, Any]:
    """Put a container on networks of its owner's, where it is found by its short name."""
    exchange = draft.exchange
    mode = str(host.get("NetworkMode") or "default")
    if mode == "default" or not mode.startswith("container:"):
        mode = host["NetworkMode"] = await _network(exchange, ownership, mode)
    endpoints: dict[str, Any] = {}
    given = (wanted.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    for name, endpoint in given.items():
        network = await _network(exchange, ownership, "bridge" if name == "host" else name)
        for flag in networks.addresses(endpoint or {}):
            draft.soften(flag, ADDRESSES)
        endpoints[network] = await networks.clean_endpoint(ownership, endpoint or {}, exchange.caller.uid)
    if not mode.startswith("container:"):
        endpoints.setdefault(mode, {})
        if links := host.pop("Links", None):
            # The engine knows links of the host's configuration only on its own bridge.
            endpoints[mode]["Links"] = list(dict.fromkeys([*endpoints[mode].get("Links", []), *links]))
    for network, endpoint in endpoints.items():
        if network not in names.PREDEFINED_NETWORKS:
            endpoint["Aliases"] = networks.with_alias(endpoint.get("Aliases"), short)
        else:
            endpoint.pop("Aliases", None)
    return {
        "EndpointsConfig": {name: item for name, item in endpoints.items() if name not in names.PREDEFINED_NETWORKS}
    }


async def _network(exchange: Exchange, ownership: Ownership, name: str) -> str:
    """Return the engine name of a network that the caller may use."""
    if name in {networks.DEFAULT, "default"}:
        return await networks.own_bridge(exchange, ownership)
    if name in names.PREDEFINED_NETWORKS:
        return name
    _, engine_name = await ownership.resolve("network", owners.short(name, exchange.caller.uid), exchange.caller.uid)
    return engine_name
