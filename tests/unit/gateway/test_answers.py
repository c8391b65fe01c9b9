"""What clients read about the engine before they ask for anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from ds01.gateway import answers
from ds01.gateway.exchange import Exchange
from ds01.gateway.handlers import system
from ds01.gateway.head import ResponseHead
from ds01.gateway.ownership import Ownership


@pytest.mark.parametrize(
    ("said", "shown"),
    [("1.24", "1.24"), ("1.45", "1.45"), ("1.51", "1.51"), ("1.52", "1.51"), ("1.99", "1.51"), ("2.0", "1.51"),
     ("1.100", "1.51"), ("", "1.24"), ("1", "1.24"), ("new", "1.24"), ("1.x", "1.24")],
)  # fmt: skip
def test_no_client_is_told_of_a_version_that_is_not_in_our_tables(said: str, shown: str):
    passed = answers.passed(ResponseHead(200, (("API-Version", said), ("Ostype", "linux"))))
    assert passed == [("Ostype", "linux"), ("Api-Version", shown)]


@pytest.mark.parametrize("said", ["1", "2", "3", ""])
def test_no_client_is_told_to_build_by_buildkit(said: str):
    assert answers.passed(ResponseHead(200, (("Builder-Version", said),))) == [("Builder-Version", "1")]
    # An engine that says nothing has only the classic builder.
    assert answers.passed(ResponseHead(200, ())) == []


class _Versions:
    """An exchange with an engine that answers this."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def forward(self, segments: list[str], *, change: Callable[[Any], Any]) -> None:
        assert segments == ["version"]
        self.answer = change(self.answer)


def test_version_says_the_same_in_both_places():
    def told(version: str) -> Any:
        engine = {"Name": "Engine", "Details": {"ApiVersion": version, "MinAPIVersion": "1.24"}}
        other = {"Name": "containerd", "Details": {"GitCommit": "x"}}
        exchange = _Versions({"ApiVersion": version, "Components": [engine, other, {"Name": "runc"}], "Os": "linux"})
        asyncio.run(system.version(cast("Exchange", exchange), cast("Ownership", None)))
        assert exchange.answer["Components"][1:] == [other, {"Name": "runc"}]
        assert (exchange.answer["Os"], engine["Details"]["MinAPIVersion"]) == ("linux", "1.24")
        return exchange.answer["ApiVersion"], engine["Details"]["ApiVersion"]

    assert told("1.99") == ("1.51", "1.51")
    assert told("1.45") == ("1.45", "1.45")
