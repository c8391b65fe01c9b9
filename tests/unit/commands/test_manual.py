"""Manual pages and completion, as they are installed, by the programs that people use them with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01.cli import manual
from ds01.cli.tree import entries
from ds01.host.names import THIN
from lab.packages import install
from tests.unit.commands.tmux import Tmux

DS01 = Path(sys.executable).with_name("ds01")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies below /usr/local/share."""
    place = tmp_path_factory.mktemp("shared")
    manual.write(place)
    return place


def read(shared: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("man"):
        install("man-db")
    environment = {**os.environ, "MANPATH": str(shared / "man"), "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    return subprocess.run(["man", *arguments], env=environment, capture_output=True, text=True, check=True)


def test_every_command_has_a_page_under_each_of_its_names(shared: Path):
    names = {"-".join(("ds01", *entry.words)) for entry in entries()} | set(THIN)
    # Two words after each other may be one page for it: `man ds01 dashboard`.
    found = read(shared, "--no-subpages", "--where", *sorted(names)).stdout.split()
    assert len(found) == len(names)


def test_every_page_is_without_fault_and_says_every_option(shared: Path):
    for entry in entries():
        page = shared / "man" / "man1" / f"{'-'.join(('ds01', *entry.words))}.1"
        done = read(shared, "--warnings=w", "--local-file", str(page))
        assert done.stderr == "", page.name
        shown = re.sub(".\b", "", done.stdout)
        for option in entry.command.get_params(entry.context):
            if option.param_type_name == "option" and not getattr(option, "hidden", False):
                assert option.opts[0] in shown, (page.name, option.opts)


def test_a_page_reads_as_it_should(shared: Path):
    shown = read(shared, "container-stop").stdout
    for text in (
        "container-stop - Stop containers",
        "ds01 container stop [OPTIONS] [NAME]...",
        "refused by the policy",
        "130    stopped by Ctrl-C",
    ):
        assert text in shown


@pytest.fixture
def terminal(tmp_path: Path, shared: Path) -> Iterator[Tmux]:
    for name in ("ds01", *THIN):
        (tmp_path / name).symlink_to(DS01)
    path = f"{tmp_path}:{os.environ['PATH']}"
    found = Tmux(tmp_path, PATH=path, XDG_DATA_DIRS=str(shared), SHARED=str(shared), HOME=str(tmp_path))
    yield found
    found.close()


def completes(terminal: Tmux, typed: str, expected: str) -> None:
    # A shell that still reads what was typed before a Tab may not complete it.
    terminal.keys("C-u", typed)
    terminal.see(typed)
    terminal.keys("Tab")
    terminal.see(expected)


def test_bash_finds_what_completes_a_command_by_its_name(terminal: Tmux):
    if not Path("/usr/share/bash-completion/bash_completion").exists():
        install("bash-completion")
    terminal.keys("exec bash --norc --noprofile", "Enter")
    terminal.keys(". /usr/share/bash-completion/bash_completion; echo loa''ded", "Enter")
    terminal.see("loaded")
    completes(terminal, "container dep", "container deploy")
    completes(terminal, "image-create --no-b", "image-create --no-build")


def test_zsh_finds_what_completes_a_command_by_its_name(terminal: Tmux):
    if not shutil.which("zsh"):
        install("zsh")
    terminal.keys("exec zsh -f", "Enter")
    load = "fpath=($SHARED/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; echo loa''ded"
    terminal.keys(load, "Enter")
    terminal.see("loaded")
    completes(terminal, "container dep", "container deploy")
    completes(terminal, "image-create --no-b", "image-create --no-build")
