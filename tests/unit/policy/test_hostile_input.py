"""Input that nobody writes on purpose: each is a finding or harmless, and never stops the program."""

from __future__ import annotations

import os
import signal

import pytest

from ds01.policy import PolicyError, load_policy, render
from ds01.policy.handover import handover

from .conftest import BASE, NOW

HEAD = "default_group: student\ndefaults: {max_gpu_equivalents: 1}\n"
OVERRIDE = BASE + "user_overrides: {alice: {%s}}\n"


@pytest.fixture(autouse=True)
def impatient():
    """Nothing may wait for a pipe."""
    signal.alarm(30)
    yield
    signal.alarm(0)


@pytest.mark.parametrize(
    ("text", "path", "fix"),
    [
        (HEAD + 'groups: {student: {members_file: "a\\0b"}}', "groups.student.members_file", "invisible"),
        (BASE + "access_control: 5", "access_control", "indent"),
        (BASE + "access_control: [a]", "access_control", "indent"),
        (BASE + "admins: {groups: ops}\naccess_control: {admin_group: ds01-admin}", "admins.groups", "write [ops]"),
        (BASE + "admins: {groups: 5}\naccess_control: {admin_group: ds01-admin}", "admins.groups", "write [5]"),
        (OVERRIDE % "expires: 0001-01-01T00:00:00Z", "user_overrides.alice.expires", "an existing day"),
        (OVERRIDE % "expires: '20261122'", "user_overrides.alice.expires", "an existing day"),
        (OVERRIDE % "expires: 2026-W48-1", "user_overrides.alice.expires", "an existing day"),
        (
            OVERRIDE % "reservation_start: 0001-01-01T00:00+10:00, reservation_end: 2027-01-01",
            "user_overrides.alice.reservation_start",
            "write year-month-day",
        ),
        (HEAD + "groups: {student: {description: a\u202eb}}", "groups.student.description", "invisible"),
        (HEAD + f"groups: {{student: {{members: ['{'@' * 80}']}}}}", "groups.student.members[0]", "shorter login"),
        (BASE + "storage: {directories: {/a b: {}}}", "storage.directories./a b", "/data"),
        (BASE + "gpu_allocation: {mig_gpus: {0: {profile: 1g.5gb, instances: 9}}}", "gpu_allocation.mig_gpus.0", "rem"),
        (BASE + "gpu_allocation: {mig_gpus: {0: {profile: 1g.5gb, instances: x}}}", "gpu_allocation.mig_gpus.0", ""),
        (BASE + "gpu_allocation: {mig_layout: {0: [], 00: []}}", "gpu_allocation.mig_layout.00", "keep one"),
        (
            BASE + "gpu_allocation: {mig_layout: {0000:3B:00.0: [], 00000000:3b:00.0: []}}",
            "gpu_allocation.mig_layout.'00000000:3b:00.0'",
            "keep one",
        ),
        (BASE + "gpu_allocation: {mig_layout: {0: [1G.5GB]}}", "gpu_allocation.mig_layout.0[0].profile", "1g.5gb?"),
        (BASE + "gpu_allocation: {mig_layout: {0: [2g.11gb]}}", "gpu_allocation.mig_layout.0", "2g.10gb?"),
        (
            BASE + f"gpu_allocation: {{mig_layout: {{0: [1g.5gb@{'9' * 5000}]}}}}",
            "gpu_allocation.mig_layout.0[0].start",
            "",
        ),
    ],
)
def test_it_is_an_error_at_its_place(findings, text, path, fix):
    errors = {problem.path: problem.fix for problem in findings(text + "\n") if problem.severity == "error"}
    assert fix in errors[path]
    assert all(len(text) < 400 for text in errors.values())


@pytest.mark.parametrize("value", ["9" * 5000, f"'{'9' * 5000}'", "9" * 5000 + "g", "9" * 5000 + "h", "9" * 5000 + "%"])
@pytest.mark.parametrize("key", ["max_cpus", "memory", "pids_limit", "idle_timeout", "idle_timeout_h", "io_read_bps"])
def test_endless_numbers_have_a_short_message(findings, key, value):
    (problem,) = findings(f"{HEAD.replace('}', f', {key}: {value}' + '}')}groups: {{student: {{}}}}\n")
    assert problem.severity == "error"
    assert len(str(problem)) < 600


@pytest.mark.parametrize("kind", ["pipe", "directory", "device", "loop"])
def test_what_is_no_file_is_not_waited_for(lab, tmp_path, kind):
    place = tmp_path / "odd"
    make = {"pipe": os.mkfifo, "directory": os.mkdir, "loop": lambda path: path.symlink_to(path)}
    if kind == "device":
        place.symlink_to("/dev/zero")
    else:
        make[kind](place)
    for path in (place, lab(HEAD + "groups: {student: {members_file: odd}}\n")):
        with pytest.raises(PolicyError) as caught:
            load_policy(path)
        assert "a readable file" in str(caught.value)


def test_a_separator_in_a_members_file_does_not_make_two_names(findings):
    found = findings(HEAD + "groups: {student: {members_file: m}}\n", m="\ufeffx\u2028root\r\nbob # Bob\r\n")
    assert [(problem.severity, problem.value, problem.where) for problem in found] == [
        ("error", repr("x\u2028root"), "m:1")
    ]


def test_messages_show_file_names_without_control_characters(findings):
    found = findings(BASE + 'people_files: ["a\\e[31m"]\nuser_overrides_file: "\\e]0;x"\n')
    assert found
    assert all(str(problem).isprintable() for problem in found)


def test_nothing_as_administrator_adds_nobody(load):
    loaded = load(BASE + "bare_metal_access: {admin_group: null}\naccess_control: {admin_users: null}\n")
    assert "None" not in render(loaded)
    assert loaded.policy.admins.users == ()


def test_overrides_may_be_wrapped_like_exemptions(load, findings):
    text = BASE + "user_overrides_file: o\n"
    assert load(text, o="user_overrides:\n  alice: {max_cpus: 1}\n").policy.user_overrides["alice"].max_cpus == 1
    (problem,) = findings(text, o="user_overrides:\n  alice: {max_cpu: 1}\n")
    assert (problem.path, problem.where) == ("user_overrides.alice.max_cpu", "o:2")


def test_a_section_of_two_files_is_where_the_main_file_has_it(findings):
    found = findings(BASE + "user_overrides: [a]\nuser_overrides_file: o\n", o="alice: {max_cpus: 1}\n")
    assert [(problem.path, problem.where.rpartition(":")[2]) for problem in found] == [("user_overrides", "4")]


def test_people_of_odd_files(findings, load):
    people = BASE + "people_files: [p.csv]\n"
    (problem,) = findings(people, p_dot_csv=f"login,uid\nbob,{'9' * 5000}\n")
    assert problem.path == "p.csv: bob.uid"
    assert len(str(problem)) < 600
    (problem,) = findings(people, p_dot_csv='login,keys\nbob,"a\0b"\n')
    assert problem.path == "p.csv: bob.keys"
    # A file without the heading is one mistake, however long it is.
    assert {problem.where for problem in findings(people, p_dot_csv="bob\n" * 50)} == {"p.csv:1"}
    for_ever = load(people, p_dot_csv="login,group,expires\nbob,student,9999-12-31\n")
    (bob,) = [person for person in handover(for_ever, NOW)["people"] if person["name"] == "bob"]
    assert bob["expires"] is None
