"""The command, as people run it."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ds01.cli.main import run
from ds01.policy import cache

from .conftest import BASE

DS01 = Path(sys.executable).with_name("ds01")
TEXT = """\
default_group: student
defaults: {max_gpu_equivalents: 1, max_cpus: 8, memory: 16g, shm_size: 2g, pids_limit: 100, max_containers_per_user: 2}
groups:
  student: {members: [mary-ann, bob], storage: {tmp: 1g}}
  researcher: {members: [h.baker@example.org], max_cpus: 2.5, memory_swap: null, pids_limit: null}
  free: {members: [f], memory: null, max_cpus: null}
user_overrides:
  bob: {max_cpus: 1, expires: 2020-01-01}
"""


@pytest.fixture
def ds01(tmp_path):
    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment}
        done = subprocess.run([DS01, *arguments], capture_output=True, text=True, check=False, env=env)
        assert "Traceback" not in done.stderr
        return done

    return run


def test_check_says_what_is_in_the_policy(ds01, lab):
    done = ds01("policy", "check", lab(TEXT))
    assert done.returncode == 0
    assert done.stdout.endswith("ok: 3 groups, 4 people in lists, 1 override, 0 errors, 1 warning\n")
    assert done.stderr.startswith("warning: user_overrides.bob.expires: 2020-01-01: ")


def test_check_of_a_wrong_policy(ds01, lab):
    path = lab("groups: 5\ndefaults: {memory: 3}\n")
    done = ds01("policy", "check", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        f'error: defaults.memory: 3: a size like "512m" or "32g" (1g = 1024m): add the unit: "3g" or "3m" ({path}:2)'
        in done.stderr
    )
    found = json.loads(ds01("policy", "check", path, "--json").stdout)
    assert found["valid"] is False
    assert {problem["path"] for problem in found["problems"]} == {
        "groups",
        "defaults.memory",
        "default_group",
        "defaults",
    }


def test_check_with_further_people(ds01, lab, tmp_path):
    people = tmp_path / "semester.csv"
    people.write_text("login,group\nnew,studen\n")
    done = ds01("policy", "check", lab(TEXT), "--people", people)
    assert done.returncode == 1
    assert "did you mean student?" in done.stderr


@pytest.mark.parametrize(
    ("user", "arguments", "parent"),
    [
        (
            "mary-ann",
            [
                "--cpus",
                "8",
                "--memory",
                "16g",
                "--memory-swap",
                "16g",
                "--shm-size",
                "2g",
                "--pids-limit",
                "100",
                "--tmpfs",
                "/tmp:size=1g",
            ],
            r"ds01-student-mary\x2dann.slice",
        ),
        (
            "h.baker@example.org",
            ["--cpus", "2.5", "--memory", "16g", "--memory-swap", "-1", "--shm-size", "2g", "--pids-limit", "-1"],
            r"ds01-researcher-h.baker\x40example.org.slice",
        ),
        ("f", ["--shm-size", "2g", "--pids-limit", "100"], "ds01-free-f.slice"),
    ],
)
def test_docker_args(ds01, lab, user, arguments, parent):
    done = ds01("limits", user, "--policy", lab(TEXT), "--docker-args")
    assert shlex.split(done.stdout) == [*arguments, "--cgroup-parent", parent]


def test_limits_as_json_with_origins(ds01, lab):
    path = lab(TEXT)
    answer = json.loads(ds01("limits", "bob", "--policy", path, "--json", "--explain").stdout)
    assert (answer["user"], answer["group"], answer["group_from"]) == ("bob", "student", "members")
    assert (answer["limits"]["max_cpus"], answer["limits"]["memory"], answer["limits"]["max_tasks"]) == (
        8,
        16 * 2**30,
        None,
    )
    assert answer["limits"]["aggregate"]["max_cpus"] == 16
    assert answer["origins"]["max_cpus"] == "defaults"
    assert answer["notes"] == ["the override expired on 2020-01-01 and has no effect"]
    # Once more, now from the compiled tables.
    assert json.loads(ds01("limits", "bob", "--policy", path, "--json", "--explain").stdout) == answer


def test_limits_for_people(ds01, lab):
    done = ds01("limits", "zoe", "--policy", lab(TEXT), "--explain")
    assert done.stdout.splitlines()[0] == "zoe: group student (by default_group)"
    assert done.stderr == "note: zoe is in no list; default_group student counts\n"
    assert ["max_cpus", "8", "defaults"] in [line.split() for line in done.stdout.splitlines()]


def test_the_group_alone(ds01, lab):
    assert ds01("limits", "h.baker@example.org", "--policy", lab(TEXT), "--group").stdout == "researcher\n"


def test_the_default_user_is_the_caller(ds01, lab):
    done = ds01("limits", "--policy", lab(TEXT), "--json")
    assert json.loads(done.stdout)["user"] == getpass.getuser()


def test_unix_groups_of_this_machine_count(ds01, lab):
    """Everybody's machine has root in group root."""
    text = TEXT.replace("free: {", "free: {unix_group: root, ")
    assert ds01("limits", "root", "--policy", lab(text), "--group").stdout == "free\n"


