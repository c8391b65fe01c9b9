"""Binds, volumes and other mounts of a container: judged at create, pinned for the engine, shown as they were typed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote, unquote

from ds01.gateway import pins
from ds01.gateway.binds import Wish, glance, refused
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import volumes
from ds01.gateway.people import Person
from ds01.gateway.refusals import Refused

LABEL: Final = "ds01.binds"
"""Label of every container: the token of its pins, empty without any, so that none is inherited from an image."""
_TYPED: Final = "ds01.bind."
"""Beginning of the labels that say what the owner wrote, percent-encoded: no value of a label holds a comma."""
_BIND: Final = re.compile(r"(?P<source>[^:]+):(?P<target>/[^:]*)(?::(?P<options>[a-zA-Z,-]+))?")
_BIND_OPTIONS: Final = frozenset({"ro", "rw"})
_IGNORED_OPTIONS: Final = frozenset({"z", "Z", "rprivate", "private", "cached", "delegated", "consistent", "nocopy"})
_BINDS_MAX: Final = 64
"""Of one container: others wait while they are mounted."""
_PRIVATE: Final = frozenset({None, "", "rprivate", "private"})
_FROM_BINDS: Final = "b"
_FROM_MOUNTS: Final = "m"
_MADE: Final = "c"
"""How a bind was written, the first letter of its pin: `Binds`, `Mounts`, or `Mounts` whose source may be made."""


@dataclass
class Files:
    """What a container has of files that are not its own."""

    token: str = field(default_factory=pins.new_token)
    wishes: dict[str, Wish] = field(default_factory=dict)
    """Its binds, by the names of their pins."""
    volumes: dict[str, dict[str, str] | None] = field(default_factory=dict)
    """Its named volumes, and the labels they shall have."""
    only_read: set[str] = field(default_factory=set)
    """The names of binds that were asked for so."""

    def labels(self) -> dict[str, str]:
        """The labels by which the binds are found again."""
        typed = {f"{_TYPED}{name}": quote(wish.source) for name, wish in self.wishes.items()}
        return {LABEL: self.token if self.wishes else "", **typed}

    def mount(self, kind: str, source: str, target: str, *, read_only: bool) -> dict[str, Any]:
        """Note a bind, and return how the engine gets it: as a mount, whose source it never makes."""
        if len(self.wishes) >= _BINDS_MAX:
            raise Refused(
                403, f"a container has {_BINDS_MAX} binds at most", "bind.count", "bind a directory above them"
            )
        name = f"{kind}{len(self.wishes)}"
        self.wishes[name] = _wish(name, source)
        self.only_read |= {name} if read_only else set()
        place = pins.place(self.token, name)
        return {"Type": "bind", "Source": place, "Target": target, "ReadOnly": read_only}


async def judge(exchange: Exchange, host: dict[str, Any]) -> Files:
    """Judge what is bound and mounted, and change it into what the engine gets. Raises Refused."""
    files = Files()
    binds: list[str] = []
    mounts: list[dict[str, Any]] = []
    for entry in host.get("Binds") or []:
        if isinstance(sent := _bind(entry, files), str):
            binds.append(sent)
        else:
            mounts.append(sent)
    mounts += [_mount(entry, files) for entry in host.get("Mounts") or []]
    taken = {mount["Target"] for mount in mounts} | {bind.split(":")[1] for bind in binds}
    for entry in host.pop("VolumesFrom", None) or []:
        # As mounts of this container: pins of the other one go when that one goes.
        mounts += [mount for mount in await _others(exchange, entry, files) if mount["Target"] not in taken]
    host["Binds"], host["Mounts"] = binds, mounts
    for wish in files.wishes.values():
        glance(wish, exchange.shared.sockets.path(exchange.caller.uid))
    return files


async def pin(exchange: Exchange, files: Files, image_id: str, user: str) -> list[str]:
    """Make the pins of a container that is about to be made, and return what its owner should know. Raises Refused."""
    if not files.wishes:
        return []
    if not user:
        image = await exchange.engine.get("images", image_id, "json")
        user = str((image.json().get("Config") or {}).get("User") or "")
    shared = await _pin(exchange, exchange.caller.person, files.token, files.wishes, user)
    sources = [files.wishes[name].source for name in shared if name not in files.only_read]
    return [f"{source} is not yours: containers only read it" for source in sources]


async def release(exchange: Exchange, files: Files) -> None:
    """Let go of the pins of a container that was not made. Raises Refused."""
    if files.wishes:
        await exchange.shared.disk.ask(lambda: pins.release(files.token))


async def renew(
    exchange: Exchange, found: dict[str, Any], owner: Person | None = None, *, missing_only: bool = False
) -> None:
    """Make the pins of a container what its owner's paths lead to now.

    Args:
        exchange: What is under way.
        found: The engine's description of the container; of one that is gone it is empty.
        owner: Whose it is, when an administrator asks, who may start what cannot be pinned. None: the caller's.
        missing_only: Leave those that are there.

    Raises:
        Refused: It has binds that may not be there, or that nobody can pin.
    """
    given = (found.get("Config") or {}).get("Labels") or {}
    token, person = str(given.get(LABEL) or ""), owner or exchange.caller.person
    wishes: dict[str, Wish] = {}
    for mount in found.get("Mounts") or []:
        if mount.get("Type") != "bind":
            continue
        source = str(mount.get("Source"))
        match pins.token_of(source):
            case (of, name) if of == token and (typed := _typed(given, name)) is not None:
                wishes[name] = _wish(name, typed)
            case _ if owner is None:
                await _see_fixed(exchange, source, person)
    if wishes and not (missing_only and await exchange.shared.disk.ask(lambda: pins.exists(token))):
        await _pin(exchange, person, token, wishes, str((found.get("Config") or {}).get("User") or ""))


async def foreign(exchange: Exchange, found: dict[str, Any]) -> list[str]:
    """Return what a container has bound, past the gateway, of what is not its owner's."""
    sources = [str(mount.get("Source")) for mount in found.get("Mounts") or [] if mount.get("Type") == "bind"]
    fixed = [source for source in sources if pins.token_of(source) is None]
    person = exchange.caller.person
    if not fixed:
        return []
    return await exchange.shared.disk.ask(lambda: [source for source in fixed if not pins.is_own(source, person)])


