"""Who gains or loses what."""

from __future__ import annotations

import pytest

from ds01.policy import load_policy
from ds01.policy.difference import EVERYBODY_ELSE, difference

from .conftest import NOW

OLD = """
default_group: student
defaults: {max_gpu_equivalents: 1, memory: 16g, max_runtime: 24h, aggregate: {max_cpus: 16}}
groups:
  student: {members: [%s]}
  researcher: {members: [carol], max_cpus: 8}
gpu_allocation: {strategy: packed}
"""
STUDENTS = [f"s{number:03}" for number in range(200)]


@pytest.fixture
def compare(tmp_path):
    def compared(old: str, new: str):
        loaded = []
        for name, text in (("old", old), ("new", new)):
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
            loaded.append(load_policy(tmp_path / f"{name}.yaml", now=NOW))
        return difference(*loaded, NOW)

    return compared


def base(*students: str) -> str:
    return OLD % ", ".join(students or STUDENTS)


def test_nothing_changes(compare):
    assert compare(base(), base()) == ([], [])


def test_the_same_change_of_many_is_one_entry(compare):
    found = compare(
        base(), base().replace("student: {", "student: {memory: 32g, max_runtime: null, allow_full_gpu: no, ")
    )
    ((changes, users),) = found.people
    assert users == [*STUDENTS, EVERYBODY_ELSE]
    assert [(change.field, change.old, change.new, change.effect) for change in changes] == [
        ("memory", 16 * 2**30, 32 * 2**30, "gains"),
        ("memory_swap", 16 * 2**30, 32 * 2**30, "gains"),
        ("max_runtime", 86_400, None, "gains"),
        ("aggregate.memory_max", 48 * 2**30, 96 * 2**30, "gains"),
    ]


def test_losing_moving_and_settings(compare):
    new = base("s000", "dora").replace("[carol]", "[carol, s001]").replace("packed", "least_allocated")
    found = compare(base("s000", "s001"), new.replace("max_cpus: 8", "max_cpus: 3"))
    people = {tuple(users): {change.field: change for change in changes} for changes, users in found.people}
    assert people[("carol",)]["max_cpus"].effect == "loses"
    assert people[("s001",)]["group"][1:3] == ("student", "researcher")
    assert people[("dora",)]["group"][1:3] == ("student (in no list)", "student")
    assert ("s000",) not in people
    assert found.settings == [("gpu_allocation.strategy", "packed", "least_allocated")]
