"""Dev containers: what is written for editors, and mistakes in what others wrote."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ds01.cli.devcontainer import jsonc
from ds01.cli.devcontainer.check import wrong_user
from ds01.cli.devcontainer.mend import mended
from ds01.cli.main import run

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.sampled_from(["//", "/*", "a,]", '"', "\\", ",}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(JSON)
def test_plain_json_means_what_it_means(value: object):
    for indent in (None, 2):
        assert jsonc.parse(json.dumps(value, indent=indent, ensure_ascii=False)) == value


@given(st.dictionaries(TEXTS, JSON, min_size=1), st.text('x*/ ",]}', max_size=10))
def test_comments_and_last_commas_change_nothing(value: dict[str, object], comment: str):
    text = json.dumps(value, indent=1)
    line, block = f"// {comment}\n", f"/* {comment.replace('*', '')} */"
    assert jsonc.parse(f"{line}{text.removesuffix('}').rstrip()}, {block}\n{line}}}{line}") == value


def test_a_fault_is_where_it_is_said_to_be():
    with pytest.raises(ValueError, match="line 4"):
        jsonc.parse('{\n/* two\nlines */ "a": 1,\n x }')


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    where = tmp_path / "workspace/birds"
    where.mkdir(parents=True)
    return where


def test_it_says_image_gpu_and_workspace_and_is_written_once(project: Path):
    assert run(["birds", "--extensions", "charliermarsh.ruff ms-python.python"], "devcontainer-init") == 0
    file = project / ".devcontainer/devcontainer.json"
    found = json.loads(file.read_text())
    assert (found["image"], found["runArgs"], found["workspaceFolder"]) == ("birds", ["--gpus", "1"], "/workspace")
    assert found["containerUser"] == f"{os.getuid()}:{os.getgid()}"
    assert found["customizations"]["vscode"]["extensions"] == [
        "ms-python.python", "ms-toolsai.jupyter", "charliermarsh.ruff",
    ]  # fmt: skip
    assert run(["birds", "--cpu-only"], "devcontainer-init") == 0
    assert json.loads(file.read_text()) == found


def test_the_other_place_counts_too(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / ".devcontainer.json").write_text('{"build": {"dockerfile": "x"}}')
    assert run(["birds", "--cpu-only"], "devcontainer-init") == 0
    assert not (project / ".devcontainer").exists()
    assert run(["birds"], "devcontainer-check") == 1
    assert "~/workspace/birds/.devcontainer.json: dockerfile: x: a file in ~/workspace/birds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{", 1, "line 1"),
        ("[]", 1, "an object"),
        ("{}", 1, 'add "image": "birds"'),
        ('{"image": 7}', 1, "image: 7: the name of an image"),
        ('{"dockerComposeFile": "x", "runArgs": "--gpus"}', 1, "a list of texts"),
        ('{"dockerComposeFile": "x", "runArgs": ["--network", "host"]}', 0, "--network host: not given"),
        ('{"dockerComposeFile": "x", "runArgs": ["--pid=host", "--ipc=host"]}', 0, "--ipc=host: not given"),
        ('{"dockerComposeFile": "x", "privileged": true}', 0, "privileged: not given"),
        ('{"dockerComposeFile": "x", "hostRequirements": {"gpu": true}}', 0, "takes every GPU"),
        ('{"dockerComposeFile": "x", "runArgs": ["--gpus=all"]}', 0, "takes every GPU"),
        ('{"build": {"context": "."}}', 0, "asks for no GPU"),
        ('{"build": {"context": "."}}', 0, "what it makes in your files is root's"),
        ('{"build": {"context": "."}, "containerUser": "123456:5"}', 0, "123456:5: somebody else's number"),
        (
            '{"dockerComposeFile": "x", "runArgs": ["--gpus", "1"], "mounts": ["source=/nowhere,target=/x,type=bind"]}',
            1,
            "/nowhere",
        ),
        (
            '{"dockerComposeFile": "x", "mounts": [{"source": "${localWorkspaceFolder}/no", "target": "/x"}]}',
            1,
            "birds/no",
        ),
    ],
)
def test_mistakes_are_named_with_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, said: str
):
    (project / ".devcontainer.json").write_text(text)
    assert run(["birds"], "devcontainer-check") == code
    shown = capsys.readouterr()
    assert said in shown.err
    assert "is well" not in shown.out
    assert run(["birds", "--json"], "devcontainer-check") == code
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert {problem["severity"] for problem in problems} >= ({"error"} if code else {"warning"})


def test_what_is_right_is_well(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / ".devcontainer").mkdir()
    (project / ".devcontainer/Dockerfile").write_text("FROM python:3.12\n")
    (project / ".devcontainer/devcontainer.json").write_text(
        '{"build": {"dockerfile": "Dockerfile",}, // ours\n "runArgs": ["--gpus", "1"], "remoteUser": "vscode",'
        ' "mounts": ["source=${localWorkspaceFolder},target=/x,type=bind"]}'
    )
    assert run(["birds"], "devcontainer-check") == 0
    assert capsys.readouterr().out.endswith("is well\n")


WORDS = st.sampled_from(
    [
        "--privileged",
        "--network",
        "host",
        "--net=host",
        "--network=mine",
        "--pid=host",
        "--device",
        "/dev/fuse",
        "--device=/dev/kvm",
        "--cap-add",
        "SYS_PTRACE",
        "--cap-add=SYS_ADMIN",
        "--gpus",
        "all",
        "--gpus=all",
        "--init",
        "-v",
    ]
)
FILES = st.fixed_dictionaries(
    {"dockerComposeFile": st.just("x")},
    optional={
        "runArgs": st.lists(WORDS, max_size=6), "privileged": st.booleans(), "containerEnv": st.just({"HOME": "/x"}),
        "hostRequirements": st.fixed_dictionaries({"cpus": st.just(2)}, optional={"gpu": st.booleans()}),
        "containerUser": st.sampled_from(["root", "vscode", "123456:5"]),
        "remoteUser": st.sampled_from(["vscode", "7"]),
    },
)  # fmt: skip


@example({"dockerComposeFile": "x", "runArgs": ["--device"], "hostRequirements": {"cpus": 2, "gpu": True}})
@given(FILES)
def test_what_is_mended_is_well_and_stays(data: dict[str, object]):
    found = mended(data)
    line = " ".join(found.get("runArgs") or [])
    assert not re.search("--(privileged|cap-add)|--device[ =].|--(network|net|pid)[ =]host|--gpus[ =]all", line)
    assert "privileged" not in found or not found["privileged"]
    assert wrong_user(found) is None
    assert mended(found) == found
    # What nobody complained about is as it was.
    assert {*data} - {*found} <= {"privileged", "remoteUser"}
    assert all(word in (data.get("runArgs") or []) or word in {"--gpus", "1", "--gpus=1"} for word in line.split())


def test_a_file_from_elsewhere_is_mended_and_kept_as_it_was(project: Path, capsys: pytest.CaptureFixture[str]):
    text = '{"build": {"context": "."}, // theirs\n "runArgs": ["--privileged", "--gpus", "all"], "remoteUser": "root"}'
    (project / ".devcontainer.json").write_text(text)
    (project / ".devcontainer.json").chmod(0o600)
    assert run(["birds"], "devcontainer-check") == 0
    assert (project / ".devcontainer.json").read_text() == text
    capsys.readouterr()
    for fixed in (True, False):
        assert run(["birds", "--fix", "--json"], "devcontainer-check") == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["problems"], answer["fixed"]) == ([], fixed)
    found = json.loads((project / ".devcontainer.json").read_text())
    assert (found["runArgs"], found["containerUser"]) == (["--gpus", "1"], f"{os.getuid()}:{os.getgid()}")
    assert (project / ".devcontainer.json~").read_text() == text
    assert {path.stat().st_mode & 0o777 for path in project.glob(".devcontainer.json*")} == {0o600}
    # What cannot be read is left to people.
    for unread in (b"{", b'{"image": "\xe9"}', b"[" * 100_000):
        (project / ".devcontainer.json").write_bytes(unread)
        assert run(["birds", "--fix"], "devcontainer-check") == 1
        assert (project / ".devcontainer.json").read_bytes() == unread


def test_vscode_gets_its_file_and_what_to_paste(project: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["birds", "--server", "gpu1.example.org", "--yes"], "vscode-setup") == 0
    said = capsys.readouterr().out
    assert (project / ".devcontainer/devcontainer.json").is_file()
    assert "HostName gpu1.example.org" in said
    assert f"code --remote ssh-remote+lab {project}\n" in said
    assert run(["nothing"], "vscode-setup") == 5