def as_typed(document: Any) -> Any:
    """Show binds in a container's description as their owner wrote them."""
    given = document.get("Labels") or (document.get("Config") or {}).get("Labels") or {}
    host = document.get("HostConfig") or {}
    for mount in document.get("Mounts") or []:
        mount["Source"] = _shown(given, mount.get("Source"))
    kept, binds = [], []
    for mount in host.get("Mounts") or []:
        known = pins.token_of(str(mount.get("Source") or ""))
        mount["Source"] = _shown(given, mount.get("Source"))
        if known is not None and known[1].startswith(_FROM_BINDS):
            binds.append(f"{mount['Source']}:{mount['Target']}:{'ro' if mount.get('ReadOnly') else 'rw'}")
        else:
            kept.append(mount)
    if binds:
        host["Binds"] = [*(host.get("Binds") or []), *binds]
        host["Mounts"] = kept
    return document


async def _pin(exchange: Exchange, person: Person, token: str, wishes: dict[str, Wish], user: str) -> list[str]:
    socket = _socket(exchange, wishes, person)
    return await exchange.shared.disk.ask(lambda: pins.pin(token, wishes, person, user, socket))


def _shown(given: dict[str, str], source: Any) -> Any:
    known = pins.token_of(str(source or ""))
    typed = _typed(given, known[1]) if known is not None else None
    return source if typed is None else typed


def _typed(given: dict[str, str], name: str) -> str | None:
    typed = given.get(f"{_TYPED}{name}")
    return None if typed is None else unquote(typed)


def _wish(name: str, source: str) -> Wish:
    return Wish(source, make=name.startswith((_FROM_BINDS, _MADE)))


def _socket(exchange: Exchange, wishes: dict[str, Wish], person: Person) -> Path:
    sockets = exchange.shared.sockets
    own = sockets.path(person.uid)
    if any(wish.is_socket(own) for wish in wishes.values()):
        # Inside, the socket is its owner's own one, whoever the processes there say they are.
        return sockets.ensure(person.uid)
    return own


