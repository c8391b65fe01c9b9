"""The policy's data for slices is what the slices take, and an override says only what it decides."""

import datetime as dt
from pathlib import Path

from ds01.policy import load_policy
from ds01.policy.handover import handover
from ds01.slices.desired import LoginSpec
from ds01.slices.spec import SliceSpec

POLICY = """
default_group: student
defaults: {max_mig_instances: 1}
groups:
  student: {aggregate: {max_cpus: 2, memory_max: 2G, tasks_max: 500}}
  researcher: {unix_group: research, aggregate: {max_cpus: 4, memory_max: 4G, tasks_max: 900}}
user_overrides:
  ito: {aggregate: {memory_max: 2G}, reason: r, approved_by: a, expires: 2026-06-15}
"""
NOW = dt.datetime(2026, 6, 15, 12, tzinfo=dt.UTC)


def test_an_override_leaves_the_rest_to_the_group_that_the_host_finds(tmp_path: Path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    data = handover(load_policy(tmp_path / "policy.yaml", now=NOW), NOW)
    spec = SliceSpec.from_dict(data["slices"])
    LoginSpec.from_dict(data["logins"])
    limits = spec.limits_of("researcher", "ito", NOW)
    assert (limits.max_cpus, limits.memory_max, limits.tasks_max) == (4, 2 << 30, 900)
