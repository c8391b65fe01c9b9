"""A policy of the earlier system: every key by its name of that time."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01.policy import load_policy, resolve

from .conftest import BASE, NOW

EXISTING = Path(__file__).parent / "data" / "existing.yaml"
HOUR = 3600
GIB = 2**30


@pytest.fixture(scope="module")
def existing():
    return load_policy(EXISTING, now=NOW)


def test_it_loads_with_warnings_only(existing):
    assert existing.warnings
    assert {problem.severity for problem in existing.warnings} == {"warning"}


@pytest.mark.parametrize(
    ("group", "values"),
    [
        (
            "student",
            {
                "max_gpu_equivalents": 2,
                "max_gpus_per_container": 2,
                "max_cpus": 32,
                "memory": 32 * GIB,
                "memory_swap": 32 * GIB,
                "shm_size": 16 * GIB,
                "pids_limit": 4096,
                "max_runtime": 24 * HOUR,
                "idle_timeout": HOUR // 2,
                "max_containers_per_user": 3,
                "gpu_hold_after_stop": HOUR // 4,
                "container_hold_after_stop": HOUR // 2,
                "allow_full_gpu": True,
                "priority": 10,
                "aggregate.max_cpus": 96,
                "aggregate.memory_max": 96 * GIB,
                "aggregate.memory_high": 86 * GIB,
                "aggregate.tasks_max": 12288,
                "policies.cpu_idle_threshold": 2,
                "policies.idle_detection_window": 3,
            },
        ),
        (
            "researcher",
            {
                "max_gpu_equivalents": 4,
                "max_cpus": 48,
                "memory": 64 * GIB,
                "memory_swap": 64 * GIB,
                "max_runtime": 48 * HOUR,
                "aggregate.max_cpus": 240,
                "policies.cpu_idle_threshold": 3,
                "policies.idle_detection_window": 4,
            },
        ),
        (
            "admin",
            {
                "max_gpu_equivalents": None,
                "max_gpus_per_container": None,
                "max_tasks": None,
                "gpu_hold_after_stop": HOUR,
                "aggregate.max_cpus": 640,
            },
        ),
    ],
)
def test_values_mean_what_they_meant(existing, group, values):
    tables = {**existing.policy.tables, "members": {"x": group}}
    resolved = resolve(tables, "x", NOW).values
    assert {field: resolved[field] for field in values} == values


def test_sections_that_moved(existing):
    policy = existing.policy
    assert policy.admins.groups == ("ds01-admin",)
    assert policy.admins.users == ("labowner",)
    assert policy.bare_metal.exempt_users == ("labowner",)
    assert policy.bare_metal.default_grant_duration == 24 * HOUR
    assert policy.container_types.devcontainer.idle_timeout is None
    assert policy.container_types.devcontainer.max_runtime == 168 * HOUR
    assert policy.policies.keepalive_max_duration == 24 * HOUR
    assert policy.monitoring.infrastructure_containers == ("ds01-", "prom")


OLD_KEYS = [
    ("max_gpu_slots: 2", "max_gpu_equivalents", 2),
    ("max_gpus_per_user: unlimited", "max_gpu_equivalents", None),
    ("max_gpu_slots_per_container: unlimited", "max_gpus_per_container", None),
    ("max_mig_per_container: 2", "max_gpus_per_container", 2),
    ("cpus: 3", "max_cpus", 3),
    ("storage_tmp: 1g", "storage.tmp", GIB),
    ("aggregate: {cpu_quota: '9600%'}", "aggregate.max_cpus", 96),
    ("aggregate: {gpu_limit: 3}", "max_gpu_equivalents", 3),
    ("max_runtime: never", "max_runtime", None),
    ("storage_workspace: 1g", None, None),
    ("storage_data: 1g", None, None),
    ("gpu_memory: 1g", None, None),
    ("ulimit_nofile: 1024", None, None),
    ("max_concurrent_jobs: 3", None, None),
    ("max_daily_submissions: 3", None, None),
    ("max_result_size_mb: 3", None, None),
]


@pytest.mark.parametrize(("line", "field", "value"), OLD_KEYS, ids=[entry[0] for entry in OLD_KEYS])
def test_each_old_key_works_with_a_warning(load, line, field, value):
    loaded = load(BASE + f"user_overrides:\n  alice:\n    {line}\n")
    (warning,) = loaded.warnings
    assert warning.path.startswith("user_overrides.alice.")
    assert warning.where.endswith(":6")
    if field:
        assert resolve(loaded.policy, "alice", NOW).values[field] == value


SUFFIXED = [
    ("max_runtime_h: 48", "max_runtime", 48 * HOUR),
    ("max_runtime_d: 2", "max_runtime", 48 * HOUR),
    ("idle_timeout_m: 90", "idle_timeout", 5400),
    ("idle_timeout_h: 0.5", "idle_timeout", 1800),
    ("gpu_hold_after_stop_s: 0", "gpu_hold_after_stop", 0),
    ("container_hold_after_stop_h: null", "container_hold_after_stop", None),
    ("policies: {grace_period_m: 5}", "policies.grace_period", 300),
    ("idle_timeout: 1w", "idle_timeout", 7 * 24 * HOUR),
    ("max_mig_instances: unlimited", "max_mig_instances", None),
    ("policies: {network_idle_threshold: 1048576}", "policies.network_idle_threshold", 2**20),
    ("allow_full_gpu: on", "allow_full_gpu", True),
    ("max_cpus: '250%'", "max_cpus", 2.5),
]


@pytest.mark.parametrize(("line", "field", "value"), SUFFIXED, ids=[entry[0] for entry in SUFFIXED])
def test_spellings_that_stay(load, line, field, value):
    loaded = load(BASE + f"user_overrides: {{alice: {{{line}}}}}\n")
    assert loaded.warnings == ()
    assert resolve(loaded.policy, "alice", NOW).values[field] == value


def test_two_spellings_of_one_key_are_an_error(findings):
    for first, second in (("max_runtime: 1h", "max_runtime_h: 1"), ("cpus: 1", "max_cpus: 1"), ("cpus: 1", "cpus: 1")):
        text = BASE + f"user_overrides:\n  alice:\n    {first}\n    {second}\n"
        errors = [problem for problem in findings(text) if problem.severity == "error"]
        assert [problem.where.rpartition(":")[2] for problem in errors] == ["7"], first
    (error, *_) = findings(BASE.replace("{max_gpu_equivalents: 1}", "\n  max_gpu_equivalents: 1\n  max_gpu_slots: 1\n"))
    assert (error.path, error.severity) == ("defaults.max_gpu_slots", "error")


def test_a_moved_value_that_contradicts_is_an_error(findings):
    text = BASE.replace("{members: [alice]}", "{max_gpu_equivalents: 1, aggregate: {gpu_limit: 2}}")
    (error, *_) = findings(text)
    assert (error.path, error.fix) == (
        "groups.student.aggregate.gpu_limit",
        "keep groups.student.max_gpu_equivalents, remove this one",
    )


def test_mig_gpus_become_a_layout(load):
    loaded = load(
        BASE + "gpu_allocation:\n  enable_mig: true\n  mig_gpus:\n"
        "    0: {enable: true, profile: 2g.10gb, instances: 3}\n    1: {enable: false}\n"
    )
    layout = loaded.policy.gpu_allocation.mig_layout
    assert [instance.profile for instance in layout["0"]] == ["2g.10gb"] * 3
    assert layout["1"] == ()


def test_wrong_mig_gpus_are_errors(findings):
    for value in (
        "5",
        "{0: 5}",
        "{0: {profile: x, instances: 2}}",
        "{0: {enable: true}}",
        "{0: {profile: 1g.5gb, n: 1}}",
    ):
        problems = findings(BASE + f"gpu_allocation: {{enable_mig: true, mig_gpus: {value}}}\n")
        assert "error" in {problem.severity for problem in problems}, value
