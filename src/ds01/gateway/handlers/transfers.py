"""Images from and to elsewhere: registries, archives, containers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from ds01.gateway import archives, messages, references
from ds01.gateway.archives import Image
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import images, registries
from ds01.gateway.handlers.common import registry_headers
from ds01.gateway.messages import Watcher
from ds01.gateway.ownership import Ownership
from ds01.gateway.references import Reference
from ds01.gateway.refusals import Malformed, Refused, not_found
from ds01.gateway.spool import see_room
from ds01.policy.units import format_size

_FROM_CLIENT: Final = "-"
_DIGEST: Final = "sha256:"


async def create(exchange: Exchange, ownership: Ownership) -> None:
    """Fetch an image from its registry, or make one of a file system that the client sends."""
    del ownership
    source = exchange.parameter("fromSrc")
    if source == _FROM_CLIENT:
        await _import(exchange)
    elif source:
        raise Refused(403, "the server fetches no files for people", "image.import",
                      "fetch it yourself: curl ADDRESS | docker import - NAME")  # fmt: skip
    else:
        reference = references.parse(_joined(exchange.parameter("fromImage"), exchange.parameter("tag")))
        await exchange.answer_by(await pull(exchange, reference, platform=exchange.parameter("platform")))


async def pull(exchange: Exchange, reference: Reference, *, platform: str | None) -> AsyncGenerator[bytes]:
    """Judge a pull, and return the messages of doing it. Raises Refused.

    What a registry gives to anybody is everybody's. What it gives for a password is the caller's: it is fetched by its
    digest, which moves no name, and named in the caller's own space.
    """
    if references.owner_of(str(reference)) is not None:
        raise Refused(404, f"{str(reference)[:80]!r}: no registry has such an image", "image.pull", "check the name")
    exchange.shared.pushing.settled(str(reference.tagged))
    await registries.check(exchange, reference)
    secret = registries.password(exchange, reference)
    headers = [("X-Registry-Auth", secret)] if secret else []
    if reference.digest:
        # The engine itself would not ask the registry again for what it has.
        await registries.digest(exchange, reference, headers)
    if secret and not reference.digest:
        if not reference.tag:
            raise Refused(403, "all tags at once are pulled without a password only", "image.pull", "name one tag")
        found = await registries.digest(exchange, reference, headers)
        pieces = _pull(exchange, Reference(reference.name, digest=found), platform, headers, own=reference)
    else:
        pieces = _pull(exchange, reference, platform, headers, own=reference if reference.digest else None)
    return exchange.shared.pulls.each(exchange.caller.uid, f"{reference}: waiting for other pulls of yours", pieces)


async def _pull(
    exchange: Exchange,
    wanted: Reference,
    platform: str | None,
    headers: list[tuple[str, str]],
    *,
    own: Reference | None,
) -> AsyncGenerator[bytes]:
    query = [("fromImage", wanted.name), ("tag", wanted.digest or wanted.tag or "")]
    query += [("platform", platform)] if platform else []
    watcher = Watcher()
    async for piece in exchange.asked(["images", "create"], query, headers=headers):
        watcher.read(piece)
        yield piece
    if own is None or watcher.failed:
        return
    answer = await exchange.engine.get("images", *str(wanted).split("/"), "json")
    identity = str(answer.json()["Id"])
    if own.digest:
        await images.keep(exchange, identity)
        return
    name = references.to_engine(own, exchange.caller.uid)
    async with images.replacing(exchange, [name]):
        await images.put_name(exchange, identity, name)
    yield messages.message(status=f"Status: {own} is yours alone: it came with your password")


async def push(exchange: Exchange, ownership: Ownership) -> None:
    """Send an image of the caller's own to its registry, with the caller's password."""
    reference = references.parse(_joined(exchange.names[0], exchange.parameter("tag")))
    if not reference.tag:
        raise Refused(403, "all tags at once are not pushed", "image.push", "name one tag")
    uid = exchange.caller.uid
    reference = references.parse(references.to_owner(str(reference), uid))
    await registries.check(exchange, reference)
    found = await images.inspected(exchange, name := references.to_engine(reference, uid))
    if found is None:
        if await images.inspected(exchange, str(reference)) is not None:
            raise Refused(403, f"{reference} is everybody's", "image.push",
                          f"make it yours first: docker tag {reference} NAME")  # fmt: skip
        raise not_found("image", str(reference))
    del name
    await exchange.answer_by(_push(exchange, ownership, reference, str(found["Id"])))


async def _push(exchange: Exchange, ownership: Ownership, reference: Reference, identity: str) -> AsyncGenerator[bytes]:
    """The engine pushes only what has the registry's name: it gets it for that time, and nobody else sees it."""
    name = str(reference)
    with exchange.shared.pushing.push(name, exchange.caller.uid):
        answer = await exchange.engine.get("images", *name.split("/"), "json")
        before = str(answer.json()["Id"]) if answer.ok else ""
        # On record first: should this process end now, the next one takes the name away again.
        await ownership.note("image", name, before, exchange.caller.uid)
        try:
            await images.put_name(exchange, identity, name)
            headers = registry_headers(exchange, registries.AUTH)
            async for piece in exchange.asked(
                ["images", *reference.name.split("/"), "push"], [("tag", reference.tag or "")], headers=headers
            ):
                yield piece
        finally:
            await ownership.put_back(name)


