"""Classic builds: inside the caller's slice, into the caller's names, from images that the caller may use.

The context is kept on disk, its Dockerfile is read, judged and written anew (`dockerfile`, `recipe`), and the engine
gets the context with ours beside it. Every image in it is an id that was looked at, so what is built on was judged.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from typing import Any, BinaryIO, Final

from ds01.gateway import archives, dockerfile, ignored, jsonbody, messages, recipe, references, tarball
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import images, networks, transfers
from ds01.gateway.handlers.common import LABEL_UID, without_ours
from ds01.gateway.messages import Watcher
from ds01.gateway.ownership import Ownership
from ds01.gateway.recipe import Recipe, Wanted
from ds01.gateway.refusals import Refused
from ds01.gateway.shapes import table, text
from ds01.gateway.spool import Part
from ds01.slices.names import user_slice

_HIDDEN: Final = ".ds01-"
"""Beginning of the name of our Dockerfile, whose rest nobody can know beforehand."""
_DOCKERFILE: Final = "Dockerfile"
_IGNORED: Final = ".dockerignore"
_IGNORED_MAX: Final = 1 << 20
_KEPT: Final = frozenset({"nocache", "platform", "target", "buildid", "extrahosts"})
_CPU_PERIOD: Final = 100_000
_LINKS_MAX: Final = 4
BUILDKIT: Final = "BuildKit builds outside everybody's limits"
INSTEAD: Final = (
    "`export DOCKER_BUILDKIT=0`, then `docker build` or `docker compose build` work (`docker buildx` does not);"
    " `ds01 image build` does what only BuildKit can"
)


async def build(exchange: Exchange, ownership: Ownership) -> None:
    """Build an image from the context that the client sends, on the caller's own network."""
    if exchange.parameter("version") == "2" or exchange.parameter("session"):
        raise Refused(403, BUILDKIT, "build.buildkit", INSTEAD)
    _check(exchange)
    given = _table(exchange, "buildargs")
    names = [images.own_name(exchange, value) for name, value in exchange.query if name == "t"]
    most: int | None = (await exchange.people.tables())["images"]["max_upload"]
    uid, spool = exchange.caller.uid, exchange.shared.spool
    async with AsyncExitStack() as stack:
        sent = await stack.enter_async_context(spool.keep(uid, exchange.upload(), most))
        file = await spool.ask(lambda: archives.plain(sent, spool.temporary, spool.spare, most))
        stack.callback(file.close)
        content = await spool.ask(lambda: _dockerfile(file, exchange.parameter("dockerfile") or _DOCKERFILE))
        plan = await spool.ask(lambda: recipe.plan(dockerfile.read(content), given, exchange.parameter("target")))
        cache = [found for name in _list(exchange, "cachefrom") if (found := await _known(exchange, name)) is not None]
        query = await _query(exchange, names, given | plan.arguments, cache)
        query.append(("networkmode", await _network(exchange, ownership)))
        context = await spool.ask(lambda: _context(file, exchange.parameter("dockerfile") or _DOCKERFILE))
        pulls = [wanted for wanted in plan.wanted if await _to_pull(exchange, wanted)]
        await exchange.answer_by(_build(exchange, file, plan, pulls, query, context=context))


async def _build(
    exchange: Exchange,
    file: BinaryIO,
    plan: Recipe,
    pulls: list[Wanted],
    query: list[tuple[str, str]],
    *,
    context: list[Part],
) -> AsyncGenerator[bytes]:
    for wanted in pulls:
        watcher = Watcher()
        async for piece in await transfers.pull(
            exchange, references.parse(wanted.name).tagged, platform=wanted.platform or None
        ):
            watcher.read(piece)
            yield piece
        if watcher.failed:
            return
    found: dict[Wanted, str] = {}
    for wanted in plan.wanted:
        image = await images.find(exchange, wanted.name)
        for trigger in (image.document.get("Config") or {}).get("OnBuild") or []:
            dockerfile.judge_trigger(str(trigger), wanted.name)
        found[wanted] = image.identity
    names = [value for key, value in query if key == "t"]
    name = f"{_HIDDEN}{secrets.token_hex(16)}"
    ours = plan.write(found, f"ds01.managed=true {LABEL_UID}={exchange.caller.uid}")
    source = exchange.shared.spool.read(file, [*_entry(name, ours), *context])
    quiet = exchange.flag("q")
    async with images.replacing(exchange, names):
        watcher = Watcher()
        async for piece in exchange.asked(["build"], [*query, ("dockerfile", name)], source=source):
            read = watcher.read(piece)
            shown = piece if not quiet else b"".join(messages.message(**item) for item in read if "error" in item)
            yield shown.replace(f"ds01-{exchange.caller.uid}/".encode(), b"")
        if watcher.identity and not names:
            await images.keep(exchange, watcher.identity)
        if watcher.identity and quiet:
            # The engine's own quiet form has the id where a step could have written one.
            yield messages.message(stream=f"{watcher.identity}\n")