def test_diff(ds01, lab, tmp_path):
    old, new = tmp_path / "old.yaml", lab(TEXT.replace("max_cpus: 8", "max_cpus: 4"))
    old.write_text(TEXT)
    text = ds01("policy", "diff", old, new).stdout
    assert "8 -> 4" in text
    assert "loses" in text
    assert json.loads(ds01("policy", "diff", old, new, "--json").stdout)["people"][0]["users"]
    assert ds01("policy", "diff", old, old).stdout == "Nothing changes for anybody.\n"


def test_rendered_policies_can_be_rendered(ds01, lab, tmp_path):
    done = ds01("policy", "render", lab(TEXT))
    (tmp_path / "again.yaml").write_text(done.stdout.replace("policy.yaml", "again.yaml"))
    assert ds01("policy", "render", tmp_path / "again.yaml").stdout == done.stdout.replace("policy.yaml", "again.yaml")


def test_schema_is_json(ds01):
    assert json.loads(ds01("policy", "schema").stdout)["title"] == "DS01 resource-limits.yaml"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "No such command"),
        (["limits", "a", "b"], 2, "unexpected extra argument"),
        (["limits", "--json", "--group"], 2, "choose one of"),
        (["policy", "check"], 2, "Missing argument"),
        (["policy", "check", "/nothing.yaml"], 1, "error: /nothing.yaml: No such file or directory: a readable file"),
        (["limits", "a", "--policy", "/nothing.yaml"], 1, "error: /nothing.yaml: No such file or directory"),
        (["policy", "diff", "/nothing.yaml", "/nothing.yaml"], 1, "error: /nothing.yaml"),
        (["policy", "render", "/nothing.yaml"], 1, "error: /nothing.yaml"),
    ],
)
def test_exit_codes(ds01, arguments, code, message):
    done = ds01(*arguments)
    assert done.returncode == code
    assert message in done.stderr


def test_a_reader_that_has_seen_enough():
    command = f"{DS01} policy docs | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("# Policy reference\n", "")


def test_full_disk():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([DS01, "policy", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device: make room")


def test_it_works_where_nothing_can_be_cached(ds01, lab):
    done = ds01("limits", "bob", "--policy", lab(BASE), "--group", XDG_CACHE_HOME="/proc/nothing")
    assert (done.returncode, done.stdout) == (0, "student\n")


@pytest.mark.parametrize("name", ["", "a/b", ".", "a\nb", "a\x1b[31m", "\udcff", "x" * 300])
def test_a_name_nobody_can_have(ds01, lab, name):
    done = ds01("limits", name, "--policy", lab(BASE))
    assert (done.returncode, done.stdout) == (2, "")
    assert "USER: " in done.stderr
    assert "\x1b" not in done.stderr


def test_diff_names_what_is_wrong_in_both_files(ds01):
    done = ds01("policy", "diff", "/nowhere", "/no-place")
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["/nowhere", "/no-place"]


def test_diff_of_lists_and_sections_is_for_people(ds01, lab, tmp_path):
    old = tmp_path / "old.yaml"
    old.write_text(BASE)
    reservation = "reservations: [{user: alice, start: 2027-01-01, end: 2027-01-02}]\n"
    done = ds01("policy", "diff", old, lab(BASE + reservation + "storage: {directories: {/data: {}}}\n"))
    assert "reservations" in done.stdout
    assert "not set -> start=2027-01-01T00:00:00Z end=2027-01-02T00:00:00Z user=alice\n" in done.stdout
    assert "{" not in done.stdout


def test_a_file_whose_name_is_no_text(ds01, lab):
    path = lab(BASE).rename(lab(BASE).with_name("\udcff.yaml"))
    for arguments in (["policy", "check", path], ["limits", "alice", "--policy", path], ["policy", "render", path]):
        assert ds01(*arguments).returncode == 0
    assert ds01("policy", "check", path.with_name("\udcfe")).returncode == 1


def test_a_name_too_long_for_a_slice(ds01, lab):
    done = ds01("limits", "@" * 80, "--policy", lab(BASE), "--docker-args")
    assert (done.returncode, done.stdout) == (2, "")
    assert "shorter login name" in done.stderr


@pytest.mark.parametrize("option", ["--group", "--docker-args"])
def test_explain_is_not_dropped_in_silence(ds01, lab, option):
    assert ds01("limits", "alice", "--policy", lab(BASE), "--explain", option).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_of_other_character_sets(ds01, lab, encoding):
    name = "\N{GREEK SMALL LETTER ALPHA}lice"
    path = lab(BASE.replace("alice", name))
    done = ds01("limits", name, "--policy", path, PYTHONIOENCODING=encoding)
    assert (done.returncode, "lice: group student" in done.stdout) == (0, True)
    # A file to be read again keeps every letter.
    done = ds01("policy", "render", path, PYTHONIOENCODING=encoding)
    assert (done.returncode, name in done.stdout) == (0, True)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&-"])
def test_closed_streams(lab, closed):
    command = f"exec {DS01} limits nobody-at-all --policy {lab(BASE)} {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_are_for_terminals_that_want_them(environment, coloured):
    master, slave = os.openpty()
    env = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "TERM"}}
    subprocess.run([DS01, "policy", "check", "/nowhere"], stderr=slave, check=False, env=env | environment)
    assert (b"\x1b[31m" in os.read(master, 10_000)) is coloured


