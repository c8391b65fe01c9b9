"""Who somebody is, and what the policy says of them, when many ask at the same moment."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from ds01.gateway.people import People
from ds01.gateway.refusals import Refused
from ds01.policy.problems import PolicyError

MANY = 1_000


def ask(people: People, question: str, *arguments: Any) -> list[Any]:
    """Ask the same many times at once; an answer is a value or what was raised."""

    async def main() -> list[Any]:
        asked = getattr(people, question)
        try:
            return await asyncio.gather(*(asked(*arguments) for _ in range(MANY)), return_exceptions=True)
        finally:
            people.close()

    return asyncio.run(main())


def test_many_at_once_are_one_question_about_the_policy():
    asked: list[int] = []

    def tables() -> dict[str, Any]:
        asked.append(1)
        return {"admins": {"users": ["root"], "groups": []}}

    answers = ask(People(tables), "tables")
    assert len(asked) == 1
    assert [answer["admins"]["users"] for answer in answers] == [["root"]] * MANY


def test_a_policy_that_is_broken_is_read_again_for_those_who_come_later():
    asked: list[int] = []

    def tables() -> dict[str, Any]:
        asked.append(1)
        if len(asked) == 1:
            raise PolicyError([])
        return {}

    async def main() -> None:
        people = People(tables)
        with pytest.raises(Refused, match="policy on this server cannot be used"):
            await people.tables()
        assert await people.tables() == {}
        people.close()

    asyncio.run(main())
    assert len(asked) == 2


def test_many_at_once_are_one_question_about_a_person():
    answers = ask(People(dict), "person", os.getuid())
    assert {answer.uid for answer in answers} == {os.getuid()}