def _entry(name: str, content: bytes) -> list[Part]:
    return [tarball.header(name, len(content)), content, tarball.padding(len(content))]


def _context(file: BinaryIO, path: str) -> list[Part]:
    """Return what the engine gets of a context: our list of what is ignored is in it.

    What the list names, the engine takes away before the first step: else each `COPY . .` would bring our Dockerfile
    along, and nothing from there on would ever come from the cache. The list names itself where the client sent no
    file: a link is replaced by it, and clients that follow links have left out what the list behind it names.

    Of all that is on the list clients send the Dockerfile alone, which the engine would take away after it read it. It
    reads ours, so it is left out here. Some clients give theirs another name each time, which no cache survives either.
    """
    position, content = 0, None
    dockerfiles: dict[str, list[tuple[int, int]]] = {}
    wanted, linked = tarball.normal(path), set()
    for entry in tarball.entries(file):
        end = entry.offset + entry.size + len(tarball.padding(entry.size))
        if entry.name == _IGNORED:
            if entry.size > _IGNORED_MAX:
                raise Refused(400, f"the {_IGNORED} in the directory that is built has more than {_IGNORED_MAX} bytes",
                              "build.dockerignore", "make it shorter")  # fmt: skip
            file.seek(entry.offset)
            content = file.read(entry.size) if entry.kind == "file" else None
            position = end
        elif entry.kind == "file" and entry.name in {wanted, wanted.lower()}:
            dockerfiles.setdefault(entry.name, []).append((entry.start, end))
        elif entry.kind == "hard link":
            linked.add(tarball.normal(entry.link))
    own = f"{_IGNORED}\n".encode() if content is None else content
    if wanted == _DOCKERFILE and wanted not in dockerfiles:
        wanted = wanted.lower()
    # What other entries are links to has to be there.
    hidden = wanted not in linked and ignored.hides(own, wanted)
    left_out = dockerfiles.get(wanted, []) if hidden else []
    size = file.seek(0, 2)
    # `docker build -f -` sends no padding behind the last entry.
    there = min(position, size)
    listed = own + (b"" if own.endswith(b"\n") or not own else b"\n") + f"{_HIDDEN}*\n".encode()
    before, after = _without(left_out, 0, there), _without(left_out, there, size)
    return [*before, bytes(position - there), *_entry(_IGNORED, listed), *after]


def _without(left_out: list[tuple[int, int]], begin: int, end: int) -> list[Part]:
    """What there is between two places of a file, but for some of it."""
    parts: list[Part] = []
    for start, stop in left_out:
        if begin <= start < end:
            parts.append((begin, start - begin))
            begin = min(stop, end)
    return [*parts, (begin, end - begin)]


async def _network(exchange: Exchange, ownership: Ownership) -> str:
    """Return the engine's name of the network that the steps of a build are on: one of the caller's, or none."""
    wanted = exchange.parameter("networkmode") or "default"
    if wanted == "none":
        return wanted
    if wanted in {"default", networks.DEFAULT}:
        return await networks.own_bridge(exchange, ownership)
    return (await ownership.resolve("network", wanted, exchange.caller.uid))[0]


