"""The list of people: what is refused, and that all of it is named at once."""

from __future__ import annotations

import datetime as dt

import pytest

from ds01.users.spec import is_directory_name, key_blob, key_fault, parse_people
from tests.unit.users.people_keys import key


def test_a_whole_person():
    people, problems = parse_people(
        [
            {
                "name": "mary-ann",
                "comment": "Mary-Ann Müller, R 4",
                "groups": ["ds01-users", "ds01-users"],
                "ssh_keys": [key(1), " ", key(1)],
                "expires": "2027-03-31",
                "uid": 1722830498,
                "quota": {"home": 1024, "scratch": None},
            }
        ]
    )
    assert problems == []
    person = people[0]
    assert person.groups == ("ds01-users",)
    assert person.keys == (key(1),)
    assert person.expires == dt.date(2027, 3, 31)
    assert (person.quota_home, person.quota_scratch) == (1024, None)


@pytest.mark.parametrize(
    "name", ["alice", "mary-ann", "j.doe", "Anna", "x_1", "h.baker@example.org", "LAB\\anna", "a" * 32]
)
def test_names_of_people(name: str):
    assert parse_people([{"name": name}])[1] == []


@pytest.mark.parametrize(
    "name",
    [
        *("", "-rf", ".hidden", "a:b", "a b", "a/b", "../x", "a\nb", "1234", "a" * 33, "end.", "ü", "@x:y"),
        *("root", "Docker", "ds01-x", "_apt", "systemd-network", "~me@example.org", None, 7),
    ],
)
def test_names_of_nobody(name: object):
    people, problems = parse_people([{"name": name}])
    assert people == []
    assert len(problems) == 1
    assert all(problems[0].__getattribute__(part) for part in ("path", "expected", "fix"))


def test_all_problems_of_all_people_at_once():
    _, problems = parse_people(
        [
            {"name": "root"},
            {
                "name": "anna",
                "uid": 0,
                "expires": "31.03.2027",
                "groups": ["docker"],
                "ssh_keys": ["ssh-rsa AAAA"],
                "shel": 1,
            },
            {"name": "bob", "comment": "a:b", "shell": "bash", "quota": {"home": -1}},
            "carol",
        ]
    )
    paths = {problem.path for problem in problems}
    assert paths == {
        "people[0].name",
        "people.anna.uid",
        "people.anna.expires",
        "people.anna.groups",
        "people.anna.ssh_keys[0]",
        "people.anna.shel",
        "people.bob.comment",
        "people.bob.shell",
        "people.bob.quota.home",
        "people[3]",
    }


def test_the_same_person_or_uid_twice():
    _, problems = parse_people([{"name": "anna", "uid": 2000}, {"name": "Anna"}, {"name": "bob", "uid": 2000}])
    assert [problem.path for problem in problems] == ["people.Anna.name", "people.bob.uid"]


@pytest.mark.parametrize(
    "line",
    [
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
        key(1).replace("ssh-ed25519 ", "ssh-rsa "),
        "ssh-dss AAAA",
        key(1) + "\nssh-ed25519 AAAA",
        'command="x ' + key(1),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_key(line: str):
    assert key_fault(line)


def test_keys_with_options():
    line = 'from="10.0.0.0/8,*.example.org",command="echo \\"hi there\\"",restrict ' + key(2)
    assert key_fault(line) is None
    assert key_blob(line) == key_blob(key(2, "elsewhere"))


def test_directory_names():
    assert is_directory_name("h.baker@example.org")
    assert is_directory_name("LAB\\anna")
    assert not is_directory_name("h.baker")
