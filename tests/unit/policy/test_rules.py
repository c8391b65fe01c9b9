"""Rules between parts of the policy."""

from __future__ import annotations

import pytest

from ds01.policy import resolve

from .conftest import BASE, NOW

HEAD = "default_group: student\ndefaults: {max_gpu_equivalents: 1}\n"


def group(content: str) -> str:
    return f"{HEAD}groups: {{student: {{members: [alice], {content}}}}}\n"


ERRORS = [
    ("group name", HEAD + "groups: {student: {}, Phd-Students: {}}\n", "groups.Phd-Students", "call it phd_students"),
    ("reserved name", HEAD + "groups: {student: {}, system: {}}\n", "groups.system", "call it system_lab"),
    (
        "default group",
        BASE.replace("default_group: student", "default_group: studens"),
        "default_group",
        "did you mean student?",
    ),
    (
        "two groups",
        HEAD + "groups: {student: {members: [a]}, x: {members: [a]}}\n",
        "groups.x.members[0]",
        "keep a in student or in x",
    ),
    (
        "unix group twice",
        HEAD + "groups: {student: {unix_group: u}, x: {unix_group: u}}\n",
        "groups.x.unix_group",
        "keep it in one group",
    ),
    (
        "cpus above sum",
        group("max_cpus: 8, aggregate: {max_cpus: 4}"),
        "groups.student.aggregate.max_cpus",
        "raise aggregate.max_cpus or lower max_cpus",
    ),
    (
        "inherited cpus above sum",
        group("aggregate: {max_cpus: 3}").replace("{max_gpu", "{max_cpus: 4, max_gpu"),
        "groups.student.aggregate.max_cpus",
        "raise aggregate.max_cpus or lower max_cpus",
    ),
    (
        "memory above sum",
        group("memory: 8g, aggregate: {memory_max: 4g}"),
        "groups.student.aggregate.memory_max",
        "raise aggregate.memory_max or lower memory",
    ),
    (
        "pids above sum",
        group("pids_limit: 20, aggregate: {tasks_max: 10}"),
        "groups.student.aggregate.tasks_max",
        "raise aggregate.tasks_max or lower pids_limit",
    ),
    (
        "pids above group",
        group("pids_limit: 20, max_tasks: 10"),
        "groups.student.max_tasks",
        "raise max_tasks or lower pids_limit",
    ),
    (
        "io above sum",
        group("io_read_bps: 9m, aggregate: {io_read_bps: 3m}"),
        "groups.student.aggregate.io_read_bps",
        "raise aggregate.io_read_bps or lower io_read_bps",
    ),
    (
        "high above max",
        group("aggregate: {memory_max: 64g, memory_high: 65g}"),
        "groups.student.aggregate.memory_max",
        "raise aggregate.memory_max or lower aggregate.memory_high",
    ),
    (
        "swap below memory",
        group("memory: 4g, memory_swap: 2g"),
        "groups.student.memory_swap",
        "raise memory_swap or lower memory",
    ),
    (
        "override above sum",
        group("aggregate: {max_cpus: 4}") + "user_overrides: {alice: {max_cpus: 8}}\n",
        "user_overrides.alice.max_cpus",
        "raise aggregate.max_cpus or lower max_cpus",
    ),
    (
        "half a reservation",
        BASE + "user_overrides: {alice: {reservation_start: 2027-01-01}}\n",
        "user_overrides.alice.reservation_start",
        "add reservation_end",
    ),
    (
        "backwards",
        BASE + "user_overrides: {alice: {reservation_start: 2027-01-02, reservation_end: 2027-01-01}}\n",
        "user_overrides.alice.end",
        "check both times (UTC)",
    ),
    (
        "for nobody",
        BASE + "reservations: [{start: 2027-01-01, end: 2027-01-02}]\n",
        "reservations[0]",
        "name the person or the group it is for",
    ),
    (
        "for no group",
        BASE + "reservations: [{start: 2027-01-01, end: 2027-01-02, group: studen}]\n",
        "reservations[0].group",
        "did you mean student?",
    ),
    (
        "taken device",
        BASE + "reservations:\n- {start: 2027-01-01, end: 2027-01-03, user: alice, devices: ['0']}\n"
        "- {start: 2027-01-02, end: 2027-01-04, group: student, devices: [0]}\n",
        "reservations[1].devices[0]",
        "put it in quotes",
    ),
    (
        "taken device",
        BASE + "reservations:\n- {start: 2027-01-01, end: 2027-01-03, user: alice, devices: ['0']}\n"
        "- {start: 2027-01-02, end: 2027-01-04, group: student, devices: ['0']}\n",
        "reservations[1].devices",
        "choose another device or time",
    ),
    (
        "mig without layout",
        BASE + "gpu_allocation: {enable_mig: true}\n",
        "gpu_allocation.enable_mig",
        "write mig_profile: 1g.10gb",
    ),
    (
        "no such profile",
        BASE + "gpu_allocation: {enable_mig: true, mig_profile: 1g.11gb}\n",
        "gpu_allocation.mig_profile",
        "did you mean 1g.10gb?",
    ),
    (
        "impossible layout",
        BASE + "gpu_allocation: {enable_mig: true, mig_layout: {0: [4g.20gb, 4g.20gb]}}\n",
        "gpu_allocation.mig_layout.0",
        "remove 4g.20gb, or use smaller profiles",
    ),
    (
        "impossible start",
        BASE + "gpu_allocation: {enable_mig: true, mig_layout: {0: [2g.10gb@1]}}\n",
        "gpu_allocation.mig_layout.0",
        "choose one of 0, 2, 4, or leave out @",
    ),
    (
        "mixed models",
        BASE + "gpu_allocation: {enable_mig: true, mig_layout: {0: [1g.5gb, 1g.18gb]}}\n",
        "gpu_allocation.mig_layout.0",
        "1g.5gb is of A100-40GB; 1g.18gb is of H200-141GB",
    ),
    (
        "no such gpu",
        BASE + "gpu_allocation: {enable_mig: true, mig_layout: {first: [1g.5gb]}}\n",
        "gpu_allocation.mig_layout.first",
        "write 0, GPU-<uuid> or 0000:3b:00.0",
    ),
    (
        "login high above max",
        BASE + "logins: {memory_high: 9g, memory_max: 8g}\n",
        "logins.memory_high",
        "lower memory_high",
    ),
    (
        "relative directory",
        BASE + "storage: {directories: {data: {}}}\n",
        "storage.directories.data",
        "write it like /data",
    ),
    ("override name", BASE + "user_overrides: {'a b': {}}\n", "user_overrides.a b", "remove ' ' from the name"),
    ("cgroup driver", BASE + "enforcement: {cgroup_driver: cgroupfs}\n", "enforcement.cgroup_driver", "write systemd"),
    (
        "mode",
        BASE + "storage: {directories: {/data: {mode: 2770}}}\n",
        "storage.directories./data.mode",
        "write four octal digits in quotes",
    ),
]


