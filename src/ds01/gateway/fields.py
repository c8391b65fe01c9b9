"""The one table of JSON fields that hold names of containers, networks and volumes, for both directions.

A name is mapped where it stands as a field, never by replacing text in a stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

Kind = Literal["container", "network", "volume", "image"]
Form = Literal["plain", "slash", "bind", "mount", "mode", "link", "from", "keys"]
Rename = Callable[[Kind, str], str]

_Field = tuple[tuple[str, ...], Kind, Form]

CONTAINER: Final[tuple[_Field, ...]] = (
    (("Name",), "container", "slash"),
    (("Names", "*"), "container", "slash"),
    (("Image",), "image", "plain"),
    (("Config", "Image"), "image", "plain"),
    (("HostConfig", "NetworkMode"), "network", "mode"),
    (("HostConfig", "PidMode"), "container", "mode"),
    (("HostConfig", "IpcMode"), "container", "mode"),
    (("HostConfig", "Binds", "*"), "volume", "bind"),
    (("HostConfig", "Mounts", "*"), "volume", "mount"),
    (("HostConfig", "VolumesFrom", "*"), "container", "from"),
    (("HostConfig", "Links", "*"), "container", "link"),
    (("Mounts", "*", "Name"), "volume", "plain"),
    (("NetworkSettings", "Networks", "*", "Links", "*"), "container", "link"),
    (("NetworkSettings", "Networks"), "network", "keys"),
    (("NetworkingConfig", "EndpointsConfig"), "network", "keys"),
)
NETWORK: Final[tuple[_Field, ...]] = (
    (("Name",), "network", "plain"),
    (("Containers", "*", "Name"), "container", "plain"),
)
VOLUME: Final[tuple[_Field, ...]] = ((("Name",), "volume", "plain"),)
STATS: Final[tuple[_Field, ...]] = ((("name",), "container", "slash"),)
EVENT: Final[dict[str, tuple[_Field, ...]]] = {
    "container": (
        (("Actor", "Attributes", "name"), "container", "plain"),
        (("Actor", "Attributes", "image"), "image", "plain"),
        (("from",), "image", "plain"),
    ),
    "network": ((("Actor", "Attributes", "name"), "network", "plain"),),
    "volume": ((("Actor", "ID"), "volume", "plain"), (("id",), "volume", "plain")),
}


def rename(document: dict[str, Any], fields: tuple[_Field, ...], change: Rename) -> None:
    """Change every name in a document, in place."""
    for path, kind, form in fields:
        for holder, key in _places(document, path):
            holder[key] = _FORMS[form](holder[key], kind, change)


def _places(value: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    """Yield where a field stands: the object or list that holds it, and its key."""
    step, rest = path[0], path[1:]
    keys: list[Any] = []
    if step == "*" and isinstance(value, list):
        keys = list(range(len(value)))
    elif step == "*" and isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, dict) and value.get(step) is not None:
        keys = [step]
    for key in keys:
        if rest:
            yield from _places(value[key], rest)
        else:
            yield value, key


def _plain(value: Any, kind: Kind, change: Rename) -> Any:
    return change(kind, value) if isinstance(value, str) and value else value


def _slash(value: Any, kind: Kind, change: Rename) -> Any:
    if not isinstance(value, str):
        return value
    # A name seen through a link is /other/alias: only the last part is a name of ours when there is one part.
    bare = value.removeprefix("/")
    return value[: len(value) - len(bare)] + "/".join(change(kind, part) for part in bare.split("/")) if bare else value


def _bind(value: Any, kind: Kind, change: Rename) -> Any:
    """`source:target[:options]`, where a source that is no path names a volume."""
    if not isinstance(value, str) or value.startswith("/") or ":" not in value:
        return value
    source, colon, rest = value.partition(":")
    return change(kind, source) + colon + rest


def _mount(value: Any, kind: Kind, change: Rename) -> Any:
    if isinstance(value, dict) and value.get("Type") == "volume" and value.get("Source"):
        return value | {"Source": change(kind, value["Source"])}
    return value


def _mode(value: Any, kind: Kind, change: Rename) -> Any:
    """A mode that may name a network, or `container:<name>`."""
    if not isinstance(value, str) or not value:
        return value
    prefix, colon, name = value.partition(":")
    if colon:
        return prefix + colon + (change("container", name) if prefix == "container" and name else name)
    return change(kind, value) if kind == "network" else value


def _link(value: Any, kind: Kind, change: Rename) -> Any:
    """`name[:alias]` in a request, `/name:/other/alias` in an answer."""
    if not isinstance(value, str):
        return value
    name, colon, alias = value.partition(":")
    return _slash(name, kind, change) + colon + (_slash(alias, kind, change) if alias.startswith("/") else alias)


def _from(value: Any, kind: Kind, change: Rename) -> Any:
    if not isinstance(value, str):
        return value
    name, colon, mode = value.partition(":")
    return change(kind, name) + colon + mode


def _keys(value: Any, kind: Kind, change: Rename) -> Any:
    return {change(kind, name): item for name, item in value.items()} if isinstance(value, dict) else value


_FORMS: Final[dict[Form, Callable[[Any, Kind, Rename], Any]]] = {
    "plain": _plain,
    "slash": _slash,
    "bind": _bind,
    "mount": _mount,
    "mode": _mode,
    "link": _link,
    "from": _from,
    "keys": _keys,
}
