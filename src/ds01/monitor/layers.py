"""Whose the layers of images are: a layer that several images have is on the disk once, and counts once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

Layers: TypeAlias = tuple[str, ...]
"""The layers of an image, the lowest first. Images share them from the lowest up: what is below is part of a layer."""
# Steps of a Dockerfile that only say something of the image, in the words of the classic builder and of BuildKit.
_SAYS: Final = re.compile(
    r"#\(nop\)\s+(?!WORKDIR|COPY|ADD)"
    r"|^(?:ENV|CMD|ENTRYPOINT|LABEL|EXPOSE|USER|VOLUME|ARG|ONBUILD|HEALTHCHECK|SHELL|STOPSIGNAL|MAINTAINER)\b"
)


class OwnImage(NamedTuple):
    """An image of somebody's own, with the size in bytes of each of its layers."""

    identity: str
    layers: Layers
    sizes: tuple[int, ...]


def stored(store: Path, layers: Sequence[str]) -> tuple[int, ...] | None:
    """Return the bytes of each layer, as the engine itself noted them where it keeps layers; None if it does not there.

    The history of an image is its maker's word: without one, or with another one, layers would count for nothing.

    Args:
        store: Its directory `image/DRIVER`.
        layers: Their digests, the lowest first.
    """
    found: list[int] = []
    chain = ""
    for layer in layers:
        # By what it lies on (https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid).
        chain = f"sha256:{hashlib.sha256(f'{chain} {layer}'.encode()).hexdigest()}" if chain else layer
        try:
            found.append(int((store / "layerdb" / chain.replace(":", "/") / "size").read_text(encoding="ascii")))
        except (OSError, ValueError):
            return None
    return tuple(found)


def sizes(layers: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Return the bytes of each layer, by the history of the image, whose newest step is the first.

    Steps that made no layer have the size 0, but so have some layers. Where the two do not fit, all counts for the top
    layer, which nobody else has.
    """
    spare = len(history) - len(layers)
    found: list[int] = []
    for step in reversed(history):
        size = int(step.get("Size") or 0)
        if size == 0 and spare > 0 and _SAYS.search(str(step.get("CreatedBy") or "")):
            spare -= 1
        else:
            found.append(size)
    while len(found) > len(layers) and 0 in found:
        found.remove(0)
    if len(found) != len(layers):
        return (*[0] * (len(layers) - 1), sum(found)) if layers else ()
    return tuple(found)


def shares(own: Iterable[OwnImage], everybodys: Iterable[Layers]) -> dict[str, int]:
    """Return the bytes that each image of one person adds to what is everybody's and to that person's other images."""
    taken = {layers[:depth] for layers in everybodys for depth in range(1, len(layers) + 1)}
    result: dict[str, int] = {}
    for image in sorted(own, key=lambda one: (len(one.layers), one.identity)):
        added = 0
        for depth, size in enumerate(image.sizes, 1):
            if image.layers[:depth] not in taken:
                taken.add(image.layers[:depth])
                added += size
        result[image.identity] = added
    return result
