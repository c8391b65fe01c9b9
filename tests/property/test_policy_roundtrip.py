"""Whatever policy is written: rendering it changes nothing for anybody, and each field is resolved on its own."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.policy import load_policy, render, resolve, units
from ds01.policy.fields import Kind
from ds01.policy.models.limits import Limits
from ds01.policy.problems import BadValue
from ds01.policy.resolver import OVERRIDE_PRIORITY

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GROUPS = ["student", "researcher", "phd_2026"]
USERS = ["alice", "bob", "mary-ann", "h.baker@example.org", "007", "1e3", "yes", "LAB\\zoe"]
SIZES = st.integers(2**23, 2**40).map(units.format_size)
DURATIONS = st.integers(60, 10**7).map(units.format_duration)

# Kept apart from each other, so that no container limit is above a sum.
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_mig_instances": st.none() | st.just("unlimited") | st.integers(0, 9),
        "max_gpu_equivalents": st.none() | st.floats(0, 9, width=16),
        "max_gpus_per_container": st.none() | st.integers(0, 9),
        "allow_full_gpu": st.booleans(),
        "max_cpus": st.floats(0.5, 64, width=16),
        "memory": SIZES,
        "shm_size": SIZES,
        "pids_limit": st.integers(1, 9999),
        "max_containers_per_user": st.none() | st.integers(0, 9),
        "priority": st.integers(1, 100),
        "idle_timeout": st.none() | DURATIONS,
        "max_runtime_h": st.none() | st.integers(1, 999) | st.floats(0.1, 99),
        "gpu_hold_after_stop": st.none() | DURATIONS,
        "io_read_bps": st.none() | SIZES,
        "storage": st.fixed_dictionaries({}, optional={"home": st.none() | SIZES, "docker": SIZES}),
        "policies": st.fixed_dictionaries(
            {}, optional={"grace_period_m": st.integers(0, 99), "cpu_idle_threshold": st.none()}
        ),
        "aggregate": st.fixed_dictionaries(
            {}, optional={"max_cpus": st.none() | st.just("6400%"), "memory_max": st.just("2t"), "tasks_max": st.none()}
        ),
    },
)
DAYS = st.integers(-5, 5).map(lambda days: (NOW.date() + timedelta(days=days)).isoformat())
OVERRIDES = st.tuples(LIMITS, st.none() | DAYS).map(
    lambda pair: {**pair[0], **({"expires": pair[1]} if pair[1] else {})}
)


@st.composite
def policies(draw) -> dict[str, Any]:
    placed = draw(st.dictionaries(st.sampled_from(USERS), st.sampled_from(GROUPS)))
    groups: dict[str, Any] = {}
    for name in GROUPS:
        members = [user for user, group in placed.items() if group == name]
        groups[name] = {**draw(LIMITS), **({"members": members} if members else {})}
    return {
        "defaults": draw(LIMITS),
        "default_group": draw(st.sampled_from(GROUPS)),
        "groups": groups,
        "user_overrides": draw(st.dictionaries(st.sampled_from(USERS), OVERRIDES, max_size=4)),
    }


def load_text(text: str):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "policy.yaml")
        path.write_text(text, encoding="utf-8")
        return load_policy(path, now=NOW)


def answers(policy) -> dict[str, Any]:
    found = {user: resolve(policy, user, NOW) for user in [*USERS, "nobody"]}
    return {user: (entry.group, entry.values, entry.origins, entry.notes) for user, entry in found.items()}


@settings(max_examples=60, deadline=None)
@given(policies())
def test_rendering_changes_nothing_for_anybody(data):
    loaded = load_text(yaml.safe_dump(data))
    text = render(loaded)
    again = load_text(text)
    assert answers(again.policy) == answers(loaded.policy)
    assert render(again) == text


@settings(max_examples=60, deadline=None)
@given(policies(), st.sampled_from(USERS))
def test_each_field_is_the_nearest_levels(data, user):
    policy = load_text(yaml.safe_dump(data)).policy
    resolved = resolve(policy, user, NOW)
    override = policy.user_overrides.get(user)
    if override and override.expires and override.expires < date(2026, 11, 22):
        override = None
    group = policy.groups[resolved.group]
    assert (user in group.members) == (resolved.group_from == "members")
    for field in (
        "max_gpu_equivalents",
        "max_containers_per_user",
        "idle_timeout",
        "max_runtime",
        "allow_full_gpu",
        "priority",
    ):
        levels = [level for level in (override, group, policy.defaults) if level and field in level.model_fields_set]
        expected = getattr(levels[0] if levels else Limits(), field)
        if field == "priority" and override and field not in override.model_fields_set:
            expected = OVERRIDE_PRIORITY
        assert resolved.values[field] == expected


@given(st.integers(1, 2**60))
def test_sizes_survive_writing(size):
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(0, units.DURATION_MAX))
def test_durations_survive_writing(seconds):
    assert units.parse_duration(units.format_duration(seconds)) == seconds


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(ANYTHING, st.sampled_from([kind for _, _, kind in Limits.kinds() if kind]))
def test_a_field_takes_a_value_or_explains_itself(value, kind: Kind):
    refusal: BadValue | None = None
    try:
        internal = kind.check(value)
    except BadValue as error:
        refusal = error
    if refusal:
        assert refusal.expected
        assert refusal.fix
    else:
        assert kind.check(kind.written(internal)) == internal
