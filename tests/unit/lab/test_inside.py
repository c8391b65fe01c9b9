"""What runs commands on lab hosts says of them what an engine's own `exec` would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lab import inside
from lab.process import ROOT


def run(*argv: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    return inside.run(list(argv), stdin, dict(os.environ))


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_status_is_the_commands(script, status):
    assert run("sh", "-c", f"echo out; echo err >&2; {script}") == (status, b"out\n", b"err\n")


def test_what_cannot_be_started_is_126_or_127():
    assert run("no-such-command")[0] == 127
    status, out, err = run("/etc/passwd")
    assert (status, out) == (126, b"")
    assert err.startswith(b"/etc/passwd: ")


def test_all_is_read_and_what_nobody_reads_hinders_nobody():
    much = os.urandom(3_000_000)
    assert run("cat", stdin=much) == (0, much, b"")
    assert run("true", stdin=much) == (0, b"", b"")


def test_each_command_is_a_session_of_its_own_and_signals_reach_it():
    found = run("sh", "-c", "echo $$; cut -d' ' -f6 /proc/$$/stat; grep SigIgn /proc/$$/status")[1].decode().split()
    assert found[0] == found[1]
    assert not int(found[3], 16) & 1 << (signal.SIGPIPE - 1)


def test_who_keeps_the_output_of_a_command_is_not_waited_for():
    begun = time.monotonic()
    status, out, _ = run("sh", "-c", "sleep 600 & echo $!")
    os.kill(int(out), signal.SIGKILL)
    assert status == 0
    assert time.monotonic() - begun < 300


def test_it_answers_one_question_after_the_other_with_the_environment_it_was_given():
    program = (ROOT / "lab" / "inside.py").read_bytes()
    questions = b"".join(
        json.dumps({"argv": argv, "stdin": len(stdin)}).encode() + b"\n" + stdin
        for argv, stdin in ((["env"], b""), (["cat"], b"\n\0\xff"), (["sh", "-c", "umask; echo ü >&2; exit 3"], b""))
    )
    # Without a locale Python gives itself one.
    env = {"PATH": os.environ["PATH"], "GIVEN": "ä=b"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", inside.LOAD], input=b"%d\n%b%b" % (len(program), program, questions),
        env=env, capture_output=True, check=True,
    )  # fmt: skip
    answers = []
    rest = done.stdout
    while rest:
        line, _, rest = rest.partition(b"\n")
        status, out, err = json.loads(line)
        answers.append((status, rest[:out], rest[out : out + err]))
        rest = rest[out + err :]
    assert dict(line.split("=", 1) for line in answers[0][1].decode().splitlines()) == env
    assert answers[1:] == [(0, b"\n\0\xff", b""), (3, b"0022\n", "ü\n".encode())]
