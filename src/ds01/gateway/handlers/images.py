"""Images: everybody's come from registries and the administrator; a person's own are below `ds01-<uid>/`.

An image without a name is kept by one that nobody can type (`references.keeper`), so that each image is its owner's by
its names alone, and several people can have the same one. What was there before DS01 came has other names: it is
everybody's to use and the administrator's to remove, but for what AIME's commands named after a person.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from ds01.gateway import jsonbody, references, target
from ds01.gateway.engine import EngineSaid
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers.common import Filters, read_filters, segments, with_filters
from ds01.gateway.ownership import Ownership
from ds01.gateway.refusals import Refused, not_found

LABEL: Final = "ds01.image"
"""Label of every container: its image as it was typed."""
_FILTERS: Final = ("before", "dangling", "label", "reference", "since", "until")
_EMPTY_LISTS: Final = (1, 43)
"""From this version on, an image without a name has none in lists; before, it was <none>:<none>."""
_NONE: Final = "<none>:<none>"
TRUE: Final = frozenset({"1", "true", "True"})
"""In a filter."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the caller may use."""

    identity: str
    reference: str
    """By which the engine finds exactly it."""
    document: dict[str, Any]

    @property
    def tags(self) -> list[str]:
        """All its names in the engine."""
        return self.document.get("RepoTags") or []

    @property
    def size(self) -> int:
        """Bytes of all its layers."""
        return int(self.document.get("Size") or 0)

    @property
    def labels(self) -> dict[str, str]:
        """What a container made from it has as well."""
        return (self.document.get("Config") or {}).get("Labels") or {}

    @property
    def healthcheck(self) -> dict[str, Any] | None:
        """What the engine does in such a container again and again, if nothing else is said."""
        return (self.document.get("Config") or {}).get("Healthcheck")

    @property
    def environment(self) -> list[str]:
        """Variables of such a container that the client does not set."""
        return (self.document.get("Config") or {}).get("Env") or []

    @property
    def working_dir(self) -> str:
        """Where such a container works if nothing else is said."""
        return (self.document.get("Config") or {}).get("WorkingDir") or ""

    @property
    def exposed(self) -> list[str]:
        """The ports on which such a container listens, as far as its maker said."""
        return list((self.document.get("Config") or {}).get("ExposedPorts") or ())

    @property
    def volumes(self) -> list[str]:
        """The directories for which each container made from it gets a volume without a name."""
        return list((self.document.get("Config") or {}).get("Volumes") or ())

    def own(self, uid: int) -> list[str]:
        """The names by which it is somebody's."""
        return [tag for tag in self.tags if references.owner_of(tag) == uid]


def visible(exchange: Exchange, reference: str) -> bool:
    """Whether the caller may see an image by this name."""
    uid = exchange.caller.uid
    return references.visible(reference, uid) and not exchange.shared.pushing.hides(reference, uid)


def names(exchange: Exchange, found: Iterable[str]) -> list[str]:
    """Names of images as the caller knows them, without those that are somebody else's."""
    uid = exchange.caller.uid
    shown = (name for name in found if visible(exchange, name) and not references.untagged(name))
    # One that everybody has may have the name of an own one.
    return list(dict.fromkeys(references.to_owner(name, uid) for name in shown))


def as_typed(shown: str, labels: Mapping[str, str]) -> str:
    """The image of a container as its owner wrote it, as engines show it, if it is still that one by its name."""
    typed = labels.get(LABEL) or ""
    digits = references.image_id(typed)
    if digits is not None and shown.startswith(f"sha256:{digits}"):
        return typed
    with suppress(Refused):
        return typed if str(references.parse(typed).tagged) == shown else shown
    return shown


def own_name(exchange: Exchange, repository: str, tag: str | None = None) -> str:
    """Return what the engine calls an image of the caller's own. Raises Refused."""
    return references.to_engine(references.parse(f"{repository}:{tag}" if tag else repository), exchange.caller.uid)


