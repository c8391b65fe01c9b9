"""`--guided`: on every command, with what somebody has and the step that follows from it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ds01 import events
from ds01.api.call import Asker
from ds01.cli import standing
from ds01.cli.commands import FOR_ADMINISTRATORS
from ds01.cli.main import run
from ds01.cli.standing import Standing
from ds01.cli.tree import entries
from tests.unit.api.served import Server, handler
from tests.unit.ledger.conftest import path

__all__ = ["path"]
MEMBERS = {
    entry.words: entry.command
    for entry in entries()
    if entry.words and not isinstance(entry.command, click.Group) and entry.words[0] not in FOR_ADMINISTRATORS
}


def test_every_command_teaches():
    without = [
        " ".join(entry.words)
        for entry in entries()
        if not isinstance(entry.command, click.Group) and all(one.name != "guided" for one in entry.command.params)
    ]
    assert without == []


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (Standing(), "image create NAME"),
        (Standing(images=True), "container deploy NAME IMAGE"),
        (Standing({"b": "exited", "a": "exited"}), "container start a"),
        (Standing({"b": "paused", "a": "exited"}), "container unpause b"),
        (Standing({"b": "running", "c": "running", "a": "exited"}), "container attach b"),
        (Standing({"b": "running"}, place=2), "number 2 of those who wait"),
        (Standing({"b": "running"}, place=2, notices=1), "ds01 notices --new"),
        (Standing(unknown="no answer"), "ds01 health"),
    ],
)
def test_the_step_follows_from_what_somebody_has(found: Standing, step: str):
    assert step in found.advice


@pytest.fixture
def member(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody who is asked nothing, with a container and a home where nothing is; the engine does not answer."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(standing, "_things", lambda: ({"train": "running"}, True))
    monkeypatch.setattr(events, "EVENTS_FILE", tmp_path / "none")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/none")
    monkeypatch.setenv("DS01_SOCKET", str(tmp_path / "s"))
    server = Server(str(tmp_path / "s"), handler(path, Asker(5, "games", admin=False, via="docker.sock")))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield
    server.shutdown()
    server.server_close()


def arguments(command: click.Command) -> Iterator[str]:
    """What can be typed after a command's name, so that it is one that can be."""
    for one in command.params:
        if isinstance(one, click.Option):
            yield from (one.opts[0], "1h") if one.required else ()
        elif isinstance(one.type, click.Choice):
            yield str(next(iter(one.type.choices)))
        elif one.required or one.name in {"name", "names"}:
            yield "." if isinstance(one.type, click.Path) else "train"


@pytest.mark.usefixtures("member")
@pytest.mark.parametrize("words", MEMBERS, ids=" ".join)
def test_each_command_teaches_before_it_does_anything_and_answers_programs_with_json_alone(
    words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
):
    command = MEMBERS[words]
    given = [*words, *arguments(command)]
    code = run([*words, "--guided", *given[len(words) :]])
    said = capfd.readouterr()
    assert code in range(6), said
    assert "\nYour limits:\n  " in said.err
    assert "\nYou have 0 of 3 containers, 0 of 2 GPU devices\n  containers: train (running)\n" in said.err
    assert (code == 0) == ("\nFrom here: `container attach train` opens a shell" in said.err), said
    if any("--json" in one.opts for one in command.params):
        assert run([*words, "--json", *given[len(words) :]]) in range(6)
        said = capfd.readouterr()
        # Of no events there are no lines.
        assert said.out or said.err or words == ("events",)
        json.loads(said.out or "null")


@pytest.mark.usefixtures("member")
def test_what_somebody_has_is_asked_before_and_after(capsys: pytest.CaptureFixture[str]):
    assert run(["gpu", "queue", "--guided"]) == 0
    said = capsys.readouterr()
    assert said.out == "nobody waits\n"
    assert "Show who waits for a GPU: the first to be served first." in said.err
    assert "You have 0 of 3 containers, 0 of 2 GPU devices\n  containers: train (running)\n" in said.err
    assert said.err.endswith(
        "From here: `container attach train` opens a shell, `container retire` gives its GPU back\n"
    )
