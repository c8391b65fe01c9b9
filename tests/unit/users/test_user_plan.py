"""What a run would do, decided from account files of the test's own."""

from __future__ import annotations

import datetime as dt
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ds01.problems import ApplyError, Problem
from ds01.users.accounts import Accounts
from ds01.users.plan import Plan, Planner, Settings
from ds01.users.spec import parse_people
from tests.unit.users.people_keys import key

Planned = Callable[..., tuple[Plan, list[Problem]]]
DIRECTORY = {
    "h.baker@example.org": (1722830498, "/home/h.baker@example.org"),
    "H.Baker@Example.org": (1722830498, "/home/h.baker@example.org"),
    "www-data@example.org": (33, "/var/www"),
}


def _find(name: str) -> pwd.struct_passwd | None:
    if name not in DIRECTORY:
        return None
    uid, home = DIRECTORY[name]
    return pwd.struct_passwd((name.lower(), "*", uid, 1722800513, "", home, "/bin/bash"))


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\nold:x:1007:1007:Old One:/home/old:/bin/sh\n"
    )
    (etc / "shadow").write_text("root:*:1:0:99999:7:::\nold:$y$x:1:0:99999:7:::\n")
    (etc / "group").write_text("root:x:0:\nold:x:1007:\nds01-users:x:990:old,gone\nds01-admin:x:989:old\nvideo:x:44:\n")
    (etc / "gshadow").write_text("root:*::\nold:!::\nds01-users:!::old,gone\nds01-admin:!::old\nvideo:*::\n")
    (etc / "login.defs").write_text("UID_MIN 1000\nUID_MAX 1010 # small\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "scratch").mkdir()

    def plan(people: list[dict[str, Any]], **changes: Any) -> tuple[Plan, list[Problem]]:
        parsed, problems = parse_people(people)
        assert problems == []
        settings = Settings(
            **{
                "home_base": str(tmp_path / "home"),
                "scratch_base": str(tmp_path / "scratch"),
                "etc": etc,
                "today": dt.date(2026, 11, 22),
                "find": _find,
            }
            | changes
        )
        return Planner(parsed, Accounts(etc), settings).make()

    return plan


def _changes(plan: Plan, login: str) -> dict[str, str]:
    return {change.what: change.after for change in plan.all_changes() if change.login == login}


def test_a_new_person(planned: Planned):
    plan, problems = planned(
        [{"name": "anna", "groups": ["ds01-users"], "ssh_keys": [key(1)], "expires": "2026-12-01"}]
    )
    assert problems == []
    assert plan.accounts.passwd.get("anna") == ["anna", "x", "1008", "1008", "", plan.people[0].home, "/bin/bash"]
    assert plan.accounts.shadow.get("anna") == ["anna", "*", "20779", "0", "99999", "7", "", "20788", ""]
    assert plan.accounts.members("ds01-users") == ["old", "gone", "anna"]
    assert plan.unlisted == ["gone", "old"]
    assert _changes(plan, "anna").keys() == {"account", "home", "ssh keys", "scratch", "groups"}


def test_an_administrator_who_is_one_no_more(planned: Planned):
    plan, _ = planned([{"name": "old", "groups": ["ds01-users", "video"]}])
    assert plan.accounts.members("ds01-admin") == []
    assert plan.accounts.members("video") == ["old"]
    assert _changes(plan, "old")["groups"] == "-ds01-admin +video"
    assert plan.unlisted == ["gone"]


def test_password_and_uid_of_an_account_stay(planned: Planned):
    plan, _ = planned([{"name": "old", "comment": "New Name", "groups": ["ds01-users", "ds01-admin"]}])
    assert plan.accounts.passwd.get("old") == ["old", "x", "1007", "1007", "New Name", "/home/old", "/bin/sh"]
    assert not plan.accounts.shadow.changed


def test_people_of_a_directory_get_no_account(planned: Planned):
    plan, problems = planned([{"name": "h.baker@example.org", "groups": ["ds01-users"]}, {"name": "no@example.org"}])
    assert problems == []
    assert not plan.accounts.passwd.changed
    assert plan.accounts.members("ds01-users")[-1] == "h.baker@example.org"
    assert plan.unresolved == ["no@example.org"]


def test_whoever_came_from_a_directory_gets_no_account_while_it_does_not_answer(planned: Planned):
    plan, problems = planned([{"name": "gone", "groups": ["ds01-users"]}])
    assert problems == []
    assert plan.unresolved == ["gone"]
    assert not plan.accounts.passwd.changed


def test_an_account_whose_making_was_cut_off_is_made(planned: Planned, tmp_path: Path):
    for name in ("group", "gshadow"):
        text = (tmp_path / "etc" / name).read_text()
        (tmp_path / "etc" / name).write_text(text + ("gone:x:1008:\n" if name == "group" else "gone:!::\n"))
    plan, _ = planned([{"name": "gone", "groups": ["ds01-users"]}])
    assert plan.accounts.passwd.get("gone") is not None


def test_members_are_looked_up_and_never_made(planned: Planned):
    plan, problems = planned([{"name": name, "create": False} for name in ("old", "www", "007", "nobody-knows")])
    assert problems == []
    assert [person.login for person in plan.people] == ["old"]
    assert plan.unresolved == ["007", "nobody-knows"]
    assert "people.www: uid 33" in plan.warnings[0]
    assert plan.accounts.shadow.changed is False


def test_nothing_is_made_for_somebody_whose_date_has_passed(planned: Planned):
    people = [{"name": name, "expires": "2026-11-22"} for name in ("anna", "h.baker@example.org")]
    plan, problems = planned(people)
    assert problems == []
    assert plan.past == ["anna", "h.baker@example.org"]
    assert not plan.changed


def test_one_person_in_two_spellings(planned: Planned):
    _, problems = planned([{"name": "h.baker@example.org"}, {"name": "old"}])
    assert problems == []
    twin = {"uid-twin@example.org": (1722830498, "/home/x")}
    DIRECTORY.update(twin)
    try:
        _, problems = planned([{"name": "h.baker@example.org"}, {"name": "uid-twin@example.org"}])
    finally:
        DIRECTORY.pop("uid-twin@example.org")
    assert [problem.path for problem in problems] == ["people.uid-twin@example.org"]


@pytest.mark.parametrize(
    ("person", "path"),
    [
        ({"name": "www"}, "people.www"),
        ({"name": "www-data@example.org"}, "people.www-data@example.org"),
        ({"name": "video"}, "people.video"),
        ({"name": "old", "uid": 2000}, "people.old.uid"),
        ({"name": "anna", "uid": 1007}, "people.anna.uid"),
        ({"name": "anna", "groups": ["nogroup-at-all"]}, "people.anna.groups"),
        ({"name": "anna", "shell": "/bin/nosuchshell"}, "people.anna.shell"),
        ({"name": "h.baker@example.org", "uid": 5000}, "people.h.baker@example.org.uid"),
    ],
)
def test_what_the_host_stands_against(planned: Planned, person: dict[str, Any], path: str):
    _, problems = planned([person, {"name": "bob"}])
    assert [problem.path for problem in problems] == [path]


def test_a_home_without_an_account_gives_its_uid(planned: Planned, tmp_path: Path):
    (tmp_path / "home" / "anna").mkdir(mode=0o700)
    if os.getuid() == 0:
        os.chown(tmp_path / "home" / "anna", 1003, 1003)
        plan, problems = planned([{"name": "bob"}, {"name": "anna"}])
        assert problems == []
        assert plan.accounts.passwd.get("anna")[2] == "1003"
        os.chown(tmp_path / "home" / "anna", 1007, 1007)
    _, problems = planned([{"name": "anna"}])
    assert [problem.value for problem in problems] == [str(tmp_path / "home" / "anna")]


def test_a_removed_persons_uid_is_never_given_out(planned: Planned):
    plan, _ = planned([{"name": "anna"}, {"name": "bob"}], reserved_uids=(1008,))
    assert [person.uid for person in plan.people] == [1009, 1010]


def test_a_full_range_of_uids_is_said(planned: Planned):
    with pytest.raises(ApplyError, match="raise UID_MAX"):
        planned([{"name": f"s{number}"} for number in range(20)])


def test_off_boarded_people_stay_out_until_they_are_listed_again(planned: Planned):
    gone = {"disabled": {"old": "/bin/sh"}}
    plan, _ = planned([{"name": "old", "expires": "2026-11-22", "groups": ["ds01-users", "video"]}], **gone)
    assert not plan.accounts.changed()
    plan, _ = planned([{"name": "old", "expires": "2027-11-22", "groups": ["ds01-users"]}], **gone)
    assert plan.people[0].restore
    assert plan.accounts.shadow.get("old")[7] == "21144"
