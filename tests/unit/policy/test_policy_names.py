"""Names of groups and people."""

from __future__ import annotations

import pytest

from ds01.policy import names
from ds01.policy.problems import BadValue


@pytest.mark.parametrize("name", ["student", "phd_2026", "a", "a" * 31])
def test_group_names(name):
    assert names.check_group(name) == name


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("student-phd", "student_phd"), ("Student", "student"), ("2nd year", "nd_year"), ("user", "user_lab"),
        ("system", "system_lab"), ("unmanaged", "unmanaged_lab"), ("", "group1"), ("ü", "group1"), ("a" * 40, "a" * 31),
    ],
)  # fmt: skip
def test_a_wrong_group_name_gets_a_right_spelling(name, proposal):
    with pytest.raises(BadValue) as caught:
        names.check_group(name)
    assert caught.value.fix == f"call it {proposal}"
    assert names.check_group(proposal) == proposal


@pytest.mark.parametrize(
    "name", ["alice", "mary-ann", "h.baker@example.org", "228755@example.org", "LAB\\bob", "_x", "a$"]
)
def test_people_are_named_as_nss_names_them(name):
    assert names.check_user(name) == name
    assert names.unusual_user(name) is None


@pytest.mark.parametrize(
    "name", ["", "-rf", ".", "..", "a b", "a:b", "a/b", "a,b", "a\nb", "a\x00", "a" * 256, "a;b", "$(x)", "#a"]
)
def test_impossible_names(name):
    with pytest.raises(BadValue):
        names.check_user(name)


@pytest.mark.parametrize("name", ["üser", "12345", "yes", "\u0430lice"])
def test_names_that_look_like_mistakes_are_pointed_out(name):
    assert names.check_user(name) == name
    assert names.unusual_user(name)


def test_unix_groups_of_a_directory_may_hold_spaces():
    assert names.check_unix_group("Domain Users@example.org") == "Domain Users@example.org"
    for name in ("", " a", "a:b", "a\nb", "-a"):
        with pytest.raises(BadValue):
            names.check_unix_group(name)
