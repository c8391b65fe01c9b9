"""Targets: one reading of path, version and query, and our own spelling of it."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.gateway import target
from ds01.gateway.refusals import Malformed, Refused

REFUSED = [
    "//_ping", "/../_ping", "/./x", "/containers//json", "/containers/x/", "/", "/a%00b", "/a%2e%2e%2fb/../c",
    "/%2e%2e/x",
    "/a%25b", "/a%zz", "/a%", "/caf%C3%A9", "/x?a=1;b=2", "/x?=1", "/x?a?b", "/v1.041/_ping", "/v01.41/_ping",
    "/v1.41.0/_ping", "/v1/_ping", "/x?a=%ff", "/x?a=%00",
]  # fmt: skip


@pytest.mark.parametrize("raw", REFUSED)
def test_other_spellings_are_refused(raw: str):
    with pytest.raises(Malformed):
        target.parse(raw)


@pytest.mark.parametrize("version", ["1.12", "1.21", "1.23", "0.9"])
def test_old_versions_are_refused_with_the_engines_words(version: str):
    with pytest.raises(Refused, match=f"client version {version} is too old. Minimum supported API version is 1.24"):
        target.parse(f"/v{version}/containers/json")


@pytest.mark.parametrize("raw", ["/%63ontainers/json", "/containers%2fjson", "/v1%2e45/containers/json"])
def test_a_percent_spelling_means_what_the_engine_takes_it_for(raw: str):
    assert target.parse(raw).path == "/containers/json"


def test_the_first_of_two_parameters_is_not_guessed():
    with pytest.raises(Malformed, match="the parameter name is there 2 times"):
        target.select(target.parse("/x?name=a&name=b").query, ["name"])
    assert target.select(target.parse("/x?t=a&t=b&odd=1").query, [], ["t"]) == [("t", "a"), ("t", "b")]


NAMES = st.text("abcXYZ019_.-:@", min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})


@given(st.lists(NAMES, min_size=1, max_size=4), st.lists(st.tuples(st.sampled_from("abc"), st.text(max_size=8))))
def test_what_we_write_is_what_we_meant(segments: list[str], query: list[tuple[str, str]]):
    written = urlsplit(target.build((1, 45), segments, query))
    assert [unquote(part) for part in written.path.split("/")[1:]] == ["v1.45", *segments]
    assert parse_qsl(written.query, keep_blank_values=True, strict_parsing=bool(query)) == query
