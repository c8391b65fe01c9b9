"""Layers count once for whoever has them, however they are spread over images."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ds01.monitor.layers import OwnImage, shares, sizes

# An image is a path in the tree of all layers: each layer is named by its parent, too, as the engine's chain is.
PATHS = st.lists(st.integers(0, 2), min_size=1, max_size=5).map(
    lambda steps: tuple("".join(map(str, steps[: depth + 1])) for depth in range(len(steps)))
)


def size_of(layer: str) -> int:
    return int(layer) % 97 + 1


def image(layers: tuple[str, ...]) -> OwnImage:
    return OwnImage("/".join(layers), layers, tuple(map(size_of, layers)))


@given(st.sets(PATHS), st.sets(PATHS), st.randoms())
def test_each_layer_counts_once_and_what_is_everybodys_never(own: set[Any], others: set[Any], random: Any):
    images = [image(layers) for layers in own]
    random.shuffle(images)
    found = shares(images, others)
    mine = {layers[:depth] for layers in own for depth in range(1, len(layers) + 1)}
    public = {layers[:depth] for layers in others for depth in range(1, len(layers) + 1)}
    assert sum(found.values()) == sum(size_of(path[-1]) for path in mine - public)
    assert found.keys() == {one.identity for one in images}


STEPS = st.one_of(
    st.tuples(st.just('/bin/sh -c #(nop)  CMD ["sh"]'), st.none()),
    st.tuples(st.just("ENV A=b"), st.none()),
    st.tuples(st.just("RUN /bin/sh -c make # buildkit"), st.integers(0, 50)),
    st.tuples(st.just("/bin/sh -c #(nop) WORKDIR /x"), st.just(0)),
)


@given(st.lists(STEPS))
def test_every_layer_gets_its_own_size(steps: list[tuple[str, int | None]]):
    layers = [(number, size) for number, (_, size) in enumerate(steps) if size is not None]
    history = [{"CreatedBy": text, "Size": size or 0} for text, size in reversed(steps)]
    assert sizes([str(number) for number, _ in layers], history) == tuple(size for _, size in layers)


@given(st.lists(st.integers(0, 9), max_size=4), st.lists(st.integers(0, 9), max_size=4))
def test_a_history_that_does_not_fit_loses_nothing(layers: list[int], history: list[int]):
    found = sizes(list(map(str, layers)), [{"CreatedBy": "?", "Size": size} for size in history])
    assert len(found) == len(layers)
    assert not layers or sum(found) == sum(history)