async def find(exchange: Exchange, typed: str) -> Image:
    """Return an image that the caller may use: by its name, one of their own first, or by its id. Raises Refused."""
    for name in _spellings(exchange, typed):
        if (found := await inspected(exchange, name)) is not None:
            return Image(str(found["Id"]), name, found)
    identity = await _by_id(exchange, typed)
    if identity is not None and (found := await inspected(exchange, identity)) is not None:
        return Image(identity, identity, found)
    raise not_found("image", typed)


async def inspected(exchange: Exchange, reference: str) -> dict[str, Any] | None:
    """What the engine says of an image, if the caller may see it."""
    answer = await exchange.engine.get("images", *reference.split("/"), "json")
    if not answer.ok:
        return None
    found: dict[str, Any] = answer.json()
    # An id, or a digest, finds anybody's.
    return found if any(visible(exchange, tag) for tag in found.get("RepoTags") or []) else None


async def passed(exchange: Exchange, ownership: Ownership) -> None:
    """Show something about an image."""
    del ownership
    found = await find(exchange, exchange.names[0])

    def change(answer: Any) -> Any:
        for row in answer if isinstance(answer, list) else [answer]:
            for name in ("RepoTags", "RepoDigests", "Tags"):
                if row.get(name) is not None:
                    row[name] = names(exchange, row[name])
        return answer

    await exchange.forward(segments(exchange, found.identity), exchange.query, change=change)


async def listing(exchange: Exchange, ownership: Ownership) -> None:
    """List everybody's images and the caller's own."""
    del ownership
    filters = read_filters(exchange, *_FILTERS)
    dangling = {value in TRUE for value in filters.pop("dangling", [])}
    await engine_filters(exchange, filters)
    old = await exchange.version() < _EMPTY_LISTS

    def change(answer: Any) -> Any:
        rows = []
        for row in answer:
            shown, digests = names(exchange, row.get("RepoTags") or []), names(exchange, row.get("RepoDigests") or [])
            if not any(visible(exchange, tag) for tag in row.get("RepoTags") or [] if tag != _NONE):
                continue
            shown = [tag for tag in shown if tag != _NONE]
            if dangling and (not shown) not in dangling:
                continue
            if old and not shown:
                shown, digests = [_NONE], digests or ["<none>@<none>"]
            rows.append(row | {"RepoTags": shown, "RepoDigests": digests, "Containers": -1})
        return rows

    await exchange.forward(["images", "json"], with_filters(exchange.query, filters), change=change)


async def engine_filters(exchange: Exchange, filters: Filters) -> None:
    """Change the filters of a list to the engine's names. Raises Refused."""
    uid = exchange.caller.uid
    if "reference" in filters:
        filters["reference"] = [
            spelling for typed in filters["reference"] for spelling in (typed, _own_pattern(typed, uid))
        ]
    for name in ("before", "since"):
        if name in filters:
            filters[name] = [(await find(exchange, typed)).identity for typed in filters[name]]


async def tag(exchange: Exchange, ownership: Ownership) -> None:
    """Give an image another name in the caller's own space."""
    del ownership
    found = await find(exchange, exchange.names[0])
    name = own_name(exchange, exchange.parameter("repo") or "", exchange.parameter("tag"))
    async with replacing(exchange, [name]):
        await put_name(exchange, found.identity, name)
    await exchange.answer(201, b"")


async def remove(exchange: Exchange, ownership: Ownership) -> None:
    """Take names of the caller's own away; the layers go with the last one."""
    del ownership
    typed = exchange.names[0]
    found = await find(exchange, typed)
    own = found.own(exchange.caller.uid)
    by_name = found.reference != found.identity
    if not own or (by_name and found.reference not in own):
        raise Refused(403, f"{typed} is everybody's", "image.public", "it is removed when nobody uses it any more")
    if (
        not by_name
        and len({name.rpartition(":")[0] for name in own if not references.untagged(name)}) > 1
        and not exchange.flag("force")
    ):
        raise Refused(
            409, f"conflict: unable to delete {typed} (must be forced) - image is referenced in multiple repositories",
            "image.referenced",
        )  # fmt: skip
    query = [(name, value) for name, value in exchange.query if name in {"force", "noprune"}]
    rows = await remove_names(exchange, found, [found.reference] if by_name else own, query)
    await exchange.answer(200, jsonbody.write(rows))


