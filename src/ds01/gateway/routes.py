"""The one table of all endpoints: what each is, what it may be asked, and how it is judged.

What is not in here is not there. Sources: the engine's API description from 1.24 to 1.51 and the routes that engines
answer without describing them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

Body = Literal["none", "json", "stream"]


class Kind(Enum):
    """How a request of somebody who is not an administrator is judged."""

    PASS = "P"  # noqa: S105 - a letter
    OWN = "O"
    FILTER = "F"
    CHANGE = "M"
    DENY = "D"
    LOCAL = "L"
    """Answered by the gateway itself, for everybody: the engine never hears of it."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    `pattern` has `{id}` for one segment and `{name}` for one or more. `query` are the parameters that may be there
    once, `multiple` those that may be there often. `handler` names the function in `handlers`, or why it is denied. The
    answer of a `bulk` endpoint may be long: it ends with its connection.
    """

    method: str
    pattern: tuple[str, ...]
    kind: Kind
    handler: str
    query: tuple[str, ...] = ()
    multiple: tuple[str, ...] = ()
    body: Body = "none"
    hijack: bool = False
    bulk: bool = False


_STREAM = ("follow", "stdout", "stderr", "since", "until", "timestamps", "tail", "details")
_ATTACH = ("detachKeys", "logs", "stream", "stdin", "stdout", "stderr")
_BUILD = (
    "remote", "q", "nocache", "cachefrom", "pull", "rm", "forcerm", "memory", "memswap",
    "cpushares", "cpusetcpus", "cpusetmems", "cpuperiod", "cpuquota", "buildargs", "shmsize", "squash", "labels",
    "networkmode", "platform", "target", "outputs", "version", "buildid", "session", "ulimits", "cgroupparent",
    "securityopt",
)  # fmt: skip


def _routes() -> list[Route]:  # noqa: PLR0915 - a table
    table: list[Route] = []

    def add(
        kind: Kind,
        handler: str,
        methods: str,
        path: str,
        *query: str,
        multiple: tuple[str, ...] = (),
        body: Body = "none",
        hijack: bool = False,
        bulk: bool = False,
    ) -> None:
        pattern = tuple(path.split("/")[1:])
        table.extend(
            Route(method, pattern, kind, handler, query, multiple, body, hijack, bulk) for method in methods.split(",")
        )

    def deny(reason: str, *endpoints: str) -> None:
        for endpoint in endpoints:
            method, path = endpoint.split(" ")
            add(Kind.DENY, reason, method, path, body="stream")

    # The engine as a whole.
    add(Kind.PASS, "ping", "GET,HEAD", "/_ping")
    add(Kind.PASS, "version", "GET", "/version")
    add(Kind.CHANGE, "info", "GET", "/info")
    add(Kind.FILTER, "events", "GET", "/events", "since", "until", "filters")
    add(Kind.FILTER, "disk_usage", "GET", "/system/df", "verbose", multiple=("type",))
    add(Kind.CHANGE, "registry_login", "POST", "/auth", body="json")
    deny("buildkit", "POST /session", "POST /grpc", "POST /build/cancel")

    # Containers.
    add(Kind.FILTER, "list_containers", "GET", "/containers/json", "all", "limit", "size", "filters", "before", "since")
    add(Kind.CHANGE, "create_container", "POST", "/containers/create", "name", "platform", body="json")
    add(Kind.FILTER, "prune_containers", "POST", "/containers/prune", "filters")
    add(Kind.CHANGE, "inspect_container", "GET", "/containers/{id}/json", "size")
    add(Kind.CHANGE, "container_top", "GET", "/containers/{id}/top", "ps_args")
    add(Kind.OWN, "container", "GET", "/containers/{id}/logs", *_STREAM, bulk=True)
    add(Kind.OWN, "container", "GET", "/containers/{id}/changes")
    add(Kind.OWN, "container", "GET", "/containers/{id}/export", bulk=True)
    add(Kind.CHANGE, "container_stats", "GET", "/containers/{id}/stats", "stream", "one-shot")
    add(Kind.OWN, "container", "POST", "/containers/{id}/resize", "h", "w")
    add(Kind.CHANGE, "start_container", "POST", "/containers/{id}/start", "detachKeys")
    add(Kind.OWN, "container", "POST", "/containers/{id}/stop", "t", "signal")
    add(Kind.OWN, "container", "POST", "/containers/{id}/kill", "signal")
    add(Kind.OWN, "container", "POST", "/containers/{id}/pause")
    add(Kind.OWN, "container", "POST", "/containers/{id}/unpause")
    add(Kind.OWN, "container", "POST", "/containers/{id}/wait", "condition")
    add(Kind.CHANGE, "start_container", "POST", "/containers/{id}/restart", "t", "signal")
    add(Kind.CHANGE, "rename_container", "POST", "/containers/{id}/rename", "name")
    add(Kind.CHANGE, "update_container", "POST", "/containers/{id}/update", body="json")
    add(Kind.OWN, "attach_container", "POST", "/containers/{id}/attach", *_ATTACH, hijack=True)
    add(Kind.OWN, "get_archive", "HEAD,GET", "/containers/{id}/archive", "path", bulk=True)
    add(
        Kind.CHANGE, "put_archive", "PUT", "/containers/{id}/archive", "path", "noOverwriteDirNonDir", "copyUIDGID",
        body="stream",
    )  # fmt: skip
    add(Kind.CHANGE, "create_exec", "POST", "/containers/{id}/exec", body="json")
    add(Kind.CHANGE, "remove_container", "DELETE", "/containers/{id}", "v", "link", "force")
    deny("second_tunnel", "GET /containers/{id}/attach/ws")
    deny(
        "host_paths", "GET /containers/{id}/checkpoints", "POST /containers/{id}/checkpoints",
        "DELETE /containers/{id}/checkpoints/{id}", "POST /containers/{id}/copy",
    )  # fmt: skip
    deny("links", "DELETE /containers/{id}/{id}")
    add(Kind.CHANGE, "start_exec", "POST", "/exec/{id}/start", body="json", hijack=True)
    add(Kind.OWN, "exec", "POST", "/exec/{id}/resize", "h", "w")
    add(Kind.OWN, "exec", "GET", "/exec/{id}/json")
    add(
        Kind.CHANGE, "commit", "POST", "/commit", "container", "repo", "tag", "comment", "author", "pause",
        multiple=("changes",), body="json",
    )  # fmt: skip

    # Images.
    add(
        Kind.FILTER, "list_images", "GET", "/images/json", "all", "filters", "shared-size", "digests", "manifests",
        "identity",
    )  # fmt: skip
    add(Kind.CHANGE, "pull_image", "POST", "/images/create", "fromImage", "fromSrc", "repo", "tag", "message",
        "platform", multiple=("changes",), body="stream")  # fmt: skip
    add(Kind.PASS, "search_images", "GET", "/images/search", "term", "limit", "filters")
    add(Kind.OWN, "save_images", "GET", "/images/get", "platform", multiple=("names",))
    add(Kind.OWN, "save_images", "GET", "/images/{name}/get", "platform")
    add(Kind.CHANGE, "load_images", "POST", "/images/load", "quiet", "platform", body="stream")
    add(Kind.CHANGE, "push_image", "POST", "/images/{name}/push", "tag", "platform")
    add(Kind.FILTER, "prune_images", "POST", "/images/prune", "filters")
    add(Kind.FILTER, "prune_builds", "POST", "/build/prune", "filters", "all", "keep-storage")
    add(Kind.OWN, "image", "GET", "/images/{name}/json", "manifests", "platform")
    add(Kind.OWN, "image", "GET", "/images/{name}/history", "platform")
    deny("not_yet", "GET /images/{name}/attestations")
    add(Kind.CHANGE, "tag_image", "POST", "/images/{name}/tag", "repo", "tag")
    add(Kind.CHANGE, "remove_image", "DELETE", "/images/{name}", "force", "noprune", multiple=("platforms",))
    add(Kind.PASS, "distribution", "GET", "/distribution/{name}/json")
    add(Kind.CHANGE, "build", "POST", "/build", *_BUILD, multiple=("t", "extrahosts", "dockerfile"),
        body="stream")  # fmt: skip

    # Networks.
    add(Kind.FILTER, "list_networks", "GET", "/networks", "filters")
    add(Kind.CHANGE, "create_network", "POST", "/networks/create", body="json")
    add(Kind.FILTER, "prune_networks", "POST", "/networks/prune", "filters")
    add(Kind.CHANGE, "inspect_network", "GET", "/networks/{id}", "verbose", "scope")
    add(Kind.CHANGE, "connect_network", "POST", "/networks/{id}/connect", body="json")
    add(Kind.CHANGE, "disconnect_network", "POST", "/networks/{id}/disconnect", body="json")
    add(Kind.OWN, "remove_network", "DELETE", "/networks/{id}")

    # Volumes.
    add(Kind.FILTER, "list_volumes", "GET", "/volumes", "filters")
    add(Kind.CHANGE, "create_volume", "POST", "/volumes/create", body="json")
    add(Kind.FILTER, "prune_volumes", "POST", "/volumes/prune", "filters")
    add(Kind.CHANGE, "inspect_volume", "GET", "/volumes/{id}")
    deny("swarm", "PUT /volumes/{id}")
    add(Kind.OWN, "remove_volume", "DELETE", "/volumes/{id}", "force")

    # DS01's own API; `ds01.api.resources` has its table.
    add(Kind.LOCAL, "ds01", "GET,DELETE", "/ds01/{name}")
    add(Kind.LOCAL, "ds01", "POST", "/ds01/{name}", body="json")

    # A swarm or a plugin would be a second way to everything that create refuses.
    deny(
        "swarm", "GET /swarm", "POST /swarm/init", "POST /swarm/join", "POST /swarm/leave", "POST /swarm/update",
        "POST /swarm/unlock", "GET /swarm/unlockkey", "GET /nodes", "GET /nodes/{id}", "DELETE /nodes/{id}",
        "POST /nodes/{id}/update", "GET /services", "POST /services/create", "GET /services/{id}",
        "DELETE /services/{id}", "POST /services/{id}/update", "GET /services/{id}/logs", "GET /tasks",
        "GET /tasks/{id}", "GET /tasks/{id}/logs", "GET /secrets", "POST /secrets/create", "GET /secrets/{id}",
        "DELETE /secrets/{id}", "POST /secrets/{id}/update", "GET /configs", "POST /configs/create",
        "GET /configs/{id}", "DELETE /configs/{id}", "POST /configs/{id}/update",
    )  # fmt: skip
    deny(
        "plugins", "GET /plugins", "GET /plugins/privileges", "DELETE /plugins/{name}",
        "POST /plugins/pull", "POST /plugins/create", "POST /plugins/{name}/enable", "POST /plugins/{name}/disable",
        "POST /plugins/{name}/upgrade", "POST /plugins/{name}/push", "POST /plugins/{name}/set",
    )  # fmt: skip
    # `docker inspect NAME` asks for one of everything, and goes on at this answer only.
    deny("no_plugin", "GET /plugins/{name}/json")
    deny("debug", "GET /debug/vars", "GET /debug/pprof", "GET /debug/pprof/{id}")
    return table


ROUTES: Final[tuple[Route, ...]] = tuple(_routes())
_FIXED: Final = {
    (route.method, route.pattern): route for route in ROUTES if not any("{" in part for part in route.pattern)
}


def find(method: str, segments: tuple[str, ...]) -> tuple[Route, tuple[str, ...]] | None:
    """Return the endpoint and what its placeholders stand for, or None. Fixed paths win over patterns."""
    if (fixed := _FIXED.get((method, segments))) is not None:
        return fixed, ()
    for route in ROUTES:
        if route.method == method and (found := _match(route.pattern, segments)) is not None:
            return route, found
    return None


def _match(pattern: tuple[str, ...], segments: tuple[str, ...]) -> tuple[str, ...] | None:
    if len(segments) < len(pattern) or ("{name}" not in pattern and len(segments) != len(pattern)):
        return None
    extra = len(segments) - len(pattern)
    found = []
    position = 0
    for part in pattern:
        if part == "{name}":
            found.append("/".join(segments[position : position + 1 + extra]))
            position += extra
        elif part == "{id}":
            found.append(segments[position])
        elif part != segments[position]:
            return None
        position += 1
    return tuple(found)
