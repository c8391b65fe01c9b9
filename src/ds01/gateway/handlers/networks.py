"""Networks: bridges of one's own; the predefined ones can be seen and used."""

from __future__ import annotations

from typing import Any, Final

from ds01.engine import owners
from ds01.gateway import fields, jsonbody, names, target
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers.common import (
    NEIGHBOURS,
    labels,
    name_filter,
    own_label,
    read_filters,
    segments,
    shown,
    to_owner,
    with_filters,
)
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused, not_found
from ds01.gateway.shapes import flag, items, record, required, table, text, whole

DEFAULT: Final = "bridge"
PER_PERSON: Final = 16
"""Besides the one that everybody has. An engine that was not set up by DS01 has addresses for thirty, for all."""
_DEFAULT_FIELDS: Final = (
    "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
    "MacAddress",
)  # fmt: skip
_DEFAULT_LABEL: Final = "ds01.default"
_ADDRESSES: Final = (
    "this server has no addresses left for another network: remove those that you do not need "
    "(`docker network prune`), or ask the administrator for more (default-address-pools)"
)
_FULL: Final = (
    ("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
     _ADDRESSES),
    ("all predefined address pools have been fully subnetted", _ADDRESSES),
)  # fmt: skip
"""What engines say, up to 26 and since."""
_FILTERS: Final = ("dangling", "driver", "id", "label", "name", "scope", "type")
_OPTIONS: Final = frozenset({"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc"})
_CREATE: Final = record(
    {
        "Name": required(text), "CheckDuplicate": flag, "Driver": text, "Scope": text, "Internal": flag,
        "Attachable": flag, "Ingress": flag, "ConfigOnly": flag, "EnableIPv4": flag, "EnableIPv6": flag,
        "ConfigFrom": record({"Network": text}), "Options": table(text), "Labels": table(text),
        "IPAM": record({"Driver": text, "Options": table(text), "Config": items(table(lambda value, _: value))}),
    }
)  # fmt: skip
ENDPOINT: Final = record(
    {
        "Aliases": items(required(text)), "Links": items(required(text), NEIGHBOURS), "DriverOpts": table(text),
        "MacAddress": text,
        "IPAMConfig": record({"IPv4Address": text, "IPv6Address": text, "LinkLocalIPs": items(text)}),
        "NetworkID": text, "EndpointID": text, "Gateway": text, "IPAddress": text, "IPPrefixLen": whole(),
        "IPv6Gateway": text, "GlobalIPv6Address": text, "GlobalIPv6PrefixLen": whole(), "DNSNames": items(text),
        "GwPriority": whole(),
    }
)  # fmt: skip
_CONNECT: Final = record({"Container": required(text), "EndpointConfig": ENDPOINT})
_DISCONNECT: Final = record({"Container": required(text), "Force": flag})


async def listing(exchange: Exchange, ownership: Ownership) -> None:
    """List the caller's networks and the predefined ones."""
    filters = read_filters(exchange, *_FILTERS)
    own = names.to_engine(DEFAULT, exchange.caller.uid)
    if "name" in filters:
        patterns = filters["name"]
        filters["name"] = [*(name_filter(pattern, exchange.caller.uid) for pattern in patterns), *patterns]

    def change(answer: Any) -> Any:
        mine = [row for row in answer if _is_visible(exchange, ownership, row)]
        if any(row["Name"] == own for row in mine):
            # Theirs is in its place.
            mine = [row for row in mine if row["Name"] != DEFAULT]
        return [_seen(exchange, ownership, row) for row in mine]

    await exchange.forward(["networks"], with_filters(exchange.query, filters), change=change)


