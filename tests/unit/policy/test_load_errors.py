"""Wrong policies and exactly what is said about them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from ds01.policy import PolicyError, load_policy

from .conftest import BASE

WRONG_VALUES = [
    # defaults: key and value, what is shown, the fix
    ("max_cpus: yes", "yes", "yes and no are not numbers"),
    ("max_cpus: 0", "0", "choose a number from 0.01 to 65536; null means unlimited"),
    ("max_cpus: .inf", "inf", "choose a number from 0.01 to 65536; null means unlimited"),
    ("max_cpus: .nan", "nan", "choose a number from 0.01 to 65536; null means unlimited"),
    ("max_cpus: '4'", "4", "remove the quotes: 4"),
    ("max_cpus: true", "true", "true and false are not numbers"),
    ("max_cpus: 96 %x", "96 %x", "write a plain number"),
    ("pids_limit: 010", "010", "leading zeros look octal: write 10"),
    ("pids_limit: -1", "-1", "choose a number in this range"),
    ("pids_limit: 1.5", "1.5", "write a plain number"),
    ("pids_limit: unlimited", "unlimited", "write null, which means unlimited"),
    ("pids_limit: [1]", "a list", "write a plain number"),
    ("priority: 101", "101", "choose a number in this range"),
    ("priority: null", "null", "remove the line, or write a value"),
    ("memory: 32", "32", 'add the unit: "32g" or "32m"'),
    ("memory: '32'", "32", 'add the unit: "32g" or "32m"'),
    ("memory: 1k", "1k", "write a larger size"),
    ("memory: -3g", "-3g", "write a number and one of k, m, g, t; null means unlimited"),
    ("memory: {a: b}", "a section", 'write it like "32g"; null means unlimited'),
    ("max_runtime: 48", "48", 'a bare number has no unit: write "48h" or "48m"'),
    ("max_runtime: '48'", "48", 'add the unit: "48h" or "48m"'),
    ("max_runtime: 10s", "10s", "write a longer time; null means no limit"),
    ("max_runtime: -1", "-1", "a duration is not negative; null switches it off"),
    ("idle_timeout: 1:30", "1:30", 'write "1h30m"'),
    ("max_runtime_h: -2", "-2", "write max_runtime_h: 24, or max_runtime: 24h"),
    ("max_runtime_h: 24h", "24h", "write max_runtime: 24h"),
    ("max_runtime_h: yes", "yes", "write max_runtime_h: 24, or max_runtime: 24h"),
    ('max_runtime_h: "90"', "90", "write max_runtime: 90h"),
    ("memory: 34359738368", "34359738368", 'add the unit: "32g"'),
    ("io_read_bps: 99999999999999999999", "99999999999999999999", "check the unit"),
    ("allow_full_gpu: maybe", "maybe", "write true or false"),
    ("allow_full_gpu: 1", "1", "write true or false"),
    ("max_gpu_equivalents: lots", "lots", "write a plain number"),
    ("shm_siz: 3g", "3g", "did you mean shm_size?"),
    ("Memory: 3g", "3g", "did you mean memory?"),
    ("max_gpu_slot: 3", "3", "did you mean max_gpu_slots?"),
    ("max_runtime_hours: 3", "3", "did you mean max_runtime_h?"),
    ("zzz: 3", "3", "remove it, or check the indentation"),
    ("storage: 5", "5", "indent its keys below it"),
    ("storage: [home]", "a list", "indent its keys below it"),
]


@pytest.mark.parametrize(("line", "value", "fix"), WRONG_VALUES, ids=[entry[0] for entry in WRONG_VALUES])
def test_a_wrong_value_is_one_error_with_its_fix(findings, line, value, fix):
    text = f"default_group: student\ngroups: {{student: {{}}}}\ndefaults:\n  max_mig_instances: 1\n  {line}\n"
    (problem,) = findings(text)
    assert problem.path == f"defaults.{line.partition(':')[0]}"
    assert (problem.value, problem.fix, problem.severity) == (value, fix, "error")
    assert problem.where.endswith("policy.yaml:5")
    assert str(problem).startswith(f"{problem.path}: {value}: {problem.expected}: {fix}")


def test_all_errors_at_once_also_between_parts_that_are_right(findings):
    text = """\
