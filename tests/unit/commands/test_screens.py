"""What people see on a terminal of 80 columns, and what a wrong word answers, without any engine."""

from __future__ import annotations

import json
import os
import pty
import pwd
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ds01.cli.container import COMMANDS as CONTAINER
from ds01.cli.devcontainer import COMMANDS as DEVCONTAINER
from ds01.cli.image import COMMANDS as IMAGE
from ds01.cli.main import run
from ds01.cli.project import COMMANDS as PROJECT
from ds01.cli.user import COMMANDS as USER
from ds01.host.names import THIN

DRY = "--dry-run"
SCREENS = Path(__file__).parent / "screens"
ENTRY = "from ds01.cli.entry import main; import sys; sys.argv[0] = sys.argv.pop(1); main()"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    def show(called: str, *arguments: str) -> tuple[int, str]:
        code = run(list(arguments), called)
        said = capsys.readouterr()
        return code, (said.out + said.err).replace(str(tmp_path), "/home/alice")

    return show


@pytest.mark.parametrize(
    ("name", "called", "arguments"),
    [
        ("container", "container", ["--help"]),
        ("container-deploy", "container-deploy", ["--help"]),
        ("image-create", "image-create", ["--help"]),
        ("image-dry-run", "image-create", ["vision", "-f", "python", "-t", "cv", "-s", "ffmpeg", "-p", "numpy<2", DRY]),
        ("catalogue", "image", ["create", "--catalogue"]),
        ("wrong-gpu", "container", ["create", "train", "--gpu", "three"]),
        ("no-engine", "container", ["start", "train"]),
        ("no-dockerfile", "image", ["update", "vision"]),
        ("user", "user", ["--help"]),
        ("project", "project", ["--help"]),
        ("user-setup", "user-setup", ["--help"]),
        ("project-init", "project", ["init", "birds", "--quick", "--no-git", "--base", "python:3.12-slim"]),
        ("no-project", "project-launch", ["birds"]),
    ],
)  # fmt: skip
def test_screen(screen, name: str, called: str, arguments: list[str]):
    code, text = screen(called, *arguments)
    text = f"{text}[{code}]\n"
    expected = SCREENS / f"{name}.txt"
    if not expected.exists():
        expected.write_text(text)
        pytest.fail(f"{expected} is new: look at it")
    assert text == expected.read_text()
    if code == 0 and name != "image-dry-run":
        assert max(map(len, text.splitlines())) <= 80


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(screen, tmp_path: Path):
    code, text = screen("container-create", "train", "python:3.12", "--cpu-only", "-p", "8888", "--dry-run")
    me = pwd.getpwuid(os.getuid())
    assert code == 0
    assert f"user        {me.pw_name} ({os.getuid()}:{os.getgid()})" in text
    assert "/workspace  /home/alice/workspace" in text
    assert "--publish 8888" in text
    assert not any(tmp_path.iterdir())


def test_a_dry_run_as_json_has_everything(screen):
    _, text = screen("container", "deploy", "train", "--gpu", "2g.20gb", "--wait", "2h", "--dry-run", "--json")
    plan = json.loads(text)
    assert plan["gpus"] == {"count": 1, "profile": "2g.20gb"}
    assert plan["image"] == "train"
    assert plan["wait"] == "2h"
    assert plan["docker_run"][:3] == ["docker", "run", "--detach"]


