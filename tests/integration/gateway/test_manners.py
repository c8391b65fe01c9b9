"""Ctrl-C at every question, and every command where there is no terminal, no home, no input and no UTF-8."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from ds01.host.names import THIN
from tests.integration.gateway.commands_host import HOME, SHELL, Commands
from tests.integration.gateway.gateway_host import SOCKET

CALLED = {name: words for name, words in THIN.items() if words != ("limits",)}
"""Without `check-limits`: this host has no policy, and nothing that reads one; the deployed host's test calls it."""
NAMES = sorted({words: name for name, words in CALLED.items()}.values())
"""One name of each command."""
PROBLEM = re.compile(r"error|Error|refused|stopped|nothing|unknown|fail|warning")
# Where a question is and what answers it is found out on the way: a prompt ends with ": ", a shell's with "$ ".
QUESTIONS = r"""
import fcntl, hashlib, pty, re, select, shutil, struct, subprocess, sys, termios
sys.path.insert(0, "/root/ds01-gateway-test")
from ds01.cli.engine import Engine

class Typed:
    def __init__(self, words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(os.environ["HOME"])
            os.execvp(words[0], words)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = self.told = ""
    def question(self, within=120.0):
        until = time.monotonic() + within
        while time.monotonic() < until:
            line = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.seen).rsplit("\n", 1)[-1]
            # What is written in pieces may end like this for a moment, and for longer where its writer has to wait
            # for a processor; whoever asks sleeps.
            if line.endswith(": ") and not select.select([self.fd], [], [], 0.05)[0] and self.sleeps():
                self.told, self.seen = self.told + self.seen, ""
                return line.strip("\r")
            if line.endswith("$ ") or "\x1b[?1049h" in self.seen:
                self.seen = ""
                os.write(self.fd, b"q" if not line.endswith("$ ") else b"exit\n")
            if not select.select([self.fd], [], [], 1)[0]:
                continue
            try:
                self.seen += os.read(self.fd, 1 << 16).decode(errors="replace")
            except OSError:
                self.told, self.seen = self.told + self.seen, ""
                return None
        raise AssertionError(("neither a question nor the end", self.told, self.seen))
    def sleeps(self):
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"
    def answer(self, asked):
        self.told = ""
        text = "y" if asked.endswith("[y/N]: ") else "" if asked.endswith("]: ") else "words"
        os.write(self.fd, text.encode() + b"\n")
    def interrupt(self):
        # Python takes no notice of one between the writing of a prompt and the first look at the keyboard.
        for _ in range(24):
            os.write(self.fd, b"\x03")
            try:
                if self.question(5.0) is None:
                    return
            except AssertionError:
                continue
            raise AssertionError(("asks on after Ctrl-C", self.told))
        raise AssertionError(("goes on after Ctrl-C", self.seen))
    def end(self):
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

def engine():
    rows = [Engine().ask("GET", kind, "json", query={"all": "1"}) for kind in ("containers", "images")]
    tags = [tag for row in rows[1] for tag in row["RepoTags"] or [] if not tag.startswith("ds01-lab/")]
    return sorted(name for row in rows[0] for name in row["Names"]), sorted(tags)

def home():
    found = {}
    for place, directories, names in os.walk(os.environ["HOME"]):
        if place.endswith("/.git"):
            directories.clear()
        else:
            found |= {os.path.join(place, name): "" for name in directories}
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    found[os.path.join(place, name)] = hashlib.sha256(file.read()).hexdigest()
    return found

def again(world):
    for name in os.listdir(os.environ["HOME"]):
        path = os.path.join(os.environ["HOME"], name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    containers, images = engine()
    for kind, name in [("rm", name[1:]) for name in containers] + [("rmi", name) for name in images]:
        subprocess.run(["docker", kind, "-f", name], capture_output=True, check=True)
    for words in world:
        subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=True)
    return home(), engine()

def names(state):
    return set(state[0]), state[1]

def main(world, commands):
    found = []
    clean = again(world)
    for words in commands:
        asked, answered, last = None, 0, clean
        while answered < 25:
            if (home(), engine()) != clean:
                clean = again(world)
                last = last if answered else clean
            typed, past = Typed(words), asked
            for _ in range(answered):
                typed.answer(typed.question())
            asked = typed.question()
            if asked is None:
                typed.end()
                break
            told, before = typed.told, (home(), engine())
            typed.interrupt()
            code, after = typed.end(), (home(), engine())
            if asked == past and "Error" in told:
                break
            # Between two questions only commands that came to their end may make something; the wizard says so.
            ran = re.search(r"^(> |\d/\d \w+: )", re.sub(r"\x1b\[[0-9;]*m", "", told), re.M)
            found.append(dict(words=words, asked=asked, code=code, changed=before != after,
                              silent=not ran and names(before) != names(last),
                              told=told, left=[path for path in after[0] if "ds01-tmp" in path or ".making-" in path]))
            answered += 1
            last = before
    return found
"""
PYTHONLESS = f"""
rm -rf /root/base; mkdir -p /root/base/usr/local/bin; cd /root/base
printf '#!/bin/bash\\n[ "$3" = list ] && echo rich==1.0; exit 0\\n' >usr/local/bin/python3
chmod 755 usr/local/bin/python3
printf 'FROM {SHELL}\\nCOPY . /\\nENTRYPOINT []\\n' >Dockerfile; docker build -q -t ds01-lab/first . >/dev/null
"""
"""An image in which everything that pip should install is there already, and one package that somebody installed."""
FIRST = "ds01-lab/first"
BEGUN = [["dir-create", "train"]]
ALL = [
    ["user-setup", "train", "--yes", "--base", FIRST, "--cpu-only", "--skip", "ssh", "--skip", "editor"],
    ["container-create", "spare", FIRST, "--cpu-only"],
]
MORE = {
    "user-setup": ["--base", FIRST, "--cpu-only"], "new-user": ["--base", FIRST, "--cpu-only"],
    # The other one runs: nobody is asked about that.
    "container-remove": ["spare"],
}  # fmt: skip
ASKING = {
    "nothing": {"user", "ssh-setup", "image-create", "container-create", "container-deploy", "project-init"},
    "a project": {"user", "git-init", "project-launch", "vscode-setup", "image-create"},
    "everything": {"user", "container-retire", "image-delete", "container-remove", "vscode-setup"},
}
"""What there is at first -> commands that ask then; `user` stands for the wizard under either of its names."""


