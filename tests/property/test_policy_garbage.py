"""Whatever is in the file, the answer is a policy or a list of findings, never an exception of another kind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.policy import PolicyError, Problem, load_policy
from ds01.policy.models import Policy
from ds01.policy.models.limits import Limits
from ds01.policy.people import read_people

KEYS = st.sampled_from(
    [*Policy.model_fields, *Policy.old_names, *Limits.model_fields, *Limits.old_names, "student", "members", "x"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["32g", "48h", "yes", "student", "", "\x07"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
EXISTING = (Path(__file__).parents[1] / "unit/policy/data/existing.yaml").read_bytes()


def try_to_load(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "policy.yaml")
        path.write_bytes(content)
        problems: tuple[Problem, ...] = ()
        try:
            problems = load_policy(path).warnings
        except PolicyError as error:
            problems = error.errors or pytest.fail("refused without an error")
    assert all(str(problem).isprintable() and problem.expected and problem.fix for problem in problems)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_structure(data):
    try_to_load(yaml.safe_dump(data, allow_unicode=True).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(content):
    try_to_load(content)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(EXISTING) - 1), st.integers(0, 40), st.binary(max_size=6))
def test_a_damaged_policy(start, length, inserted):
    try_to_load(EXISTING[:start] + inserted + EXISTING[start + length :])


@pytest.mark.parametrize("suffix", ["csv", "yaml"])
@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: f"login,name,keys\n{text}".encode()))
def test_any_people_file(suffix, content):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, f"people.{suffix}")
        path.write_bytes(content)
        people, problems = read_people(path)
        assert people or problems
        assert all(problem.expected and problem.fix for problem in problems)
