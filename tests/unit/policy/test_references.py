"""Files a policy refers to."""

from __future__ import annotations

import pytest

from ds01.policy import resolve

from .conftest import BASE, NOW

WITH_FILE = BASE.replace("members: [alice]", "members: [alice], members_file: groups/student.members")
EXEMPTIONS = """\
exemptions:
  - username: alice
    category: research
    exempt_from: [idle_timeout_h, max_runtime_h]
    reason: "Long runs"
    approved_by: dave
    approved_on: "2026-01-01T10:00:00Z"
    expires_on: "2027-01-31T23:59:59Z"
  - username: alice
    exempt_from: [idle_timeout_h]
    expires_on: null
"""


def test_members_file_adds_to_the_list(load):
    content = "# people\nbob  # a comment\n\n h.baker@example.org \n007\n"
    loaded = load(WITH_FILE, groups__student_dot_members=content)
    assert loaded.policy.groups["student"].members == ("alice", "bob", "h.baker@example.org", "007")


def test_findings_about_members_name_file_and_line(findings):
    problems = findings(WITH_FILE, groups__student_dot_members="bob\nbad name\nalice\n")
    assert {(problem.value, problem.where, problem.severity) for problem in problems} == {
        ("bad name", "groups/student.members:2", "error"),
        ("alice", "groups/student.members:3", "warning"),
    }


def test_somebody_in_the_lists_of_two_groups_is_refused_with_both_places(findings):
    text = WITH_FILE.replace("groups: {", "groups: {researcher: {members_file: r}, ", 1)
    (problem,) = findings(text, groups__student_dot_members="bob\n", r="carol\nbob\n")
    assert (problem.value, problem.where) == ("bob", "groups/student.members:1")
    assert "(also in researcher, r:2)" in problem.expected


def test_a_missing_members_file_is_an_error(findings):
    (problem,) = findings(WITH_FILE)
    assert problem.path == "groups.student.members_file: groups/student.members"
    assert problem.value == "No such file or directory"


def test_an_empty_members_file_is_a_warning(findings):
    (problem,) = findings(WITH_FILE, groups__student_dot_members="# nobody\n")
    assert (problem.expected, problem.severity) == ("some content", "warning")


def test_customary_files_are_read_and_the_key_is_asked_for(load):
    loaded = load(
        BASE,
        groups__student_dot_members="bob\n",
        groups__archived_dot_members="gone\n",
        **{
            "user-overrides_dot_yaml": "bob:\n  max_cpus: 2\n",
            "lifecycle-exemptions_dot_yaml": EXEMPTIONS,
            "group-overrides_dot_txt": "zoe:student # moved\n",
        },
    )
    assert loaded.policy.groups["student"].members == ("alice", "bob", "zoe")
    assert resolve(loaded.policy, "bob", NOW).values["max_cpus"] == 2
    assert [exemption.user for exemption in loaded.policy.exemptions] == ["alice", "alice"]
    asked = {problem.fix for problem in loaded.warnings if problem.value == "not set"}
    assert asked == {
        "write members_file: groups/student.members",
        "write user_overrides_file: user-overrides.yaml",
        "write exemptions_file: lifecycle-exemptions.yaml",
        "write group_overrides_file: group-overrides.txt",
    }
    assert "groups/archived.members" in {problem.path for problem in loaded.warnings}


def test_overrides_file_wins_field_by_field(load):
    text = BASE + "user_overrides_file: o.yaml\nuser_overrides: {alice: {max_cpus: 2, priority: 50}}\n"
    loaded = load(text, o_dot_yaml="alice: {max_cpus: 3, max_runtime_h: 5}\n")
    values = resolve(loaded.policy, "alice", NOW).values
    assert (values["max_cpus"], values["priority"], values["max_runtime"]) == (3, 50, 5 * 3600)
    assert loaded.warnings == ()


def test_findings_in_an_overrides_file_name_its_lines(findings):
    text = BASE + "user_overrides_file: o.yaml\n"
    problems = findings(text, o_dot_yaml="alice:\n  max_cpu: 3\n  max_runtime_h: x\n  memory: 5\n  cpus: no\n")
    assert [(problem.path, problem.where, problem.severity) for problem in problems] == [
        ("user_overrides.alice.max_cpu", "o.yaml:2", "error"),
        ("user_overrides.alice.max_runtime_h", "o.yaml:3", "error"),
        ("user_overrides.alice.cpus", "o.yaml:5", "error"),
        ("user_overrides.alice.memory", "o.yaml:4", "error"),
        ("user_overrides.alice.cpus", "o.yaml:5", "warning"),
    ]


def test_old_exemptions(load):
    loaded = load(
        BASE + "exemptions_file: e.yaml\nexemptions: [{user: alice, exempt_from: [max_runtime]}]\n",
        e_dot_yaml=EXEMPTIONS,
    )
    first, second, third = loaded.policy.exemptions
    assert (first.exempt_from, second.exempt_from, third.exempt_from) == (
        ("max_runtime",),
        ("idle_timeout", "max_runtime"),
        ("idle_timeout",),
    )
    assert (second.expires.isoformat(), second.approved_on.isoformat(), third.expires) == (
        "2027-01-31",
        "2026-01-01",
        None,
    )


def test_findings_in_an_exemptions_file_name_its_lines(findings):
    problems = findings(
        BASE + "exemptions_file: e.yaml\n",
        e_dot_yaml="exemptions:\n- user: alice\n  exempt_from: [idle]\n- reason: x\n",
    )
    assert [(problem.path, problem.where) for problem in problems] == [
        ("exemptions[0].exempt_from[0]", "e.yaml:3"),
        ("exemptions[1].user", "e.yaml:4"),
    ]


@pytest.mark.parametrize("key", ["user_overrides_file", "exemptions_file", "group_overrides_file"])
@pytest.mark.parametrize("content", [None, "5\n", "- x\n", "a: [\n", "\t"])
def test_wrong_files_are_findings(findings, key, content):
    files = {} if content is None else {"f": content}
    problems = findings(f"{BASE}{key}: f\n", **files)
    assert problems, (key, content)
    assert any("f" in problem.where or "f" in problem.path for problem in problems)


@pytest.mark.parametrize("line", ["alice", "alice:nogroup", ":student", "alice:studen"])
def test_wrong_group_overrides(findings, line):
    (problem,) = findings(BASE + "group_overrides_file: g\n", g=f"# moves\n{line}\n")
    assert (problem.severity, problem.where) == ("error", "g:2")
