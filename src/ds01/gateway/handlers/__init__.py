"""What is done for each endpoint of `routes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import (
    admin,
    build,
    containers,
    creation,
    ds01_api,
    images,
    networks,
    registries,
    room,
    system,
    transfers,
    usage,
    volumes,
)
from ds01.gateway.handlers.denials import denied
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused
from ds01.gateway.routes import Kind

Handler = Callable[[Exchange, Ownership], Awaitable[None]]

HANDLERS: Final[dict[str, Handler]] = {
    "ping": system.ping,
    "version": system.version,
    "info": system.info,
    "events": system.events,
    "disk_usage": usage.disk_usage,
    "registry_login": registries.login,
    "container": containers.passed,
    "attach_container": containers.attach,
    "list_containers": containers.listing,
    "create_container": creation.create,
    "prune_containers": containers.prune,
    "inspect_container": containers.inspect,
    "container_top": containers.top,
    "container_stats": containers.stats,
    "start_container": creation.start,
    "rename_container": containers.rename,
    "update_container": containers.update,
    "get_archive": containers.get_archive,
    "put_archive": containers.put_archive,
    "create_exec": containers.create_exec,
    "remove_container": containers.remove,
    "start_exec": containers.start_exec,
    "exec": containers.passed_exec,
    "list_images": images.listing,
    "pull_image": transfers.create,
    "push_image": transfers.push,
    "load_images": transfers.load,
    "save_images": transfers.save,
    "commit": transfers.commit,
    "prune_images": usage.prune,
    "search_images": registries.search,
    "image": images.passed,
    "tag_image": images.tag,
    "remove_image": images.remove,
    "distribution": registries.distribution,
    "build": build.build,
    "prune_builds": usage.prune_builds,
    "list_networks": networks.listing,
    "create_network": networks.create,
    "prune_networks": networks.prune,
    "inspect_network": networks.inspect,
    "connect_network": networks.connect,
    "disconnect_network": networks.disconnect,
    "remove_network": networks.remove,
    "list_volumes": volumes.listing,
    "create_volume": volumes.create,
    "prune_volumes": volumes.prune,
    "inspect_volume": volumes.inspect,
    "remove_volume": volumes.remove,
    "ds01": ds01_api.answer,
}
_AS_A_PERSON: Final = frozenset(
    {"create_container", "create_network", "create_volume", "build", "commit", "load_images", "tag_image"}
)
"""What an administrator other than root makes is theirs, within their limits, as everybody's."""
_PRUNES: Final = frozenset({"prune_containers", "prune_images", "prune_networks", "prune_volumes"})
"""Whoever cleans up means their own, administrators too: what others stopped waits to be started again."""


async def handle(exchange: Exchange, ownership: Ownership) -> None:
    """Judge a request and answer it. Raises Refused, when nothing was answered."""
    route, caller = exchange.route, exchange.caller
    if route.kind is Kind.LOCAL:
        # Also when the engine is down.
        await HANDLERS[route.handler](exchange, ownership)
        return
    await exchange.version()
    if caller.uid == 0 and route.handler in _PRUNES:
        # What root makes is nobody's, and so is what the engine had before DS01: no label tells them apart.
        raise Refused(403, "root's clean-up would remove what others stopped and mean to start again", "admin.prune",
                      "remove by name; images of nobody's: docker --context ds01-engine image prune")  # fmt: skip
    as_a_person = caller.uid != 0 and route.handler in _AS_A_PERSON | _PRUNES
    if caller.admin and not as_a_person:
        await admin.passed(exchange, ownership)
    elif route.kind is Kind.DENY:
        raise denied(route.handler)
    else:
        if route.handler in room.GROWS:
            await room.see(exchange, ownership)
        await HANDLERS[route.handler](exchange, ownership)