@pytest.mark.parametrize("there", ["nothing", "a project", "everything"])
def test_ctrl_c_at_every_question_of_every_command_leaves_nothing_half_made(do: Commands, there: str):
    do.gateway.host.sh(f"{PYTHONLESS} echo nameserver 127.0.0.1 >/etc/resolv.conf")
    world = {"nothing": [], "a project": BEGUN, "everything": ALL}[there]
    named = [] if there == "nothing" else ["train"]
    commands = [[name, *named, *MORE.get(name, [])] for name in NAMES]
    found = in_a_session(do, QUESTIONS, world=world, commands=commands)
    assert [one for one in found if one["code"] != 130 or one["changed"] or one["silent"] or one["left"]] == []
    asking = {one["words"][0].replace("new-user", "user").replace("user-setup", "user") for one in found}
    assert ASKING[there] <= asking, (ASKING[there] - asking, found)
    assert len({one["asked"] for one in found}) >= len(asking)
    if there == "everything":
        assert [one["words"] for one in found if "package of pip" in one["asked"]] == [["container-retire", "train"]]


# Words of the shell and what is in the environment; "-" takes a variable away.
ODD = {
    "no input, no home, no character set": ("<&-", {"HOME": "-", "TERM": "-", "LC_ALL": "C"}),
    "a home that is not there": ("</dev/null", {"HOME": "/nowhere/at/all", "LC_ALL": "POSIX", "TERM": "dumb"}),
    "a home that is not writable": ("</dev/null", {"HOME": "/srv", "LC_ALL": "C", "LANG": "de_DE.ISO-8859-1"}),
    "all streams closed": ("<&- >&- 2>&-", {}),
    "no room for what is said": ("</dev/null >/dev/full", {}),
}
ALL_OF_THEM = """
import subprocess
def main(commands, closed, variables):
    known = {**os.environ, **variables}
    known = {name: value for name, value in known.items() if value != "-"}
    found = []
    for words in commands:
        done = subprocess.run(["sh", "-c", f'cd /; exec "$@" {closed}', "sh", *words], env=known, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=120)
        found.append((words, done.returncode, done.stdout.decode(), done.stderr.decode()))
    return found
"""


@pytest.mark.parametrize("odd", ODD)
def test_every_command_says_what_is_wrong_wherever_it_is_called(do: Commands, odd: str):
    do.gateway.host.sh("echo nameserver 127.0.0.1 >/etc/resolv.conf; usermod -c 'Zoë Müller,,,' alice")
    closed, variables = ODD[odd]
    named = ["train"] if "a home" in odd else []
    commands = [[name, *named] for name in sorted(CALLED if "no input" in odd else NAMES)]
    before = do.gateway.host.sh("ls -A / /srv")
    found = in_a_session(do, ALL_OF_THEM, commands=commands, closed=closed, variables=variables)
    for words, code, out, err in found:
        assert code in range(6), (words, code, err)
        assert not re.search(r"Traceback|\x1b|Exception|most recent", out + err), (words, out, err)
        assert code == 0 or PROBLEM.search(out + err) or "Usage: " in err or closed.endswith("2>&-"), (
            words,
            code,
            out,
            err,
        )
    assert len({code for _, code, _, _ in found}) > 1
    assert do.gateway.host.sh("ls -A / /srv") == before


