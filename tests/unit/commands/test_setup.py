"""What people set up once: projects, git, keys and shells; all of it again and again, over what is there."""

from __future__ import annotations

import base64
import errno
import io
import os
import re
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01.cli.image.phases import USE_CASES
from ds01.cli.main import run
from ds01.cli.project import place
from ds01.users import keys

HEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)


def key(number: int) -> str:
    return f"ssh-ed25519 {base64.b64encode(HEAD + bytes([number] * 32)).decode()} key{number}@laptop"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.chdir(tmp_path)
    nothing = Path(os.devnull).open()  # noqa: SIM115 - read by what is tested
    monkeypatch.setattr("sys.stdin", nothing)
    return tmp_path


@pytest.fixture
def do(home: Path, capsys: pytest.CaptureFixture[str]):
    def call(*words: str, code: int = 0) -> str:
        found = run(list(words[1:]), words[0])
        said = capsys.readouterr()
        text = (said.out + said.err).replace(str(home), "/home/alice")
        assert found == code, text
        return text

    return call


def tree(where: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory, git's own files left out."""
    return {
        str(path.relative_to(where)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(where.rglob("*"))
        if ".git" not in path.relative_to(where).parts
    }


def test_the_pieces_of_a_project_are_made_once_and_stay(do, home: Path):
    for command in (["dir-create", "birds"], ["readme-create", "birds", "--desc", "Songs"], ["git-init", "birds"]):
        do(*command)
        before = tree(home)
        assert "already" in do(*command)
        assert tree(home) == before
    where = home / "workspace/birds"
    assert {path.name for path in where.iterdir()} == {
        ".git", ".gitignore", "README.md", "data", "models", "notebooks", "results", "src",
    }  # fmt: skip
    readme = (where / "README.md").read_text()
    assert readme.startswith("# birds\n\nSongs\n")
    assert "- `notebooks/`: " in readme


def test_files_of_ones_own_are_never_overwritten(do, home: Path):
    where = home / "workspace/birds"
    where.mkdir(parents=True)
    (where / "README.md").write_text("mine")
    (where / ".gitignore").symlink_to("elsewhere")
    (where / "data").symlink_to(home)
    do("dir-create", "birds")
    assert "~/workspace/birds/README.md is there already and stays" in do("readme-create", "birds")
    do("git-init", "birds")
    assert (where / "README.md").read_text() == "mine"
    assert (where / ".gitignore").readlink() == Path("elsewhere")
    assert (where / "data").is_symlink()


def test_the_project_is_the_one_that_we_are_in(do, home: Path, monkeypatch: pytest.MonkeyPatch):
    do("dir-create", "birds")
    monkeypatch.chdir(home / "workspace/birds/src")
    do("readme-create")
    assert (home / "workspace/birds/README.md").is_file()


@pytest.mark.parametrize("name", ["", "a.b", "../b", "-a", "a b", "a" * 61, "ä", "a\n", "_", "a/b"])
def test_a_name_that_no_container_or_image_can_have_is_refused(do, home: Path, name: str):
    assert "PROJECT" in do("dir-create", name, code=2)
    assert tree(home) == {}


@given(st.from_regex(place._NAME, fullmatch=True))
def test_every_name_of_a_project_fits_its_image_and_container(name: str):
    from ds01.cli.container import naming  # noqa: PLC0415 - beside the other
    from ds01.cli.image import place as images  # noqa: PLC0415 - as above

    if "\n" not in name:
        assert naming.checked(place.checked(name)) == name
        assert images.checked(place.image_of(name)) == name.lower()


def test_git_takes_who_commits_and_where_it_goes(do, home: Path):
    do("dir-create", "birds")
    assert "git does not know who you are" in do("git-init", "birds")
    do("git-init", "birds", "--user", "Alice", "--email", "alice@example.org", "--remote", "git@example.org:birds.git")
    where = home / "workspace/birds"
    (where / "data/large.bin").write_text("not in git")
    for command in ("add --all", "commit --quiet -m Begin"):
        subprocess.run(["git", *command.split()], cwd=where, check=True)
    shown = subprocess.run(
        ["git", "show", "--format=%an %ae %D", "--name-only"], cwd=where, check=True, capture_output=True, text=True
    )
    assert shown.stdout.split() == ["Alice", "alice@example.org", "HEAD", "->", "main", ".gitignore"]
    refused = do("git-init", "birds", "--remote", "git@example.org:other.git", code=1)
    assert "pushes to git@example.org:birds.git already" in refused
    assert do("git-init", "birds", "--remote", "--upload-pack=x", code=2)
    assert do("git-init", "nothing", code=5)


def test_a_key_is_made_once_whole_and_private(do, home: Path):
    said = do("ssh-setup", "--server", "gpu1.example.org")
    made = home / ".ssh/id_ed25519"
    public = made.with_suffix(".pub").read_text().strip()
    assert public in said
    derived = subprocess.run(["ssh-keygen", "-y", "-f", made], check=True, capture_output=True, text=True).stdout
    assert derived.split()[:2] == public.split()[:2]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (made.parent, made)] == [0o700, 0o600]
    before = tree(home)
    assert "your key here is ~/.ssh/id_ed25519" in do("ssh-setup")
    assert tree(home) == before
    assert set(before) == {".ssh", ".ssh/id_ed25519", ".ssh/id_ed25519.pub"}


def test_a_public_key_that_came_from_elsewhere_is_not_lost(do, home: Path):
    (home / ".ssh").mkdir(mode=0o755)
    (home / ".ssh/id_ed25519.pub").write_text(key(1))
    assert "rename it" in do("ssh-setup", code=1)
    assert (home / ".ssh/id_ed25519.pub").read_text() == key(1)
    assert not list((home / ".ssh").glob(".making*"))
    do("ssh-setup", "--no-key")
    assert not (home / ".ssh/id_ed25519").exists()


@settings(max_examples=25)
@given(st.lists(LINES, max_size=4), st.lists(st.integers(0, 9), max_size=3, unique=True), st.booleans())
def test_keys_of_ones_own_and_the_administrators_do_not_touch_each_other(own: list[str], listed: list[int], end: bool):
    own = [line for line in own if "DS01 keys" not in line]
    with tempfile.TemporaryDirectory() as place_, pytest.MonkeyPatch.context() as patch:
        home = Path(place_)
        patch.setenv("HOME", place_)
        (home / ".ssh").mkdir(mode=0o700)
        file = home / ".ssh/authorized_keys"
        text = keys.merge("".join(f"{line}\n" for line in own), [key(number) for number in listed])
        file.write_text(text if end else text.removesuffix("\n"))
        (home / "new.pub").write_text(f"{key(10)}\n")
        for _ in range(2):
            assert run(["--no-key", "--add-key", f"{home}/new.pub"], "ssh-setup") == 0
        after = file.read_text()
        assert after.splitlines().count(key(10)) == 1
        assert keys.block(after) == [key(number) for number in listed]
        assert [line for line in own if line] == [line for line in after.splitlines() if line in own and line]
        # The administrator's next run takes none of it away.
        assert key(10) in keys.merge(after, [])


@pytest.mark.parametrize("text", ["", "hello", "ssh-ed25519 AAAA x", "-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_what_is_no_public_key_is_refused(do, home: Path, text: str):
    (home / "file").write_text(text)
    assert "--add-key" in do("ssh-setup", "--no-key", "--add-key", "file", code=2)
    assert set(tree(home)) == {"file"}


def test_a_link_in_place_of_the_keys_is_not_followed(do, home: Path):
    (home / ".ssh").mkdir(mode=0o700)
    (home / "elsewhere").write_text("")
    (home / ".ssh/authorized_keys").symlink_to(home / "elsewhere")
    (home / "new.pub").write_text(key(1))
    assert "authorized_keys" in do("ssh-setup", "--no-key", "--add-key", "new.pub", code=1)
    assert (home / "elsewhere").read_text() == ""


@pytest.mark.parametrize(
    ("connection", "given", "host", "port"),
    [
        ("192.0.2.7 50022 192.0.2.1 2222", [], None, "    Port 2222\n"),
        ("192.0.2.7 50022 192.0.2.1 22", ["--server", "gpu1"], "gpu1", ""),
        ("", ["--server", "gpu1.example.org"], "gpu1.example.org", ""),
        ("", [], socket.gethostname(), ""),
    ],
)
def test_the_lines_to_paste_name_this_server(do, monkeypatch, connection, given, host, port):  # noqa: PLR0917 - a table
    monkeypatch.setenv("SSH_CONNECTION", connection)
    host = host or (socket.gethostname() if "." in socket.gethostname() else "192.0.2.1")
    said = do("ssh-setup", "--no-key", *given)
    assert f"Host lab\n    HostName {host}\n    User " in said
    assert f"{port}    ServerAliveInterval" in said
    assert ("Port" in said) == bool(port)


@settings(max_examples=25)
@given(st.lists(LINES, max_size=5), st.booleans())
def test_a_shells_start_file_is_as_before_when_our_lines_are_taken_away(lines: list[str], end: bool):
    text = "\n".join(lines) + ("\n" if end else "")
    if "DS01 shell" in text:
        return
    with tempfile.TemporaryDirectory() as place_, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", place_)
        file = Path(place_, ".bashrc")
        file.write_text(text)
        file.chmod(0o640)
        for _ in range(2):
            assert run(["--shell", "bash"], "shell-setup") == 0
        assert file.read_text().count("# BEGIN DS01") == 1
        assert run(["--shell", "bash", "--remove"], "shell-setup") == 0
        assert file.read_text().removesuffix("\n") == text.removesuffix("\n")
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_shell_reads_our_lines_also_without_a_terminal(do, home: Path):
    (home / "dotfiles").mkdir()
    (home / "dotfiles/bashrc").write_text("WHOSE=mine\n")
    (home / ".bashrc").symlink_to("dotfiles/bashrc")
    assert "ds01 completion bash" in do("shell-setup", "--shell", "bash", "--dry-run")
    do("shell-setup", "--shell", "bash")
    assert (home / ".bashrc").is_symlink()
    script = '. ~/.bashrc; echo "$WHOSE" "${PATH%%:*}"'
    done = subprocess.run(["bash", "-c", script], env={"HOME": str(home)}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["mine", f"{home}/.local/bin"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command",
    [
        "project-init birds --framework nosuch", "project-init birds --framework python --base python:3.12",
        "user-setup birds --yes --framework nosuch", "user-setup birds --yes --gpu three",
        "image-create birds --requirements nowhere.txt", "image-create birds --requirements .",
        "image-create birds --directory ~nobody-of-that-name", "ssh-setup --add-key nowhere.pub",
        "project-launch birds --gpu three", "project-launch birds --wait soon", "project-launch birds --env 1",
    ],
)  # fmt: skip
def test_what_is_written_wrongly_is_said_before_anything_is_made(do, home: Path, monkeypatch, command: str):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/none")
    if "launch" in command:
        (home / "workspace/birds").mkdir(parents=True)
    before = tree(home)
    assert re.search(r"Error: --\w", do(*command.split(), code=2))
    assert tree(home) == before


@pytest.mark.parametrize("use_case", USE_CASES)
def test_every_kind_of_project_has_the_packages_of_its_kind(do, home: Path, use_case: str):
    do("project-init", "birds", "--quick", "--type", use_case, "--base", "python:3.12", "--no-git")
    text = (home / "dockerfiles/birds/Dockerfile").read_text()
    title, packages = USE_CASES[use_case]
    assert [package for package in packages if f" {package}" not in text] == []
    assert (f"# Use case: {title}\n" in text) == bool(packages)


def test_a_project_whose_image_is_there_says_what_it_is(do, home: Path):
    begin = ("--quick", "--base", "python:3.12", "--no-git")
    do("project-init", "Birds", "--type", "nlp", *begin)
    before = (home / "dockerfiles/birds/Dockerfile").read_bytes()
    said = do("project-init", "birds", "--type", "cv", *begin)
    assert "~/dockerfiles/birds/Dockerfile is there already and stays as it is (use case: language)\n" in said
    assert "note: --type, --framework and --base change nothing of it: edit it, then `image update birds`" in said
    assert (home / "dockerfiles/birds/Dockerfile").read_bytes() == before
    assert "note:" not in do("project-init", "birds", "--quick", "--no-git")


@pytest.mark.parametrize(
    ("command", "typed", "said"),
    [
        ("container-create --cpu-only --dry-run", ["a b", "train"], ["not a name for a container", "container train"]),
        (
            "image-create --no-build",
            ["x" * 300, "birds", "nosuch", "python", "", "", "many", ""],
            ["up to 120", "wrote"],
        ),
        ("dir-create", ["b/c", "birds"], ["not a name for a project", "workspace/birds"]),
    ],
)
def test_a_wrong_answer_is_asked_again(do, monkeypatch, command: str, typed: list[str], said: list[str]):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("".join(f"{line}\n" for line in typed)))
    found = do(*command.split())
    assert [text for text in said if text not in found] == []
    assert "Usage:" not in found


def test_somebody_without_a_home_is_told_what_is_missing(do, monkeypatch):
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    for command in ("dir-create birds", "shell-setup", "image-update birds", "devcontainer-init birds"):
        assert f"error: uid {os.getuid()} has no home directory here" in do(*command.split(), code=1)
    monkeypatch.setenv("HOME", "/")
    assert "has no name here" in do("container-create", "train", "--cpu-only", "--dry-run", code=1)


@given(st.text(max_size=100) | st.sampled_from(["My Project!", "Vögel", "-x", ".", "..", "a" * 200, "a" * 59 + " b"]))
def test_a_name_that_cannot_be_is_answered_with_one_that_can(name: str):
    try:
        assert place.checked(name) == name
    except click.UsageError as error:
        said, _, instead = str(error).partition(", with _ or - between")
        assert said.startswith("PROJECT: ")
        like = instead.removeprefix(", like ")
        assert place.is_name(like) or not re.search("[A-Za-z0-9]", name)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("command", ["shell-setup", "readme-create birds", "devcontainer-init birds"])
def test_a_home_over_its_quota_is_told_like_a_full_one(do, home: Path, monkeypatch, number: int, command: str):
    (home / "workspace/birds").mkdir(parents=True)
    before = sorted(home.rglob("*"))

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    # Where the kernel notices at the latest.
    monkeypatch.setattr(os, "fsync", full)
    said = do(*command.split(), code=1)
    assert f"{os.strerror(number)}: make room, `du -xsh" in said
    assert [path for path in sorted(home.rglob("*")) if path not in before and path.is_file()] == []


def test_a_block_without_its_end_is_left_to_its_owner(do, home: Path):
    do("shell-setup", "--shell", "bash")
    cut = (home / ".bashrc").read_text().replace("# END DS01 shell\n", "alias mine=1\n")
    (home / ".bashrc").write_text(cut)
    assert "by hand" in do("shell-setup", "--shell", "bash", "--remove", code=1)
    assert (home / ".bashrc").read_text() == cut
