"""The file for hosts, and the data for roles."""

from __future__ import annotations

import json

from ds01.policy import load_policy, render
from ds01.policy.handover import handover
from ds01.users.spec import parse_people

from .conftest import BASE, NOW

TEXT = (
    BASE.replace("members: [alice]", "members: [zed, alice], members_file: m")
    + "people_files: [p.csv]\nuser_overrides_file: o.yaml\nexemptions_file: e.yaml\ngroup_overrides_file: g\n"
)
FILES = {
    "m": "bob\n",
    "p_dot_csv": "login,name,group,expires,shell\ncarol,Carol Secret,student,2027-03-31,/bin/zsh\n",
    "o_dot_yaml": "bob: {cpus: 2}\n",
    "e_dot_yaml": "- {username: bob, exempt_from: [idle_timeout_h], expires_on: 2027-01-01}\n",
    "g": "dora:student\n",
}


def test_one_file_holds_everything_but_personal_data(load, tmp_path):
    text = render(load(TEXT, **FILES))
    assert text.startswith("# Written by DS01")
    assert "Secret" not in text
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "policy.yaml").write_text(text, encoding="utf-8")
    alone = load_policy(tmp_path / "alone" / "policy.yaml", now=NOW)
    assert alone.warnings == ()
    assert alone.policy.groups["student"].members == ("alice", "bob", "carol", "dora", "zed")
    assert alone.policy.user_overrides["bob"].max_cpus == 2
    assert alone.policy.exemptions[0].exempt_from == ("idle_timeout",)
    assert render(alone) == text


def test_rendering_does_not_depend_on_the_order_of_members(load):
    assert render(load(BASE.replace("[alice]", "[a, b]"))) == render(load(BASE.replace("[alice]", "[b, a]")))


def test_names_that_look_like_other_things_stay_names(load, tmp_path):
    text = render(load(BASE.replace("[alice]", "[007, 1e3, '12', yes, 'null', '1_0', a.b, '0x1', 2026-01-01]")))
    (tmp_path / "again.yaml").write_text(text, encoding="utf-8")
    again = load_policy(tmp_path / "again.yaml", now=NOW)
    assert set(again.policy.groups["student"].members) == {
        "007",
        "1e3",
        "12",
        "yes",
        "null",
        "1_0",
        "a.b",
        "0x1",
        "2026-01-01",
    }


def test_roles_get_plain_data(load):
    extra = "bare_metal: {exempt_users: [zed]}\nadmins: {users: [alice], groups: [wheel]}\nengine: {log_max_size: 5m}\n"
    loaded = load(TEXT + extra + "logins: {max_cpus: 2}\nusers: {offboard_grace: 30d}\n", **FILES)
    data = handover(loaded, NOW)
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {
        "rendered", "slices", "logins", "people", "groups", "storage", "users", "admins", "engine", "gpu_allocation",
        "warnings",
    }  # fmt: skip
    assert data["logins"] == {
        "max_cpus": 2.0, "memory_max": 16 * 2**30, "memory_high": None, "tasks_max": 4096,
        "exempt_users": ["alice", "zed"], "exempt_groups": ["sudo", "wheel"], "close_gpus": True,
    }  # fmt: skip
    carol, *members = data["people"]
    # Members of groups who are in no people file are looked up on the host, never made there.
    assert {"alice", "bob"} <= {person["name"] for person in members}
    assert all(person["create"] is False for person in members)
    # The last day in the policy is the day before the account closes.
    assert (carol["name"], carol["expires"], carol["shell"], carol["groups"]) == (
        "carol",
        "2027-04-01",
        "/bin/zsh",
        ["ds01-users"],
    )
    assert parse_people(data["people"])[1] == []
    assert data["users"]["offboard_grace"] == 30 * 86_400
    assert (data["engine"]["log_max_size"], data["engine"]["log_max_file"]) == ("5m", 3)
    assert data["storage"]["directories"]["/data"]["mode"] == "2750"