@pytest.mark.parametrize(("text", "path", "fix"), [entry[1:] for entry in ERRORS], ids=[entry[0] for entry in ERRORS])
def test_refused(findings, text, path, fix):
    errors = [(problem.path, problem.fix) for problem in findings(text) if problem.severity == "error"]
    assert errors == [(path, fix)]


WARNINGS = [
    ("unknown override", BASE + "user_overrides: {alise: {}}\n", "user_overrides.alise", "did you mean alice?"),
    (
        "expired override",
        BASE + "user_overrides: {alice: {expires: 2026-11-21}}\n",
        "user_overrides.alice.expires",
        "remove it",
    ),
    (
        "unknown exemption",
        BASE + "exemptions: [{user: bob, exempt_from: [max_runtime]}]\n",
        "exemptions[0].user",
        "check the spelling, or add the person to a group",
    ),
    (
        "expired exemption",
        BASE + "exemptions: [{user: alice, exempt_from: [max_runtime], expires: 2020-01-01}]\n",
        "exemptions[0].expires",
        "remove the exemption",
    ),
    (
        "empty exemption",
        BASE + "exemptions: [{user: alice, exempt_from: []}]\n",
        "exemptions[0].exempt_from",
        "write [idle_timeout] or remove the entry",
    ),
    (
        "past reservation",
        BASE + "reservations: [{start: 2020-01-01, end: 2020-01-02, user: alice}]\n",
        "reservations[0].end",
        "remove it",
    ),
    ("member twice", BASE.replace("[alice]", "[alice, alice]"), "groups.student.members[1]", "remove one"),
    (
        "member in capitals",
        BASE.replace("[alice]", "[alice, Alice]"),
        "groups.student.members[1]",
        "use what `id -un` prints",
    ),
    ("no gpu quota", "default_group: student\ngroups: {student: {}}\n", "defaults", "write max_gpu_equivalents: 1"),
    ("shm above memory", group("memory: 4g, shm_size: 5g"), "groups.student.shm_size", "lower shm_size"),
    (
        "one above all",
        group("group_aggregate: {max_cpus: 2}"),
        "groups.student",
        "raise group_aggregate.max_cpus or lower aggregate.max_cpus",
    ),
    (
        "mig off",
        BASE + "gpu_allocation: {mig_profile: 1g.10gb}\n",
        "gpu_allocation.enable_mig",
        "write enable_mig: true",
    ),
    (
        "different models",
        BASE + "gpu_allocation: {enable_mig: true, mig_layout: {0: [1g.5gb], 1: [1g.18gb]}}\n",
        "gpu_allocation.mig_layout.1",
        "this one fits H200-141GB",
    ),
    ("nobody administers", BASE + "admins: {groups: []}\n", "admins", "write groups: [ds01-admin]"),
]


@pytest.mark.parametrize(
    ("text", "path", "fix"), [entry[1:] for entry in WARNINGS], ids=[entry[0] for entry in WARNINGS]
)
def test_warned(findings, text, path, fix):
    assert [(problem.path, problem.fix, problem.severity) for problem in findings(text)] == [(path, fix, "warning")]


def test_what_everybody_inherits_wrongly_is_one_error(findings):
    defaults = "default_group: a\ndefaults: {max_mig_instances: 1, memory: 4g, memory_swap: 2g}\n"
    text = defaults + "groups: {a: {}, b: {}, c: {}}\n"
    (problem,) = findings(text)
    assert problem.path == "defaults.memory_swap"


def test_built_in_values_give_way_to_written_ones(load):
    text = group("aggregate: {max_cpus: 1, memory_max: 1g, tasks_max: 10}")
    loaded = load(text)
    values = resolve(loaded.policy, "alice", NOW)
    assert loaded.warnings == ()
    assert [values.values[field] for field in ("max_cpus", "memory", "memory_swap", "shm_size", "pids_limit")] == [
        1,
        *[2**30] * 3,
        10,
    ]
    assert values.origins["max_cpus"] == "= aggregate.max_cpus"


def test_a_layout_of_every_known_model_passes(findings):
    for profiles in (
        "7g.40gb",
        "3g.40gb@4, 3g.40gb@0",
        "1g.18gb, 1g.18gb+me, 2g.35gb",
        "1g.10gb, 1g.10gb, 1g.10gb, 1g.10gb, 3g.40gb",
    ):
        assert (
            findings(BASE + f"gpu_allocation: {{enable_mig: true, mig_layout: {{0000:3b:00.0: [{profiles}]}}}}\n") == []
        )