@pytest.mark.parametrize("option", ["--group", "--docker-args", "--json"])
def test_a_question_about_limits_waits_for_nothing_it_does_not_need(ds01, lab, option):
    policy = lab(BASE)
    time.sleep(2 * cache._CLOCK_TICK)
    assert ds01("limits", "alice", "--policy", policy).returncode == 0
    done = ds01("limits", "alice", "--policy", policy, option, PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "ds01.policy.resolver" in imported
    unneeded = {"pydantic", "yaml", "hashlib", "subprocess", "ds01.files", "ds01.slices.apply", "ds01.policy.load"}
    assert not imported & unneeded


def interrupted(command: list[str | Path], first_line: str, **environment: str) -> tuple[int, str]:
    """Start a command, interrupt it when it has said its first line, and return its end and its complaint."""
    # Whatever is started in the background of a script ignores interruptions, and so do its children.
    command = ["env", "--default-signal=INT", *command]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == first_line
        started.send_signal(signal.SIGINT)
        try:
            _, complaint = started.communicate(timeout=120)
        finally:
            started.kill()
    return started.returncode, complaint.strip()


def test_an_interruption_while_the_command_still_starts_shows_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("import time\nprint('importing')\ntime.sleep(60)\n")
    assert interrupted([DS01, "limits"], "importing\n", PYTHONPATH=str(tmp_path)) == (-signal.SIGINT, "")


def test_an_interruption_of_the_command_itself_is_said(tmp_path):
    (tmp_path / "log").write_text('{"ts": "2026-01-01T00:00:00.000Z"}\n')
    code = (
        f"import pathlib, sys, ds01.events, ds01.cli.entry; ds01.events.EVENTS_FILE = pathlib.Path({str(tmp_path)!r}, "
    )
    code += "'log'); sys.argv = ['ds01', 'events', '--follow', '--since=2026-01-01']; ds01.cli.entry.main()"
    assert interrupted([sys.executable, "-c", code], "2026-01-01T00:00:00.000Z\n") == (130, "stopped")


def test_who_is_unknown_to_host_and_policy_has_no_limits(lab, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = str(lab(TEXT))
    assert run(["limits", "ghost", "--policy", path, "--group"]) == 0, "a policy may be tried before people are there"
    monkeypatch.setattr("ds01.cli.limits.DEFAULT_PATH", path)
    assert run(["limits", "bob", "--policy", path, "--group"]) == 0, "the policy knows him"
    assert run(["limits", "games", "--policy", path, "--group"]) == 0, "the host does"
    capfd.readouterr()
    assert run(["limits", "ghost", "--policy", path]) == 5
    assert capfd.readouterr() == ("", "error: ghost: nobody here has that name: `getent passwd ghost` shows who has\n")