def _dockerfile(file: BinaryIO, path: str) -> bytes:
    """Return the Dockerfile in a context. Raises Refused."""
    wanted = tarball.normal(path)
    for _ in range(_LINKS_MAX):
        found = None
        for entry in tarball.entries(file):
            if entry.name == wanted or (found is None and wanted == _DOCKERFILE and entry.name == _DOCKERFILE.lower()):
                found = entry
        if found is None:
            raise Refused(400, f"Cannot locate specified Dockerfile: {path[:200]}", "build.dockerfile",
                          "name it with -f, inside the directory that is built")  # fmt: skip
        if found.kind == "file":
            if found.size > dockerfile.SIZE_MAX:
                raise Refused(403, f"the Dockerfile has more than {dockerfile.SIZE_MAX} bytes", "build.dockerfile")
            file.seek(found.offset)
            return file.read(found.size)
        if found.kind not in {"link", "hard link"}:
            break
        parent = wanted.rpartition("/")[0] if found.kind == "link" else ""
        wanted = tarball.normal(f"{parent}/{found.link}")
    raise Refused(400, f"the Dockerfile {path[:200]} is not a file", "build.dockerfile", "name a file with -f")


async def _to_pull(exchange: Exchange, wanted: Wanted) -> bool:
    """Whether an image has to come from its registry first. Raises Refused when it cannot."""
    known = await _known(exchange, wanted.name)
    mine = known is not None and references.owner_of(known) == exchange.caller.uid
    if mine or (known is not None and not exchange.flag("pull") and not wanted.platform):
        return False
    digits = references.image_id(wanted.name)
    if digits is not None and (wanted.name != digits or len(digits) == references.DIGITS):
        raise Refused(404, f"No such image: {wanted.name}", "owner.image")
    # What is not allowed is refused before anything is answered.
    await (await transfers.pull(exchange, references.parse(wanted.name).tagged, platform=None)).aclose()
    return True


async def _known(exchange: Exchange, name: str) -> str | None:
    try:
        return (await images.find(exchange, name)).reference
    except Refused as refusal:
        if refusal.status != 404:  # noqa: PLR2004 - it can be pulled
            raise
        return None


async def _query(
    exchange: Exchange, names: list[str], arguments: Mapping[str, str], cache: list[str]
) -> list[tuple[str, str]]:
    limits = await exchange.people.limits(exchange.caller.person)
    values = limits.values
    query = [(name, value) for name, value in exchange.query if name in _KEPT]
    query += [("t", name) for name in names]
    query += [
        ("version", "1"),
        ("rm", "1"),
        ("forcerm", "1"),
        ("cgroupparent", user_slice(limits.group, exchange.caller.person.name)),
        ("labels", jsonbody.write(without_ours(_table(exchange, "labels"))).decode()),
        ("buildargs", jsonbody.write(dict(arguments)).decode()),
        ("shmsize", str(values["shm_size"])),
    ]
    if cache:
        query.append(("cachefrom", jsonbody.write(cache).decode()))
    if values["memory"] is not None:
        swap = values["memory_swap"]
        query += [("memory", str(values["memory"])), ("memswap", str(swap if swap is not None else -1))]
    if values["max_cpus"] is not None:
        query += [("cpuperiod", str(_CPU_PERIOD)), ("cpuquota", str(round(values["max_cpus"] * _CPU_PERIOD)))]
    return query


def _check(exchange: Exchange) -> None:
    if exchange.parameter("remote"):
        raise Refused(403, "the server fetches no build contexts", "build.remote", "clone it, then build the directory")
    for name in ("outputs", "squash", "securityopt"):
        if exchange.parameter(name) not in {None, "", "0", "false", "null", "[]", "{}"}:
            raise Refused(403, f"the build option {name} is not offered", f"build.{name}", "leave it out")
    if exchange.parameter("networkmode") == "host":
        raise Refused(403, "a build uses the default network, one of yours or none", "build.network",
                      "leave --network out")  # fmt: skip
    if any("host-gateway" in value for name, value in exchange.query if name == "extrahosts"):
        raise Refused(403, "a build does not reach the host", "build.extrahosts", "leave --add-host out")


def _table(exchange: Exchange, name: str) -> dict[str, str]:
    given = exchange.parameter(name)
    found: dict[str, Any] = table(text)(jsonbody.read(given.encode()), name) or {} if given else {}
    # A build argument without a value is one that the client's environment does not have.
    return {key: value for key, value in found.items() if value is not None}


def _list(exchange: Exchange, name: str) -> list[str]:
    given = exchange.parameter(name)
    found = jsonbody.read(given.encode()) if given else []
    return [value for value in found if isinstance(value, str)] if isinstance(found, list) else []