@pytest.mark.parametrize(
    "arguments",
    [
        "create", "create a.b", "create a --gpu 65", "create a --gpu -1", "create a --gpu 2g.20gb --profile 1g.10gb",
        "create a --profile 2g", "create a --cpu-only --wait 1h", "create a --cpu-only --gpu 2", "create a --wait 5",
        "create a --min-memory lots", "create a -w /nowhere", "create a -w / --project b", "create a --project ../b",
        "create a -p 0", "create a -p 70000", "create a -e =1", "create a --prefer-full --profile 2g.20gb",
        "deploy a --open --json", "stop", "stop a --all", "list --filter x=y", "list --filter name", "start",
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_names_the_value(screen, arguments: str, monkeypatch: pytest.MonkeyPatch):
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        code, text = screen("container", *arguments.split())
    assert code == 2
    assert "Error: " in text


@pytest.mark.parametrize("time", ["5", "soon", "1m2h"])
@pytest.mark.parametrize(
    "command",
    [
        "container create a --wait", "container keep a", "container extend a", "gpu allocate --wait",
        "gpu why --runtime", "gpu reserve 0 --user bob --for", "grant bare-metal bob --reason x",
        "exemption add bob --rule idle_timeout --reason x --for",
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_named_alike_wherever_it_is_given(screen, command: str, time: str):
    code, text = screen("ds01", *command.split(), time)
    last = command.rsplit(maxsplit=1)[-1]
    option = last if last.startswith("--") else "TIME"
    assert code == 2
    assert f"Error: {option}: {time}: " in text
    # That is a value in the policy alone.
    assert "null" not in text


def test_a_word_that_no_command_has_to_do_with_is_not_found(screen):
    code, text = screen("commands", "xyzzy")
    assert (code, text) == (5, "error: xyzzy: no command has to do with it: `commands --all` lists them\n")
    code, text = screen("alias-list", "xyzzy", "--json")
    assert (code, text.splitlines()[0]) == (5, "[]")
    code, text = screen("commands", "GPU")
    assert code == 0
    assert "container-retire" in text
    assert "stop-all" not in text
    assert "ds01 stop-all" in screen("commands", "--all", "stop-all")[1]


def test_what_is_misspelt_is_named(screen):
    code, text = screen("container", "lst")
    assert (code, text.splitlines()[-1]) == (2, "Error: No such command 'lst'. Is list meant?")
    assert "meant" not in screen("ds01", "wxyz")[1]
    assert "`container-deploy NAME [IMAGE]`" in screen("container-deploy")[1]


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_nothing_and_not_the_next_file(tmp_path: Path, closed: str):
    script = f'exec "$@" {closed}'
    for name, code in (("container-start", 2), ("project-init", 2), ("shell-setup", 0)):
        done = subprocess.run(
            ["sh", "-c", script, "sh", sys.executable, "-c", ENTRY, name],
            env={"HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/none"}, cwd=tmp_path,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert (tmp_path / ".bashrc").read_text().startswith("# BEGIN DS01")


def test_every_command_explains_itself_when_asked(screen):
    nouns = {"container": CONTAINER, "image": IMAGE, "project": PROJECT, "user": USER, "devcontainer": DEVCONTAINER}
    for noun, verbs in nouns.items():
        for verb in verbs:
            code, text = screen("ds01", noun, verb, "--help")
            assert code == 0
            assert "--guided" in text, (noun, verb)


def test_guided_teaches_shows_limits_and_the_next_step(screen):
    code, text = screen("container", "create", "train", "--cpu-only", "--dry-run", "--guided")
    assert code == 0
    assert "A container is a room of your own" in text
    assert "Your limits:" in text
    assert "Next: `container start train`" in text


def test_every_command_has_its_short_names():
    verbs = [(noun, verb) for noun, commands in (("container", CONTAINER), ("image", IMAGE)) for verb in commands]
    # AIME's has its own name already.
    wanted = {words[1] if "-" in words[1] else "-".join(words): words for words in verbs}
    assert {**wanted, "container": ("container",), "image": ("image",)} == {
        name: words for name, words in THIN.items() if words[0] in {"container", "image"}
    }


def called(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *words], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_command_knows_by_which_name_it_was_called():
    said = called("/usr/local/bin/container-stop", "--help", COLUMNS="80").stdout
    assert said.startswith("Usage: container-stop [OPTIONS]")


def test_shells_complete_by_every_name(tmp_path: Path):
    for name, typed, expected in (
        ("ds01", "ds01 container sto", "plain,stop"),
        ("container", "container dep", "plain,deploy"),
        ("image-create", "image-create --no-b", "plain,--no-build"),
    ):
        words = typed.split()
        answer = called(f"/usr/local/bin/{name}", _DS01_COMPLETE="bash_complete", COMP_WORDS=typed,
                        COMP_CWORD=str(len(words) - 1), DOCKER_HOST=f"unix://{tmp_path}/none")  # fmt: skip
        assert answer.stdout.splitlines() == [expected]


def test_bash_completes_what_the_script_says(tmp_path: Path):
    for name in ("ds01", "container"):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}\nfrom ds01.cli.entry import main\nmain()\n")
        program.chmod(0o755)
    script = f"""
    PATH={tmp_path}:$PATH; eval "$(ds01 completion bash)"
    COMP_WORDS=(container dep); COMP_CWORD=1; _ds01_completion container; echo "${{COMPREPLY[@]}}"
    complete -p image-list
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "deploy"
    assert "_ds01_completion image-list" in done.stdout


@pytest.mark.parametrize("colour", [True, False])
def test_a_wizard_shows_its_steps_in_bold_unless_colours_are_not_wanted(tmp_path: Path, colour: bool):
    here, there = pty.openpty()
    environment = {"HOME": str(tmp_path), "TERM": "xterm", "PATH": os.environ["PATH"]} | (
        {} if colour else {"NO_COLOR": "1"}
    )
    subprocess.run(
        [sys.executable, "-c", ENTRY, "project", "init", "birds", "--quick", "--no-git", "--no-image"],
        env=environment, stdin=subprocess.DEVNULL, stdout=there, stderr=there, check=True,
    )  # fmt: skip
    os.close(there)
    pieces = []
    # It ends with an error when all has been read and nobody can write any more.
    with suppress(OSError):
        while True:
            pieces.append(os.read(here, 1 << 16))
    os.close(here)
    said = b"".join(pieces).decode()
    assert "> dir-create birds" in said
    assert ("\x1b[1m> dir-create birds" in said) == ("\x1b" in said) == colour


def test_starting_imports_nothing_that_takes_long():
    code = """
import sys
from ds01.cli.container import create, life, look, session, removal
from ds01.cli.devcontainer import check, make
from ds01.cli.project import git, init, launch, pieces
from ds01.cli.user import jupyter, setup, shell, ssh, vscode
print(*sys.modules)
"""
    found = set(called_python(code).split())
    assert not found & {"pydantic", "docker", "requests", "yaml", "asyncio", "pynvml", "rich"}


def called_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_what_becomes_of_an_image_is_the_same_five_keys(screen, tmp_path: Path):
    keys = {"name", "dockerfile", "built", "error", "text"}
    made = ["image", "create", "vision", "-f", "python"]
    dry = json.loads(screen(*made, "--dry-run", "--json")[1])
    assert (set(dry), dry["built"], dry["text"].startswith("#")) == (keys, False, True)
    written = json.loads(screen(*made, "--no-build", "--json")[1].partition("wrote")[0])
    assert (tmp_path / "dockerfiles/vision/Dockerfile").read_text() == dry["text"]
    assert (set(written), written["built"]) == (keys, False)
    changed = json.loads(screen("image", "update", "vision", "--add", "einops", "--dry-run", "--json")[1])
    assert (set(changed), "einops" in changed["text"]) == (keys, True)
    assert {"framework", "version", "image"} == set(
        json.loads(screen("image", "create", "--catalogue", "--json")[1])[0]
    )


def test_what_lists_all_commands_loads_no_validator():
    code = "import sys; from ds01.cli.tree import entries; list(entries()); print(*sys.modules)"
    assert not set(called_python(code).split()) & {"pydantic", "docker", "requests", "asyncio", "pynvml", "rich"}