async def _see_fixed(exchange: Exchange, source: str, person: Person) -> None:
    """A container from before the gateway has paths of people: those that lead elsewhere tomorrow are not started."""
    if not await exchange.shared.disk.ask(lambda: pins.is_own(source, person, fixed=True)):
        raise refused(
            source, "the container is older than this rule, and the path could lead elsewhere at any time",
            "make the container anew, or ask the administrator to start it",
        )  # fmt: skip


def _bind(entry: str, files: Files) -> str | dict[str, Any]:
    match = _BIND.fullmatch(entry)
    if match is None:
        raise Refused(400, f"Binds: {entry[:120]!r}: expected source:/target[:ro]", "api.field")
    options = set(filter(None, (match["options"] or "").split(",")))
    if odd := options - _BIND_OPTIONS - _IGNORED_OPTIONS:
        raise Refused(
            403, f"Binds: option {min(odd)} reaches back to the server", "bind.options", "use ro, rw or nothing"
        )
    if match["source"].startswith("/"):
        return files.mount(_FROM_BINDS, match["source"], match["target"], read_only="ro" in options)
    files.volumes.setdefault(match["source"])
    mode = "ro" if "ro" in options else "rw"
    return f"{match['source']}:{match['target']}:{mode}{',nocopy' if 'nocopy' in options else ''}"


def _mount(entry: dict[str, Any], files: Files) -> dict[str, Any]:
    kind, source = entry["Type"], entry.get("Source") or ""
    sent: dict[str, Any] = {"Type": kind, "Target": entry["Target"], "ReadOnly": entry.get("ReadOnly", False)}
    if kind == "bind":
        options = entry.get("BindOptions") or {}
        if options.get("Propagation") not in _PRIVATE:
            raise Refused(403, "Mounts: bind propagation reaches back to the server", "bind.options", "leave it out")
        written = _MADE if options.get("CreateMountpoint") else _FROM_MOUNTS
        return files.mount(written, source, entry["Target"], read_only=sent["ReadOnly"])
    if kind == "tmpfs":
        given = entry.get("TmpfsOptions") or {}
        return sent | {"TmpfsOptions": {key: given[key] for key in ("SizeBytes", "Mode") if key in given}}
    if kind != "volume":
        raise Refused(403, f"Mounts: type {kind[:40]!r} is not offered", "mount.type", "use volume, bind or tmpfs")
    given = entry.get("VolumeOptions") or {}
    driver = given.get("DriverConfig") or {}
    volumes.check_driver(driver.get("Name"), driver.get("Options"))
    if source:
        # Its name in the engine, by now; the id of one without a name is its name.
        files.volumes[source] = given.get("Labels")
        sent["Source"] = source
    subpath = given.get("Subpath") or ""
    if subpath and (subpath.startswith("/") or ".." in PurePosixPath(subpath).parts):
        raise Refused(403, "Mounts: Subpath leaves the volume", "mount.subpath", "name a directory inside it")
    options = {"NoCopy": given.get("NoCopy", False)} | ({"Subpath": subpath} if subpath else {})
    return sent | {"VolumeOptions": options}


async def _others(exchange: Exchange, entry: str, files: Files) -> list[dict[str, Any]]:
    """What another container of the owner's has: `id[:mode]`."""
    engine_id, _, mode = entry.partition(":")
    if mode not in {"", "ro", "rw", "z", "Z"}:
        raise Refused(400, f"VolumesFrom: {mode[:40]!r}: expected ro or rw", "api.field")
    other = (await exchange.engine.get("containers", engine_id, "json")).json()
    given = (other.get("Config") or {}).get("Labels") or {}
    found = []
    for mount in other.get("Mounts") or []:
        target, read_only = str(mount["Destination"]), mode == "ro" or not mount.get("RW", True)
        if mount.get("Type") == "bind":
            typed = str(_shown(given, mount.get("Source")))
            found.append(files.mount(_FROM_MOUNTS, typed, target, read_only=read_only))
        elif mount.get("Type") == "volume":
            found.append({"Type": "volume", "Source": mount["Name"], "Target": target, "ReadOnly": read_only})
    return found
