import os
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ds01.slices.names import (
    SLICE_NAME_MAX,
    SliceNameError,
    cgroup_path,
    escape,
    group_slice,
    parse_group_slice,
    parse_login_slice,
    parse_user_slice,
    unescape,
    user_slice,
)

groups = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True).filter(lambda name: name not in RESERVED)
RESERVED = {"unmanaged", "system", "user"}
# What a name service may return, undecodable bytes included; passwd(5) itself rules out these four.
users = (
    st.text(st.characters(exclude_characters="/:\0\n", exclude_categories=["Cs"]), min_size=1, max_size=50)
    | st.binary(min_size=1, max_size=50).map(os.fsdecode).filter(lambda name: not set(name) & set("/:\0\n"))
).filter(lambda name: name not in {".", ".."} and len(escape(name)) <= 200)
ALLOWED = set(string.ascii_letters + string.digits + ":_.\\-")


@given(users)
def test_escaping_can_be_undone(user: str):
    assert unescape(escape(user)) == user


@given(groups, users, groups, users)
def test_two_people_never_share_a_slice(group: str, user: str, other_group: str, other_user: str):
    same = user_slice(group, user) == user_slice(other_group, other_user)
    assert same == ((group, user) == (other_group, other_user))


@given(groups, users)
def test_a_slice_tells_whose_it_is(group: str, user: str):
    assert parse_user_slice(user_slice(group, user)) == (group, user)
    assert parse_group_slice(user_slice(group, user)) is None
    assert parse_group_slice(group_slice(group)) == group
    assert parse_user_slice(group_slice(group)) is None


@given(groups, users)
def test_a_slice_is_one_level_below_its_group(group: str, user: str):
    name = user_slice(group, user)
    assert set(name) <= ALLOWED
    assert cgroup_path(name).parts == ("ds01.slice", group_slice(group), name)


@given(st.text(max_size=40))
@example(":")
def test_only_names_that_escaping_makes_are_read(text: str):
    for prefix in ("ds01-student-", "ds01-", "user-", ""):
        name = f"{prefix}{text}.slice"
        owner = parse_user_slice(name)
        assert owner is None or user_slice(*owner) == name


@pytest.mark.parametrize("user", ["", ".", "..", "a/b", "a:b", "a\nb", "a\0b", "-" * 62, "é" * 31])
def test_names_that_no_slice_can_have(user: str):
    with pytest.raises(SliceNameError):
        user_slice("student", user)


@pytest.mark.parametrize("group", ["", "Student", "a-b", "1a", "unmanaged", "system", "user", "a" * 32, "a\n"])
def test_groups_that_no_slice_can_have(group: str):
    with pytest.raises(SliceNameError):
        user_slice(group, "alice")


def test_the_longest_name_leaves_room_for_its_drop_ins():
    room = SLICE_NAME_MAX - len("ds01-student-.slice")
    assert len(user_slice("student", "a" * room) + ".d") == 255
    with pytest.raises(SliceNameError, match="shorter login name"):
        user_slice("student", "a" * (room + 1))


@pytest.mark.parametrize(
    ("user", "escaped"),
    [
        ("alice", "alice"),
        ("mary-ann", r"mary\x2dann"),
        ("h.baker@example.org", r"h.baker\x40example.org"),
        (".hidden", r"\x2ehidden"),
        ("jürgen", r"j\xc3\xbcrgen"),
        ("back\\slash", r"back\x5cslash"),
        ("DOMAIN\\joe", r"DOMAIN\x5cjoe"),
    ],
)
def test_escaping_of_known_names(user: str, escaped: str):
    assert escape(user) == escaped


@pytest.mark.parametrize("text", [r"\x2E", r"\x61", "a\\", r"\xzz", "a@b", ".a"])
def test_text_that_escaping_never_makes(text: str):
    with pytest.raises(ValueError, match="systemd-escape"):
        unescape(text)


def test_login_slices():
    assert parse_login_slice("user-1722830498.slice") == 1722830498
    assert parse_login_slice("user-01.slice") is None
    assert parse_login_slice("user-.slice") is None
