"""Names of images: what a person types, the engine keeps and a registry gets are one and the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gateway import references
from ds01.gateway.refusals import Refused

part = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
host = st.from_regex(r"[a-z0-9]{1,5}\.[a-z]{2,3}(:[1-9][0-9]{0,4})?|localhost(:[1-9][0-9]{0,4})?", fullmatch=True)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
uid = st.integers(0, 4_000_000_000)


@st.composite
def typed(draw: st.DrawFn) -> str:
    """A reference as people type it."""
    path = "/".join(draw(st.lists(part, min_size=1, max_size=3)))
    place = draw(st.none() | host)
    return (f"{place}/" if place else "") + path + draw(st.just("") | tag.map(lambda value: f":{value}"))


@given(typed(), uid)
def test_an_own_name_is_found_again_as_it_was_typed(name: str, owner: int):
    try:
        engine = references.to_engine(references.parse(name), owner)
    except Refused:
        return
    shown = references.to_owner(engine, owner)
    assert references.parse(shown) == references.parse(name).tagged
    assert references.owner_of(engine) == owner
    assert references.to_engine(references.parse(shown), owner) == engine
    # Its full spelling means the same, for its owner.
    assert references.to_engine(references.parse(engine), owner) == engine


@given(typed(), typed(), uid, uid)
def test_nobodys_own_names_meet(one: str, other: str, first: int, second: int):
    engine = {}
    for name, owner in ((one, first), (other, second)):
        try:
            engine[name, owner] = references.to_engine(references.parse(name), owner)
        except Refused:
            return
    if engine[one, first] == engine[other, second]:
        assert first == second
        assert references.parse(one).tagged == references.parse(other).tagged


@given(st.text(st.sampled_from("abAB01.:/-_@$ \n\0é"), max_size=30), uid, uid)
def test_no_text_leads_into_the_space_of_another(text: str, owner: int, other: int):
    for wanted in (text, f"ds01-{other}/{text}", f"docker.io/ds01-{other}/{text}", f"library/ds01-{other}/{text}"):
        try:
            engine = references.to_engine(references.parse(wanted), owner)
        except Refused:
            continue
        assert engine.startswith(f"ds01-{owner}/")
        assert references.owner_of(engine) == owner
        assert not references.untagged(engine)


def test_the_keeper_of_an_image_without_a_name_is_hidden_and_ones_own():
    keeper = references.keeper("sha256:" + "a" * 64, 7)
    assert references.untagged(keeper)
    assert references.owner_of(keeper) == 7
    assert references.parse(keeper)
    with pytest.raises(Refused):
        references.to_engine(references.parse(references.to_owner(keeper, 7)), 7)


@pytest.mark.parametrize(("name", "owner"), [
    ("python:3.12", None), ("ds01-5/x:1", 5), ("docker.io/ds01-5/x", 5), ("aimehub/torch:nets._.1001", 1001),
    ("ghcr.io/ds01-5/x", None), ("ds01-lab/base", None), ("x@sha256:" + "0" * 64, None),
])  # fmt: skip
def test_whose_a_name_is(name: str, owner: int | None):
    assert references.owner_of(name) == owner


@pytest.mark.parametrize(("name", "full"), [
    ("python", "docker.io/library/python"), ("a/b:1", "docker.io/a/b"), ("docker.io/library/x", "docker.io/library/x"),
    ("localhost:5000/x:1", "localhost:5000/x"), ("index.docker.io/a/b", "docker.io/a/b"),
])  # fmt: skip
def test_the_registry_of_a_name(name: str, full: str):
    assert references.parse(name).full == full