async def remove_names(
    exchange: Exchange, found: Image, going: list[str], query: Iterable[tuple[str, str]] = ()
) -> list[dict[str, str]]:
    """Take names of an image away; return the engine's report. Raises EngineSaid when the last of them has to stay."""
    uid = exchange.caller.uid
    stay = [tag for tag in found.tags if tag not in going]
    if not any(references.owner_of(tag) == uid and not references.untagged(tag) for tag in stay):
        # What only kept it goes with the last real name, and before it: the engine looks for users at the last.
        going = list(dict.fromkeys([*(tag for tag in stay if references.owner_of(tag) == uid), *going]))
    if not any(tag not in going for tag in found.tags):
        going = [*(found.document.get("RepoDigests") or []), *going]
    rows: list[dict[str, str]] = []
    for name in going:
        path = target.build(await exchange.version(), ["images", *name.split("/")], query)
        answer = await exchange.engine.ask("DELETE", path)
        if answer.ok:
            rows += answer.json()
        elif name == going[-1]:
            said = EngineSaid(answer.head.status, answer.content)
            said.args = (str(said).replace(f"ds01-{uid}/", ""),)
            raise said
    return [
        {key: references.to_owner(value, uid) for key, value in row.items()}
        for row in rows
        if not references.untagged(row.get("Untagged", ""))
    ]


async def put_name(exchange: Exchange, identity: str, name: str) -> None:
    """Let the engine give an image a name. Raises EngineSaid."""
    repository, _, tagged = name.rpartition(":")
    path = target.build(await exchange.version(), ["images", identity, "tag"], [("repo", repository), ("tag", tagged)])
    answer = await exchange.engine.ask("POST", path)
    if not answer.ok:
        raise EngineSaid(answer.head.status, answer.content)


@asynccontextmanager
async def replacing(exchange: Exchange, given: Iterable[str]) -> AsyncIterator[None]:
    """Keep what own names mean now, if it has no other name after the block."""
    before = {name: found["Id"] for name in given if (found := await inspected(exchange, name)) is not None}
    try:
        yield
    finally:
        for name, identity in before.items():
            found = await inspected(exchange, name)
            if found is None or found["Id"] != identity:
                await keep(exchange, identity)


async def keep(exchange: Exchange, identity: str) -> None:
    """See that an image is the caller's, also when it has no name. Raises EngineSaid."""
    uid = exchange.caller.uid
    answer = await exchange.engine.get("images", identity, "json")
    if answer.ok and not Image(identity, identity, answer.json()).own(uid):
        await put_name(exchange, identity, references.keeper(identity, uid))


def _spellings(exchange: Exchange, typed: str) -> Iterator[str]:
    """Yield what a name can mean in the engine, with a tag: without one, it could also be the start of an id."""
    if typed.startswith("sha256:"):
        return
    try:
        reference = references.parse(typed).tagged
    except Refused:
        return
    with suppress(Refused):
        yield references.to_engine(reference, exchange.caller.uid)
    if visible(exchange, str(reference)):
        yield str(reference)


async def _by_id(exchange: Exchange, typed: str) -> str | None:
    """Return the id that something is, or begins, among the images that the caller may see."""
    digits = references.image_id(typed)
    if digits is None or len(digits) == references.DIGITS:
        return f"sha256:{digits}" if digits else None
    rows = (await exchange.engine.get("images", "json")).json()
    matching = {
        str(row["Id"])
        for row in rows
        if str(row["Id"]).startswith(f"sha256:{digits}")
        and any(visible(exchange, tag) for tag in row.get("RepoTags") or [] if tag != _NONE)
    }
    return matching.pop() if len(matching) == 1 else None


def _own_pattern(typed: str, uid: int) -> str:
    first, slash, rest = typed.removeprefix(f"ds01-{uid}/").partition("/")
    return f"ds01-{uid}/{first.replace(':', '--') if slash else first}{slash}{rest}"