async def own_bridge(exchange: Exchange, ownership: Ownership) -> str:
    """Return the engine's name of the network that containers of the caller's are on when nothing else is said.

    Everybody has one of their own, made when it is needed first, and sees it as `bridge`: on the engine's they would
    hear and reach each other. Raises Refused.
    """
    uid = exchange.caller.uid
    engine_name = names.to_engine(DEFAULT, uid)
    async with ownership.creating(uid):
        if any(name == engine_name for _, name in ownership.owned("network", uid)):
            return engine_name
        # The interface has a name by which rules of a firewall find it; it may have fifteen characters.
        options = {"com.docker.network.bridge.name": f"ds01-{uid}"}
        body = {"Name": engine_name, "CheckDuplicate": True, "Driver": "bridge", "Options": options,
                "Labels": labels(exchange, None) | {_DEFAULT_LABEL: "true"}}  # fmt: skip
        answer = await exchange.engine.ask(
            "POST", target.build(await exchange.version(), ["networks", "create"]), content=jsonbody.write(body),
            headers=[("Content-Type", "application/json")],
        )  # fmt: skip
        if answer.head.status == 409:  # noqa: PLR2004 - it is there, and its row was not written
            answer = await exchange.engine.get("networks", engine_name)
        if not answer.ok:
            message = str(answer.json().get("message"))
            for theirs, ours in _FULL:
                message = message.replace(theirs, ours)
            raise Refused(503, f"your network could not be made: {message}", "network.bridge")
        await ownership.note("network", str(answer.json()["Id"]), engine_name, uid)
    return engine_name


async def resolve(exchange: Exchange, ownership: Ownership, typed: str) -> str:
    """Return the id, or the name of a predefined network, that the caller may use. Raises Refused."""
    if typed == "default":
        typed = DEFAULT
    try:
        return (await ownership.resolve("network", typed, exchange.caller.uid))[0]
    except Refused as refusal:
        if refusal.status != 404:  # noqa: PLR2004 - not theirs: perhaps predefined
            raise
    answer = await exchange.engine.get("networks", typed) if names.ENGINE_ID.fullmatch(typed) else None
    name = str(answer.json().get("Name")) if answer is not None and answer.ok else typed
    if name not in names.PREDEFINED_NETWORKS - {"default"}:
        raise not_found("network", typed)
    return name


async def inspect(exchange: Exchange, ownership: Ownership) -> None:
    """Show a network, with the caller's containers in it."""
    real = await resolve(exchange, ownership, exchange.names[0])
    await exchange.forward(
        segments(exchange, real), exchange.query, change=lambda answer: _seen(exchange, ownership, answer),
        shown=shown(exchange, real, exchange.names[0]),
    )  # fmt: skip


async def create(exchange: Exchange, ownership: Ownership) -> None:
    """Make a bridge of the caller's own."""
    wanted = _CREATE(await exchange.json_body(), "") or {}
    _check(wanted)
    uid = exchange.caller.uid
    engine_name = names.to_engine(wanted["Name"], uid)
    if owners.short(engine_name, uid) in names.PREDEFINED_NETWORKS:
        raise _predefined(wanted["Name"])
    options = {name: value for name, value in (wanted.get("Options") or {}).items() if name in _OPTIONS}
    body = {
        "Name": engine_name, "CheckDuplicate": True, "Driver": "bridge", "Internal": wanted.get("Internal", False),
        "EnableIPv6": wanted.get("EnableIPv6", False), "Options": options,
        "Labels": labels(exchange, wanted.get("Labels")),
    }  # fmt: skip
    made: list[str] = []

    def change(answer: Any) -> Any:
        made.append(answer["Id"])
        return answer

    own = names.to_engine(DEFAULT, uid)
    async with ownership.creating(uid):
        if sum(name != own for _, name in ownership.owned("network", uid)) >= PER_PERSON:
            raise Refused(403, f"you have {PER_PERSON} networks already", "network.count", "docker network prune")
        await exchange.forward(
            ["networks", "create"], content=jsonbody.write(body), change=change,
            shown=((engine_name, wanted["Name"]), *_FULL),
            before=lambda: ownership.note("network", made[0], engine_name, uid),
        )  # fmt: skip


async def connect(exchange: Exchange, ownership: Ownership) -> None:
    """Put a container of the caller's into a network of the caller's."""
    wanted = _CONNECT(await exchange.json_body(), "") or {}
    real, container, engine_name = await _both(exchange, ownership, wanted)
    if "--ip" in addresses(wanted.get("EndpointConfig") or {}):
        # The other one clients send out of habit, copied from what they were shown.
        raise Refused(403, "--ip: the server gives the addresses", "network.addresses", "leave it out")
    endpoint = await clean_endpoint(ownership, wanted.get("EndpointConfig") or {}, exchange.caller.uid)
    if real not in names.PREDEFINED_NETWORKS:
        endpoint["Aliases"] = with_alias(endpoint.get("Aliases"), owners.short(engine_name, exchange.caller.uid))
    await exchange.forward(
        segments(exchange, real), content=jsonbody.write({"Container": container, "EndpointConfig": endpoint}),
        shown=shown(exchange, real, exchange.names[0]),
    )  # fmt: skip