defaults: {max_cpus: many, max_gpu_equivalents: 1}
groups:
  student:
    members:
      - bad name
      - alice
      - bob
  Research-Group: {members: [alice]}
  faculty: {unix_group: x, priority: 0}
  staff: {unix_group: x}
reservations:
  - {end: 2026-12-01, user: bob}
  - {start: 2026-12-02, end: 2026-12-01, user: bob}
policies: 5
default_group: studnet
"""
    errors = {
        (problem.path, problem.where.rpartition(":")[2]) for problem in findings(text) if problem.severity == "error"
    }
    assert errors == {
        ("defaults.max_cpus", "1"),
        ("groups.student.members[0]", "5"),
        ("groups.Research-Group", "8"),
        ("groups.Research-Group.members[0]", "8"),
        ("groups.faculty.priority", "9"),
        ("groups.staff.unix_group", "10"),
        ("reservations[0].start", "12"),
        ("reservations[1].end", "13"),
        ("policies", "14"),
        ("default_group", "15"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "some content"),
        ("# nothing\n", "some content"),
        ("- a\n", "a mapping"),
        ("5\n", "a mapping"),
        ("null", "some content"),
    ],
)
def test_files_without_a_policy(findings, text, expected):
    (problem,) = findings(text)
    assert (problem.expected, problem.severity) == (expected, "error")


def test_default_group_is_never_guessed(findings):
    (problem,) = findings("groups: {student: {}}\ndefaults: {max_mig_instances: 1}\n")
    assert (problem.path, problem.value, problem.fix) == ("default_group", "missing", "write default_group: student")


@pytest.mark.parametrize(
    "section",
    [
        "defaults",
        "groups",
        "user_overrides",
        "gpu_allocation",
        "policies",
        "exemptions",
        "storage",
        "admins",
        "people_files",
    ],
)
def test_a_null_section_is_empty_and_said(findings, section):
    text = "".join(line + "\n" for line in BASE.splitlines() if not line.startswith(section))
    problems = findings(f"{text}{section}:\n")
    assert (section, "null", "warning") in {(problem.path, problem.value, problem.severity) for problem in problems}
    assert all(problem.severity == "warning" for problem in problems) or section == "groups"


def test_null_groups_and_lists_are_empty_and_said(findings):
    text = "default_group: a\ndefaults: {max_mig_instances: 1}\ngroups:\n  a:\n  b: {members: , aggregate: }\n"
    assert [(problem.path, problem.severity) for problem in findings(text)] == [
        ("groups.a", "warning"),
        ("groups.b.members", "warning"),
        ("groups.b.aggregate", "warning"),
    ]


def test_a_missing_policy(tmp_path):
    with pytest.raises(PolicyError, match="No such file"):
        load_policy(tmp_path / "nothing.yaml")


def test_unreadable_members_file():
    """As a person without the right to read it: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        (base / "m").write_text("alice\n", encoding="utf-8")
        (base / "m").chmod(0)
        (base / "policy.yaml").write_text(BASE.replace("members: [alice]", "members_file: m"), encoding="utf-8")
        me = os.geteuid()
        try:
            if me == 0:
                os.seteuid(65534)
            with pytest.raises(PolicyError) as caught:
                load_policy(base / "policy.yaml")
        finally:
            os.seteuid(me)
    (problem,) = caught.value.problems
    assert problem.path == "groups.student.members_file: m"
    assert (problem.value, problem.expected) == ("Permission denied", "a readable file")
    assert problem.where.endswith("policy.yaml:3")


def test_the_same_warning_for_many_members_is_cut(findings):
    names = ", ".join(f"{number}" for number in range(100, 150))
    warnings = findings(BASE.replace("[alice]", f"[{names}]"))
    assert len(warnings) == 21
    assert warnings[-1].value == "30 more"


def test_messages_never_carry_control_characters(findings):
    for problem in findings(BASE + '"k\\x1b[31mey": "v\\x1b[0m"\nuser_overrides: {"a\\nb": {memory: "\\x1b"}}\n'):
        assert str(problem).isprintable()
