"""Archives of images, as `docker save` writes them: read by their manifest, and written anew for the engine.

Only what the manifest names is written, in a layout of our own, under names that were judged: there is no second
description left (index.json, repositories, links) that the engine could read instead.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from ds01.gateway import jsonbody, references, tarball
from ds01.gateway.references import HUB
from ds01.gateway.refusals import Malformed, Refused
from ds01.gateway.spool import Part
from ds01.gateway.tarball import Entry
from ds01.policy.units import format_size

_MANIFEST: Final = "manifest.json"
_FULL_NAME: Final = "io.containerd.image.name"
_DESCRIPTION_MAX: Final = 8 << 20
"""Bytes of a manifest or the configuration of an image."""
_FILES_MAX: Final = 50_000
_LINKS_MAX: Final = 8
_PIECE: Final = 1 << 20
_OPENERS: Final[tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...]] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\x00", lzma.LZMAFile),
)
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Image:
    """One image in an archive."""

    identity: str
    tags: tuple[str, ...]
    config: bytes
    layers: tuple[Entry, ...]


def plain(file: BinaryIO, temporary: Callable[[], BinaryIO], room: Callable[[], None], most: int | None) -> BinaryIO:
    """Return an upload as a plain tar file: itself, or unpacked.

    Args:
        file: The upload.
        temporary: Makes the file that it is unpacked to.
        room: Refuses to go on when the disk is nearly full.
        most: Bytes it may have; None is no such limit.

    Raises:
        Refused: It is no such file, or too large.
        OSError: The disk is full.
    """
    file.seek(0)
    beginning = file.read(8)
    file.seek(0)
    if beginning.startswith(_ZSTD):
        raise Malformed("the archive is packed with zstd: send it plain, or packed with gzip", 415)
    opener = next((opener for magic, opener in _OPENERS if beginning.startswith(magic)), None)
    if opener is None:
        return file
    size = 0
    with ExitStack() as stack:
        unpacked = stack.enter_context(temporary())
        for piece in _unpacked(opener(file)):
            size += len(piece)
            if most is not None and size > most:
                raise Malformed(
                    f"the upload unpacks to more than {format_size(most)}, the most that images.max_upload allows", 413
                )
            room()
            unpacked.write(piece)
        unpacked.flush()
        stack.pop_all()
    return unpacked


def _unpacked(source: Any) -> Iterator[bytes]:
    while True:
        try:
            piece: bytes = source.read(_PIECE)
        except (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise Refused(400, f"the upload cannot be unpacked: {error}", "images.archive", "pack it again") from error
        if not piece:
            return
        yield piece


def read(file: BinaryIO) -> list[Image]:
    """Return the images in an archive. Raises Refused."""
    there: dict[str, Entry] = {}
    for entry in tarball.entries(file):
        there[entry.name] = entry
        if len(there) > _FILES_MAX:
            raise _bad(f"it has more than {_FILES_MAX} files")
    if _MANIFEST not in there:
        raise _bad("it has no manifest.json, so it is not from `docker save`",
                   "write it as a docker archive: docker save, or skopeo copy … docker-archive:FILE")  # fmt: skip
    manifest = _json(_content(file, _file(there, _MANIFEST)), _MANIFEST)
    if not isinstance(manifest, list):
        raise _bad("its manifest.json is not a list")
    return [_image(file, there, item) for item in manifest]


def write(images: list[tuple[Image, list[str]]]) -> list[Part]:
    """Return the archive for the engine, with these names in place of its own."""
    parts: list[Part] = []
    paths: dict[int, str] = {}
    manifest = []
    for image, tags in images:
        for layer in image.layers:
            if layer.offset not in paths:
                paths[layer.offset] = f"layer-{len(paths)}.tar"
                parts += [tarball.header(paths[layer.offset], layer.size), (layer.offset, layer.size),
                          tarball.padding(layer.size)]  # fmt: skip
        config = f"{image.identity.removeprefix('sha256:')}.json"
        parts += [tarball.header(config, len(image.config)), image.config, tarball.padding(len(image.config))]
        manifest.append({"Config": config, "RepoTags": tags, "Layers": [paths[layer.offset] for layer in image.layers]})
    content = jsonbody.write(manifest)
    return [*parts, tarball.header(_MANIFEST, len(content)), content, tarball.padding(len(content)), tarball.END]


class Renaming:
    """Changes the names of images in an archive that the engine writes, as it passes."""

    def __init__(self, rename: Callable[[str], str]) -> None:
        """Take what changes a name."""
        self._rename = rename
        self._waiting = bytearray()
        self._passing = 0
        """Bytes of content that are still to pass as they are."""

    def __call__(self, data: bytes) -> bytes:
        """Return what the client gets of these bytes."""
        self._waiting += data
        out = bytearray()
        while self._waiting:
            if self._passing:
                piece = self._waiting[: self._passing]
                out += piece
                del self._waiting[: len(piece)]
                self._passing -= len(piece)
            elif not self._entry(out):
                break
        return bytes(out)

    def _entry(self, out: bytearray) -> bool:
        """Pass the next header, or a whole description; return whether all of it was there."""
        if len(self._waiting) < tarball.BLOCK:
            return False
        header = bytes(self._waiting[: tarball.BLOCK])
        name, size = tarball.plain_header(header)
        whole = tarball.BLOCK + size + len(tarball.padding(size))
        if name not in {_MANIFEST, "index.json", "repositories"} or size > _DESCRIPTION_MAX:
            self._passing = whole
            return True
        if len(self._waiting) < whole:
            return False
        found = json.loads(self._waiting[tarball.BLOCK : tarball.BLOCK + size])
        content = jsonbody.write(self._renamed(name, found))
        out += tarball.header(name, len(content)) + content + tarball.padding(len(content))
        del self._waiting[:whole]
        return True

    def _renamed(self, name: str, found: Any) -> Any:
        if name == _MANIFEST:
            return [item | {"RepoTags": self._all(item.get("RepoTags"))} for item in found]
        if name == "repositories":
            return {self._rename(key): value for key, value in found.items()}
        for item in found.get("manifests") or []:
            notes = item.get("annotations") or {}
            if _FULL_NAME in notes:
                hub = f"{HUB}/"
                short = notes[_FULL_NAME].removeprefix(hub)
                renamed = self._rename(short)
                notes[_FULL_NAME] = hub + renamed if renamed == short else _with_tag(renamed)
        return found

    def _all(self, tags: list[str] | None) -> list[str] | None:
        return None if tags is None else [self._rename(tag) for tag in tags if not references.untagged(tag)]


def _image(file: BinaryIO, there: dict[str, Entry], item: Any) -> Image:
    if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
        raise _bad("its manifest.json does not say where the configuration of an image is")
    config = _content(file, _file(there, item["Config"]))
    if not isinstance(_json(config, "the configuration of an image"), dict):
        raise _bad("the configuration of an image is not an object")
    tags, layers = _texts(item, "RepoTags"), _texts(item, "Layers")
    identity = f"sha256:{hashlib.sha256(config).hexdigest()}"
    return Image(identity, tags, config, tuple(_file(there, layer) for layer in layers))


def _file(there: dict[str, Entry], path: str) -> Entry:
    """Return a file of an archive, behind the links that docker save writes for layers it has already."""
    name = tarball.normal(path)
    for _ in range(_LINKS_MAX):
        entry = there.get(name)
        if entry is None or entry.kind == "file":
            break
        if entry.kind not in {"link", "hard link"}:
            raise _bad(f"{path[:80]!r} is not a file")
        parent = name.rpartition("/")[0] if entry.kind == "link" else ""
        name = tarball.normal(f"{parent}/{entry.link}" if not entry.link.startswith("/") else entry.link)
    if entry is None or entry.kind != "file":
        raise _bad(f"it has no file {path[:80]!r}")
    return entry


def _content(file: BinaryIO, entry: Entry) -> bytes:
    if entry.size > _DESCRIPTION_MAX:
        raise _bad(f"{entry.name[:80]!r} has more than {_DESCRIPTION_MAX} bytes")
    file.seek(entry.offset)
    content = file.read(entry.size)
    if len(content) < entry.size:
        raise _bad("it ends early")
    return content


def _json(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _bad(f"{what} is not JSON") from error


def _with_tag(name: str) -> str:
    reference = references.parse(name).tagged
    return f"{reference.full}:{reference.tag}"


def _texts(item: dict[str, Any], name: str) -> tuple[str, ...]:
    found = item.get(name) or []
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        raise _bad(f"{name} in its manifest.json is not a list of texts")
    return tuple(found)


def _bad(reason: str, fix: str = "write it again with docker save") -> Refused:
    return Refused(400, f"the archive cannot be loaded: {reason}", "images.archive", fix)