async def disconnect(exchange: Exchange, ownership: Ownership) -> None:
    """Take a container of the caller's out of a network."""
    wanted = _DISCONNECT(await exchange.json_body(), "") or {}
    real, container, _ = await _both(exchange, ownership, wanted)
    body = {"Container": container, "Force": wanted.get("Force", False)}
    await exchange.forward(
        segments(exchange, real), content=jsonbody.write(body), shown=shown(exchange, real, exchange.names[0])
    )


async def remove(exchange: Exchange, ownership: Ownership) -> None:
    """Remove a network of the caller's."""
    if exchange.names[0] in names.PREDEFINED_NETWORKS:
        raise _predefined(exchange.names[0])
    engine_id, engine_name = await ownership.resolve("network", exchange.names[0], exchange.caller.uid)
    if engine_name == names.to_engine(DEFAULT, exchange.caller.uid):
        raise _predefined(DEFAULT)
    head = await exchange.forward(segments(exchange, engine_id), shown=shown(exchange, engine_id, exchange.names[0]))
    if head.status in {204, 404}:
        await ownership.removed("network", engine_id)


async def prune(exchange: Exchange, ownership: Ownership) -> None:
    """Remove the caller's networks that nothing uses; the label says whose they are."""
    filters = read_filters(exchange, "until", "label", "label!")
    filters["label"] = [*filters.get("label", []), own_label(exchange)]
    filters["label!"] = [*filters.get("label!", []), _DEFAULT_LABEL]
    uid = exchange.caller.uid
    gone: list[str] = []

    def change(answer: Any) -> Any:
        gone.extend(answer.get("NetworksDeleted") or [])
        return {"NetworksDeleted": [owners.short(name, uid) for name in gone]}

    async def forget() -> None:
        for engine_id, name in ownership.owned("network", uid):
            if name in gone:
                await ownership.removed("network", engine_id)

    async with exchange.shared.prunes["network"]:
        await exchange.forward(["networks", "prune"], with_filters([], filters), change=change, before=forget)


async def clean_endpoint(ownership: Ownership, endpoint: dict[str, Any], uid: int) -> dict[str, Any]:
    """Return what of an endpoint is the client's to say: names. With the rest, addresses of others could be taken."""
    cleaned: dict[str, Any] = {"Aliases": endpoint["Aliases"]} if endpoint.get("Aliases") else {}
    if links := [await link(ownership, entry, uid) for entry in endpoint.get("Links") or []]:
        cleaned["Links"] = links
    return cleaned


async def link(ownership: Ownership, entry: str, uid: int) -> str:
    """Return `name[:alias]` as networks of people's own know it: by a container's name in the engine."""
    name, _, alias = entry.partition(":")
    _, engine_name = await ownership.resolve("container", owners.short(name, uid), uid)
    return f"{engine_name}:{alias or owners.short(engine_name, uid)}"


def addresses(endpoint: dict[str, Any]) -> list[str]:
    """Return the options by which a client wants addresses of its own choice; there are none to choose here."""
    given = {"--mac-address": endpoint.get("MacAddress"), "--ip": any((endpoint.get("IPAMConfig") or {}).values())}
    return [flag for flag, value in given.items() if value]


def with_alias(aliases: list[str] | None, short: str) -> list[str]:
    """The names by which others in the network find a container; its short name is the last."""
    return [*dict.fromkeys(alias for alias in aliases or [] if alias != short), short]