async def load(exchange: Exchange, ownership: Ownership) -> None:
    """Load images from an archive, under names of the caller's own."""
    del ownership
    most: int | None = (await exchange.people.tables())["images"]["max_upload"]
    uid, spool = exchange.caller.uid, exchange.shared.spool
    async with spool.keep(uid, exchange.upload(), most) as sent:
        file = await spool.ask(lambda: archives.plain(sent, spool.temporary, spool.spare, most))
        try:
            found = await spool.ask(lambda: archives.read(file))
            named = [(image, _own_names(exchange, image)) for image in found]
            await exchange.answer_by(_load(exchange, file, named))
        finally:
            file.close()


async def _load(exchange: Exchange, file: BinaryIO, named: list[tuple[Image, list[str]]]) -> AsyncGenerator[bytes]:
    spool, uid = exchange.shared.spool, exchange.caller.uid
    source = spool.read(file, archives.write(named))
    query = [("quiet", exchange.parameter("quiet") or "0")]
    keepers = {references.keeper(image.identity, uid): image.identity for image, _ in named}
    async with images.replacing(exchange, [name for _, names in named for name in names]):
        watcher = Watcher()
        async for piece in exchange.asked(["images", "load"], query, source=source):
            for found in watcher.read(piece):
                yield messages.message(**_shown(found, keepers, uid))


def _own_names(exchange: Exchange, image: Image) -> list[str]:
    tags = [images.own_name(exchange, _portable(tag)) for tag in image.tags]
    return tags or [references.keeper(image.identity, exchange.caller.uid)]


def _portable(tag: str) -> str:
    """The name of an image without the space of whoever saved it below the gateway."""
    reference = references.parse(tag)
    owner = references.owner_of(str(reference))
    return tag if owner is None else references.to_owner(str(reference), owner)


def _shown(found: dict[str, Any], keepers: dict[str, str], uid: int) -> dict[str, Any]:
    text = found.get("stream")
    if not isinstance(text, str):
        return found
    for keeper, identity in keepers.items():
        text = text.replace(f"Loaded image: {keeper}", f"Loaded image ID: {identity}")
    prefix, _, name = text.rstrip("\n").rpartition(" ")
    return found | {"stream": f"{prefix} {references.to_owner(name, uid)}\n" if prefix else text}


