"""Whose limits are what."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ds01.policy import load_policy, resolve

from .conftest import NOW

GIB = 2**30
ROOT = Path(__file__).parents[3]
POLICY = """
default_group: student
defaults: {max_gpu_equivalents: 1, max_cpus: 8, memory: 16g, max_containers_per_user: 2, policies: {grace_period: 10m}}
policies: {grace_period: 20m, gpu_idle_threshold: 7}
groups:
  student: {members: [alice, bob], priority: 5}
  researcher: {members: [carol], unix_group: gpu-research, memory: 64g, policies: {gpu_idle_threshold: 9}}
  admin: {unix_group: admins, max_cpus: null}
user_overrides:
  bob: {max_cpus: 12}
  carol: {memory: 32g, priority: 3, expires: 2026-11-22}
"""


def test_programs_may_have_threads_for_each_of_their_cpus():
    """OpenMP starts one for each CPU, in each process: with 512 for 32 CPUs programs of two processes did not start."""
    policy = load_policy(ROOT / "inventory/resource-limits.yaml").policy
    people = [next(iter(group.members)) for group in policy.groups.values() if group.members]
    assert len(people) >= 2
    for user in (*people, "somebody in no list"):
        values = resolve(policy, user, NOW).values
        for tasks, cpus in (("pids_limit", "max_cpus"), ("aggregate.tasks_max", "aggregate.max_cpus")):
            if values[tasks] is not None:
                assert values[tasks] >= 32 * values[cpus], (user, tasks)


@pytest.fixture
def policy(load):
    return load(POLICY).policy


@pytest.mark.parametrize(
    ("user", "field", "value", "origin"),
    [
        ("alice", "max_cpus", 8, "defaults"),
        ("alice", "priority", 5, "groups.student"),
        ("alice", "pids_limit", 4096, "built-in"),
        ("alice", "policies.grace_period", 600, "defaults"),
        ("alice", "policies.gpu_idle_threshold", 7, "policies"),
        ("bob", "max_cpus", 12, "user_overrides.bob"),
        ("bob", "memory", 16 * GIB, "defaults"),
        ("bob", "priority", 100, "user_overrides.bob (implied)"),
        ("carol", "memory", 32 * GIB, "user_overrides.carol"),
        ("carol", "priority", 3, "user_overrides.carol"),
        ("carol", "policies.gpu_idle_threshold", 9, "groups.researcher"),
        ("carol", "memory_swap", 32 * GIB, "= memory"),
        ("bob", "aggregate.max_cpus", 24, "= max_cpus x containers"),
        ("carol", "aggregate.memory_max", 64 * GIB, "= memory x containers"),
    ],
)
def test_each_field_comes_from_the_nearest_level(policy, user, field, value, origin):
    resolved = resolve(policy, user, NOW)
    assert (resolved.values[field], resolved.origins[field]) == (value, origin)


def test_every_field_has_a_value_and_an_origin(policy):
    resolved = resolve(policy, "alice", NOW)
    assert set(resolved.values) == set(resolved.origins) == set(policy.tables["kinds"])


@pytest.mark.parametrize(
    ("user", "unix_groups", "group", "by"),
    [
        ("alice", (), "student", "members"),
        ("alice", ("gpu-research",), "student", "members"),
        ("bob", (), "student", "members"),
        ("zoe", ("other", "gpu-research"), "researcher", "unix_group gpu-research"),
        ("zoe", ("admins", "gpu-research"), "researcher", "unix_group gpu-research"),
        ("zoe", ("other",), "student", "default_group"),
    ],
)
def test_the_group_is_by_list_then_unix_group_then_default(policy, user, unix_groups, group, by):
    resolved = resolve(policy, user, NOW, unix_groups)
    assert (resolved.group, resolved.group_from) == (group, by)


def test_an_override_counts_through_its_last_day_and_keeps_the_group(policy):
    last = resolve(policy, "carol", datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))
    after = resolve(policy, "carol", datetime(2026, 11, 23, 0, 0, tzinfo=UTC))
    assert (last.group, last.values["memory"], last.notes) == ("researcher", 32 * GIB, [])
    assert (after.group, after.values["memory"], after.values["priority"]) == ("researcher", 64 * GIB, 10)
    assert after.notes == ["the override expired on 2026-11-22 and has no effect"]


def test_unlimited_things_stay_unlimited_in_sum(load):
    policy = load(
        "default_group: a\ndefaults: {max_mig_instances: 1}\ngroups:\n"
        "  a: {max_cpus: null, memory: null, pids_limit: null, members: [x]}\n"
        "  b: {max_containers_per_user: null, members: [y]}\n"
        "  c: {max_containers_per_user: 0, max_cpus: 2, members: [z]}\n"
        "  d: {max_tasks: 100, members: [w], memory_swap: null, memory: 1g}\n"
    ).policy
    fields = ["aggregate.max_cpus", "aggregate.memory_max", "aggregate.swap_max", "aggregate.tasks_max"]
    values = {user: [resolve(policy, user, NOW).values[field] for field in fields] for user in "xyzw"}
    assert values["x"] == [None, None, None, None]
    assert values["y"] == [None, None, None, None]
    assert values["z"][0] == 2
    assert values["w"] == [12, 3 * GIB, None, 100]
    assert resolve(policy, "w", NOW).values["pids_limit"] == 100


def test_swap_is_what_the_container_may_have_beyond_memory(load):
    defaults = "default_group: a\ndefaults: {max_mig_instances: 1, memory: 4g, memory_swap: 6g}\n"
    text = defaults + "groups: {a: {}, b: {memory: 8g}}\n"
    policy = load(text).policy
    tables = {**policy.tables, "members": {"y": "b"}}
    assert resolve(policy, "x", NOW).values["aggregate.swap_max"] == 6 * GIB
    # 6g in all was meant for 4g of memory: with 8g there is no swap, rather than a container that cannot start.
    assert resolve(tables, "y", NOW).values["memory_swap"] == 8 * GIB
    assert resolve(tables, "y", NOW).values["aggregate.swap_max"] == 0


def test_aggregate_limits_can_be_switched_off(load):
    policy = load(
        "default_group: a\ndefaults: {max_mig_instances: 1, aggregate: {max_cpus: 4}}\n"
        "groups: {a: {}}\nenforcement: {aggregate_limits: no}\n"
    ).policy
    resolved = resolve(policy, "x", NOW)
    sums = {field: value for field, value in resolved.values.items() if field.startswith("aggregate.")}
    assert set(sums.values()) == {None}
    assert resolved.origins["aggregate.max_cpus"] == "enforcement.aggregate_limits"
