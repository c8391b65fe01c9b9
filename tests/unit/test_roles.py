"""Roles and playbooks keep to the same form: what is declared is what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# Set by an inventory, so they have no default in a role.
INVENTORY = {"ds01_policy_file", "ds01_allow_cgroup_v1"}
# Best effort: without it the first question of each person takes longer.
MAY_BE_LOST = {"Compile the policy"}


def read(role: str, path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text(encoding="utf-8"))


def playbook(name: str) -> list[dict[str, Any]]:
    return yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("role", ROLES)
def test_what_is_declared_is_what_there_is(role: str):
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    defaults = read(role, "defaults/main.yml") or {}
    declared = {name: option for spec in specs.values() for name, option in spec.get("options", {}).items()}
    own = {name: option for name, option in declared.items() if name.startswith(f"{role}_")}
    assert own.keys() == defaults.keys()
    assert all(name.startswith(f"{role}_") for name in defaults)
    # A list of many lines has its default in one place only.
    assert all(option["default"] == defaults[name] for name, option in own.items() if "default" in option)
    assert {name for name, option in own.items() if "default" not in option} <= {"timers_jobs"}
    assert declared.keys() - own.keys() <= INVENTORY | {"departed", "confirm"}
    tasks = {path.stem for path in (ROOT / "roles" / role / "tasks").glob("*.yml")}
    assert specs.keys() == tasks - {"take"}


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_explained_and_can_be_undone(role: str):
    for path in ("README.md", "tasks/main.yml", "tasks/remove.yml", "meta/main.yml"):
        assert (ROOT / "roles" / role / path).is_file()
    assert read(role, "tasks/remove.yml")
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert [name for name in read(role, "defaults/main.yml") or {} if name not in readme] == []


def test_every_role_is_undone_by_the_playbook():
    [loop] = [task["loop"] for task in playbook("remove.yml")[0]["tasks"] if "loop" in task]
    assert sorted(loop) == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_no_later_failure_loses_what_a_handler_does(role: str):
    for path in sorted((ROOT / "roles" / role / "tasks").glob("*.yml")):
        owed: set[str] = set()
        for task in yaml.safe_load(path.read_text(encoding="utf-8")):
            if task.get("ansible.builtin.meta") == "flush_handlers":
                owed.clear()
            notified = task.get("notify", [])
            owed |= {notified} if isinstance(notified, str) else set(notified)
        assert owed <= MAY_BE_LOST, path


@pytest.mark.parametrize("name", ["site.yml", "users.yml", "offboard.yml", "remove.yml"])
def test_one_run_at_a_time_changes_a_host(name: str):
    [play] = [
        play
        for play in playbook(name)
        if "preflight" in str(play.get("pre_tasks", play.get("tasks"))) and "begin" in str(play)
    ]
    steps = [*play.get("pre_tasks", []), *play.get("tasks", []), *play.get("post_tasks", [])]
    roles = [step.get("ansible.builtin.import_role", {}) for step in steps]
    begin = roles.index({"name": "preflight", "tasks_from": "begin"})
    # Before it only the controller is asked.
    assert all(role.get("tasks_from") == "validate" for role in roles[:begin])
    last = roles[-1] == {"name": "preflight", "tasks_from": "release"} or steps[-1].get("loop", [""])[-1] == "preflight"
    assert last
