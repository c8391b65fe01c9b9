"""The plain data for slices, read back by the code that applies it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ds01.policy.slicespec import slice_spec
from ds01.slices.spec import SliceSpec

from .conftest import NOW

POLICY = """
default_group: student
defaults: {max_gpu_equivalents: 1, max_cpus: 8, memory: 16g, max_containers_per_user: 2, pids_limit: 100, priority: 10}
groups:
  student:
    members: [bob, alice]
    aggregate: {memory_max: 20g, memory_high: 18g}
    group_aggregate: {max_cpus: 20, memory_max: 64g}
    max_tasks: 5000
  researcher:
    unix_group: research
    priority: 50
    io_read_bps: 100m
    group_aggregate: {tasks_max: null}
    max_tasks: 9000
user_overrides:
  alice: {aggregate: {max_cpus: 12}, expires: 2026-11-22}
  zoe: {max_cpus: 1}
"""
GIB = 2**30


def test_the_spec_says_what_the_policy_says(load):
    spec = slice_spec(load(POLICY).policy, NOW)
    assert spec["root"] == {"slice": "ds01.slice"}
    assert spec["unmanaged"] == {"max_cpus": 2.0, "memory_max": 4 * GIB, "tasks_max": 1024}
    assert spec["groups"]["student"] == {
        "aggregate": {
            "max_cpus": 16.0,
            "memory_max": 20 * GIB,
            "memory_high": 18 * GIB,
            "swap_max": 0,
            "tasks_max": 200,
            "io_read_bps": None,
            "io_write_bps": None,
            "cpu_weight": 100,
            "io_weight": 100,
        },
        "group_aggregate": {"max_cpus": 20.0, "memory_max": 64 * GIB, "tasks_max": 5000},
    }
    assert spec["groups"]["researcher"]["aggregate"]["cpu_weight"] == 500
    assert spec["groups"]["researcher"]["aggregate"]["io_read_bps"] == 200 * 2**20
    assert spec["groups"]["researcher"]["group_aggregate"]["tasks_max"] is None
    assert spec["members"] == {"alice": "student", "bob": "student"}
    assert (spec["unix_groups"], spec["default_group"]) == ({"research": "researcher"}, "student")
    # Only what the override decides; the rest is the group's.
    assert spec["overrides"]["alice"] == {
        "group": "student",
        "aggregate": {"max_cpus": 12.0, "cpu_weight": 1000, "io_weight": 1000},
        "expires": "2026-11-22",
    }


def test_expired_overrides_are_left_out(load):
    spec = slice_spec(load(POLICY).policy, datetime(2026, 11, 23, tzinfo=UTC))
    assert set(spec["overrides"]) == {"zoe"}


def test_the_host_can_say_who_is_in_which_unix_group(load):
    policy = load(POLICY).policy
    assert slice_spec(policy, NOW)["overrides"]["zoe"]["group"] == "student"
    assert slice_spec(policy, NOW, lambda _user: ["research"])["overrides"]["zoe"]["group"] == "researcher"


def test_it_is_json_and_the_applying_side_accepts_it(load):
    spec = slice_spec(load(POLICY).policy, NOW)
    read = SliceSpec.from_dict(json.loads(json.dumps(spec)))
    assert read.limits_of("student", "alice", NOW).max_cpus == 12
    assert read.limits_of("student", "alice", datetime(2026, 11, 23, tzinfo=UTC)).max_cpus == 16


def test_memory_without_a_limit_does_not_end_in_a_limit_of_swap(load):
    groups = "default_group: a\ngroups: {a: {memory: null}, b: {aggregate: {memory_max: null}}, c: {}}\n"
    spec = slice_spec(load(groups).policy, NOW)["groups"]
    assert {name: group["aggregate"]["swap_max"] for name, group in spec.items()} == {"a": None, "b": None, "c": 0}