async def follow_name(exchange: Exchange, found: dict[str, Any]) -> None:
    """Let a container that is about to start be found by the name it has now, when it was renamed.

    One that runs keeps its addresses and connections, and the name it started with. Raises Refused.
    """
    uid, engine_id = exchange.caller.uid, str(found.get("Id"))
    short = owners.short(str(found.get("Name")).removeprefix("/"), uid)
    if not found or found["State"]["Running"]:
        return
    for name, endpoint in (found["NetworkSettings"].get("Networks") or {}).items():
        # Older engines list the short id too.
        aliases = [alias for alias in endpoint.get("Aliases") or [] if not engine_id.startswith(alias)]
        if not aliases or aliases[-1] == short or name in names.PREDEFINED_NETWORKS:
            continue
        again = {"Aliases": with_alias(aliases[:-1], short), "Links": endpoint.get("Links") or []}
        for action, body in (("disconnect", {"Force": True}), ("connect", {"EndpointConfig": again})):
            path = target.build(await exchange.version(), ["networks", name, action])
            content = jsonbody.write({"Container": engine_id, **body})
            answer = await exchange.engine.ask(
                "POST", path, content=content, headers=[("Content-Type", "application/json")]
            )
            if not answer.ok:
                raise Refused(503, f"the network {owners.short(name, uid)} does not take the new name", "network.name")


def as_named(document: dict[str, Any], uid: int) -> dict[str, Any]:
    """Show the names of a container in its networks without those that only the engine needs."""
    short = owners.short(str(document.get("Name")).removeprefix("/"), uid)
    for endpoint in ((document.get("NetworkSettings") or {}).get("Networks") or {}).values():
        endpoint["Aliases"] = [alias for alias in endpoint.get("Aliases") or [] if alias != short] or None
        if endpoint.get("DNSNames"):
            endpoint["DNSNames"] = list(dict.fromkeys(owners.short(name, uid) for name in endpoint["DNSNames"]))
    return document


def as_default(document: dict[str, Any], uid: int) -> dict[str, Any]:
    """Show the addresses of one's own bridge also where clients look for those of the engine's."""
    settings = document.get("NetworkSettings") or {}
    own = (settings.get("Networks") or {}).get(names.to_engine(DEFAULT, uid))
    if own:
        settings |= {key: own[key] for key in _DEFAULT_FIELDS if key in own}
    return document


def _check(wanted: dict[str, Any]) -> None:
    if wanted.get("Driver") not in {None, "", "bridge", "default"}:
        raise Refused(403, f"network driver {wanted['Driver']!r} is not offered", "network.driver", "use bridge")
    for name in ("Ingress", "ConfigOnly", "ConfigFrom"):
        if wanted.get(name) and wanted[name] != {"Network": ""}:
            raise Refused(403, f"{name} is not offered", "network.kind", "leave it out")
    ipam = wanted.get("IPAM") or {}
    if any(ipam.get("Config") or []) or ipam.get("Options") or ipam.get("Driver") not in {None, "", "default"}:
        raise Refused(
            403, "a network with addresses of its own can take over routes of this server", "network.addresses",
            "leave subnets out: the server gives each network free addresses",
        )  # fmt: skip


def _predefined(name: str) -> Refused:
    return Refused(403, f"{name} is a pre-defined network and cannot be made or removed", "network.predefined")


async def _both(exchange: Exchange, ownership: Ownership, wanted: dict[str, Any]) -> tuple[str, str, str]:
    container, engine_name = await ownership.resolve("container", wanted["Container"], exchange.caller.uid)
    real = await resolve(exchange, ownership, exchange.names[0])
    if real == DEFAULT:
        # Also by its id: nobody is on the engine's, where they would hear each other.
        await own_bridge(exchange, ownership)
        real = await resolve(exchange, ownership, DEFAULT)
    if real == "host":
        raise Refused(403, "the host's network is not for containers", "network.host", "use bridge")
    return real, container, engine_name


def _is_visible(exchange: Exchange, ownership: Ownership, row: dict[str, Any]) -> bool:
    return row["Name"] in names.PREDEFINED_NETWORKS or (
        ownership.owner("network", row["Id"], row["Name"]) == exchange.caller.uid
    )


def _seen(exchange: Exchange, ownership: Ownership, row: dict[str, Any]) -> dict[str, Any]:
    uid = exchange.caller.uid
    inside = {
        engine_id: item
        for engine_id, item in (row.get("Containers") or {}).items()
        if ownership.owner("container", engine_id, str(item.get("Name", ""))) == uid
    }
    kept: dict[str, Any] = to_owner(exchange, row | {"Containers": inside}, fields.NETWORK)
    return kept