async def _import(exchange: Exchange) -> None:
    repository = exchange.parameter("repo")
    name = images.own_name(exchange, repository, exchange.parameter("tag")) if repository else None
    most: int | None = (await exchange.people.tables())["images"]["max_upload"]
    query = [("fromSrc", _FROM_CLIENT)]
    query += [(key, value) for key, value in exchange.query if key in {"message", "changes", "platform"}]
    if name:
        query += list(zip(("repo", "tag"), _split(name), strict=True))

    async def pieces() -> AsyncGenerator[bytes]:
        async with images.replacing(exchange, [name] if name else []):
            watcher = Watcher()
            source = _at_most(exchange.upload(), most)
            async for piece in exchange.asked(["images", "create"], query, source=source):
                watcher.read(piece)
                yield piece
            if not name and watcher.status.startswith(_DIGEST):
                await images.keep(exchange, watcher.status)

    # The body is read while the engine answers, not before.
    await exchange.answer_by(pieces(), body_used=True)


async def commit(exchange: Exchange, ownership: Ownership) -> None:
    """Make an image of a container of the caller's."""
    # dockerode repeats the query in the body; others send null.
    given = await exchange.json_body() or {}
    if not isinstance(given, dict) or {name for name, value in given.items() if value}.difference(
        exchange.route.query, {"changes"}
    ):
        raise Refused(403, "a commit takes no configuration in its body", "image.commit", "use --change")
    engine_id, _ = await ownership.resolve("container", exchange.parameter("container") or "", exchange.caller.uid)
    repository = exchange.parameter("repo")
    query = [("container", engine_id)]
    query += [(key, value) for key, value in exchange.query if key in {"comment", "author", "pause", "changes"}]
    name = images.own_name(exchange, repository, exchange.parameter("tag")) if repository else None
    if name:
        query += list(zip(("repo", "tag"), _split(name), strict=True))
    made: list[str] = []

    def change(answer: Any) -> Any:
        made.append(str(answer["Id"]))
        return answer

    async def kept() -> None:
        await images.keep(exchange, made[0])

    async with images.replacing(exchange, [name] if name else []):
        await exchange.forward(["commit"], query, content=b"{}", change=change, before=kept)


async def save(exchange: Exchange, ownership: Ownership) -> None:
    """Write images into an archive."""
    del ownership
    typed = list(exchange.names) or [value for key, value in exchange.query if key == "names"]
    if not typed:
        raise Refused(400, "no images are named", "image.save", "docker save NAME")
    found = [await images.find(exchange, name) for name in typed]
    names, uid = [image.reference for image in found], exchange.caller.uid
    size = sum(image.size for image in found)
    with exchange.shared.saves.held(uid), ExitStack() as stack:
        info = (await exchange.engine.get("info")).json()
        await exchange.shared.spool.ask(lambda: see_room(Path(info["DockerRootDir"]), size))
        stack.enter_context(exchange.shared.pushing.reading(names))

        async def read() -> None:
            # The engine has looked them up before it answers: others may push while the client takes its time.
            stack.close()

        await exchange.forward(
            ["images", "get"], [("names", name) for name in names], before=read,
            stream=archives.Renaming(lambda name: references.to_owner(name, uid)),
        )  # fmt: skip


def _joined(name: str | None, tag: str | None) -> str:
    """A name and a tag, or a digest in place of one, as one reference."""
    if not tag:
        return name or ""
    return f"{name}@{tag}" if tag.startswith(_DIGEST) else f"{name}:{tag}"


def _split(name: str) -> tuple[str, str]:
    repository, _, tag = name.rpartition(":")
    return repository, tag


async def _at_most(pieces: AsyncIterator[bytes], most: int | None) -> AsyncIterator[bytes]:
    size = 0
    async for data in pieces:
        size += len(data)
        if most is not None and size > most:
            raise Malformed(
                f"the upload has more than {format_size(most)}, the most that images.max_upload allows", 413
            )
        yield data
