"""Arguments that nobody types on purpose: each command says what is wrong with them, and makes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from ds01.cli.main import run
from ds01.cli.tree import Entry, entries
from ds01.problems import shown

POLICY = Path(__file__).parents[3] / "inventory/resource-limits.yaml"
NO_TEXT = os.fsdecode(b"\xff\xfe")
COMMANDS = [entry for entry in entries() if entry.words and not isinstance(entry.command, click.Group)]


def option(entry: Entry, name: str) -> bool:
    return any(name in parameter.opts for parameter in entry.command.params)


def names(entry: Entry) -> int:
    """How many arguments a command wants beside its options, one if it takes any number."""
    wanted = [one for one in entry.command.params if isinstance(one, click.Argument)]
    return sum(max(1, one.nargs) for one in wanted)


NAMING = [entry.words for entry in COMMANDS if names(entry)]
LEDGER = [entry.words for entry in COMMANDS if option(entry, "--ledger")]
BY_WORDS = {entry.words: entry for entry in COMMANDS}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a directory with nothing in them, and no gateway."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DS01_SOCKET", str(home / "socket"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/socket")
    return home


@pytest.mark.parametrize("words", NAMING, ids=" ".join)
def test_a_name_that_is_no_text_is_refused(words: tuple[str, ...], capfd: pytest.CaptureFixture[str]):
    code = run([*words, *[NO_TEXT] * names(BY_WORDS[words])])
    said = capfd.readouterr()
    assert code in {1, 2, 5}, said
    assert said.err.strip()
    assert all(line.isprintable() for line in said.err.expandtabs().splitlines())


@pytest.mark.parametrize(
    "name", ["", "a/b", "..", "../images/json", "x?y=1", "ä", " ", "x\x1b[2J/", "-x", "._.", "y" * 4000]
)
@pytest.mark.parametrize(
    "command",
    [
        "container attach", "container extend", "container keep", "container pause", "container remove --yes",
        "container retire --yes", "container run", "container start", "container stats", "container stop",
        "container unpause", "user jupyter", "why", "gpu release",
    ],
)  # fmt: skip
def test_a_name_that_no_container_can_have_is_not_there(command: str, name: str, capfd: pytest.CaptureFixture[str]):
    code = run([*command.split(), "--", name, *(["1h"] if "extend" in command else [])])
    said = capfd.readouterr()
    assert (code, said.out) == (5, ""), said
    assert "you have no such container" in said.err
    assert len(said.err) < 200
    assert all(line.isprintable() for line in said.err.splitlines())


@pytest.mark.parametrize("image", ["", " ", "a b", "../..", "a//b", "/a", "x?y=1", "ä", "a\nRUN id", "y" * 4000])
@pytest.mark.parametrize(
    "command",
    [
        "container create x", "container deploy x", "run", "container mlc-create x --image", "image create x --image",
        "project init x --quick --base", "project launch x --image", "user setup x --yes --image",
        "devcontainer init x --image",
    ],
)  # fmt: skip
def test_what_can_be_no_image_is_named(command: str, image: str, nowhere: Path, capfd: pytest.CaptureFixture[str]):
    if "launch" in command or "devcontainer" in command:
        (nowhere / "workspace/x").mkdir(parents=True)
    before = sorted(nowhere.rglob("*"))
    assert run([*command.split(), image]) == 2
    said = capfd.readouterr().err
    assert f": {shown(image)}: not the name of an image" in said
    assert len(said) < 400
    assert sorted(nowhere.rglob("*")) == before


def test_options_of_nothing_are_not_left_out(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    (nowhere / "workspace/here").mkdir(parents=True)
    monkeypatch.chdir(nowhere / "workspace/here")
    for command in (
        "container create x --dry-run --workspace", "container create x --dry-run --project",
        "container create x --dry-run --data", "image create x --no-build --directory", "image install x",
        "image create x --no-build --framework", "image create x --no-build --requirements", "project dir",
        "project readme", "user ssh --add-key",
    ):  # fmt: skip
        assert run([*command.split(), ""]) == 2, (command, capfd.readouterr())
    assert [path.name for path in nowhere.rglob("*")] == ["workspace", "here"]


@pytest.mark.parametrize("path", ["", "/", "missing.db", "a/b", NO_TEXT, "policy"])
@pytest.mark.parametrize("words", LEDGER, ids=" ".join)
def test_what_is_no_ledger_gets_nothing_beside_it(
    words: tuple[str, ...], path: str, nowhere: Path, capfd: pytest.CaptureFixture[str]
):
    (nowhere / "policy").write_bytes(POLICY.read_bytes())
    before = sorted(Path("/").iterdir())
    entry = BY_WORDS[words]
    policy = ["--policy", str(POLICY)] if option(entry, "--policy") else []
    given = [str(POLICY), "--recorded"] if words == ("simulate",) else ["0"] * names(entry)
    code = run([*words, *given, *policy, "--ledger", path])
    said = capfd.readouterr()
    assert code in {1, 2, 5}, said
    assert said.err
    assert [found.name for found in nowhere.iterdir()] == ["policy"]
    assert sorted(Path("/").iterdir()) == before