def test_names_beyond_ascii_stay_what_they_are_without_a_character_set(do: Commands):
    do.gateway.host.sh(f"mkdir {HOME}/Vögel; printf '# Zoë\\n' >{HOME}/.bashrc; chown -R alice:alice {HOME}")
    in_ascii = ["env", "LC_ALL=C"]
    do.ok(*in_ascii, "project-init", "birds", "--quick", "--no-image", "--desc", "Vögel")
    assert "\nVögel\n" in do.gateway.host.sh(f"cat {HOME}/workspace/birds/README.md")
    do.ok(*in_ascii, "shell-setup")
    assert do.gateway.host.sh(f"head -1 {HOME}/.bashrc") == "# Zoë\n"
    planned = do.ok(*in_ascii, "container-create", "train", SHELL, "--cpu-only", "-w", f"{HOME}/Vögel", "--dry-run")
    assert f"{HOME}/Vögel" in planned


SEEN = """
import fcntl, pty, select, struct, subprocess, termios
def typed(words, columns, known):
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execvpe(words[0], words, known)
    seen = b""
    while True:
        # Python takes no notice of one between the writing of a prompt and the first look at the keyboard.
        while seen.endswith((b": ", b"^C")) and not select.select([terminal], [], [], 5)[0]:
            os.write(terminal, b"\\x03")
        try:
            seen += os.read(terminal, 1 << 16)
        except OSError:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode().replace("\\r\\n", "\\n")
def main(commands, columns, variables, piped):
    known = {**os.environ, **variables}
    os.chdir(os.environ["HOME"])
    found = []
    for words in commands:
        if piped:
            done = subprocess.run(words, env=known, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT)
            found.append((words, done.returncode, done.stdout.decode()))
        else:
            found.append((words, *typed(words, columns, known)))
    return found
"""
LOOKS = [
    "container-list --all", "container-stats", "image-list", "ds01-status", "ds01-who", "ds01-events",
    "dashboard --once", "container-start nobody", "container-remove",
    "container-create train ds01-lab/shell --cpu-only", "container-create a/b", "image-update nobody",
]  # fmt: skip
WIZARD = "user-setup birds"
CHANGES = re.compile(r"Up [^\n]*|\w{3} \d+ \w{3} \S+ UTC|(\^C)+|\b\d[\d.]*( [kKMG]i?B| B| %)?")
SCREEN = Path(__file__).with_name("screens.txt")


def test_what_people_see_fits_their_terminal_and_is_coloured_where_that_is_wanted(do: Commands):
    do.deploy()

    def look(commands: list[str], columns: int = 80, *, piped: bool = False, **variables: str) -> list[Any]:
        words = [command.split() for command in commands]
        return in_a_session(do, SEEN, commands=words, columns=columns, variables=variables, piped=piped)

    def unchanging(found: list[Any]) -> str:
        return "".join(
            f"$ {' '.join(words)}\n{re.sub(' +', ' ', CHANGES.sub('0', click.unstyle(text)))}[{code}]\n"
            for words, code, text in found
            if words[0] not in {"ds01-events", "container-stats"}
        )

    seen = look([*LOOKS, WIZARD])
    for words, _, text in seen:
        # What is wrong is a sentence that terminals wrap.
        wide = "rror: " in text
        assert max(map(len, click.unstyle(text).splitlines())) <= 80 or wide, text
        assert ("\x1b" in text) == (words[0] in {"dashboard", "user-setup"}), (words, text)
    if not SCREEN.exists():
        SCREEN.write_text(unchanging(seen))
        pytest.fail(f"{SCREEN} is new: look at it")
    assert unchanging(seen) == SCREEN.read_text()
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = look([*LOOKS, WIZARD], **variables)
        assert not [text for _, _, text in plain if "\x1b" in text]
        assert unchanging(plain) == unchanging(seen)
    piped = look(LOOKS, piped=True)
    assert not [text for _, _, text in piped if "\x1b" in text]
    # An event is one line, whole, for grep.
    [lines] = [text.splitlines() for words, _, text in piped if words[0] == "ds01-events"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines)
    narrow = look([*LOOKS, WIZARD], columns=40)
    assert [code for _, code, _ in narrow] == [code for _, code, _ in seen]
    lists = [text for words, _, text in narrow if words[0] in {"container-list", "container-stats", "dashboard"}]
    assert max(len(line) for text in lists for line in click.unstyle(text).splitlines()) <= 80


def in_a_session(do: Commands, code: str, **values: Any) -> Any:
    return do.gateway.python("alice", f"{AT_HOME}\n{code}", **values)


AT_HOME = f"""
import os
os.environ |= dict(HOME="{HOME}", PATH="/usr/local/bin:/usr/bin:/bin", TERM="xterm", DS01_SOCKET="{SOCKET}",
                   GIT_CONFIG_GLOBAL="/dev/null")
"""
