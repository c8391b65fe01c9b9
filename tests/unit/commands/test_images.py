"""Dockerfiles: what is written, and that packages can be added to what people made of it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ds01.cli.image import catalogue, dockerfile, place
from ds01.cli.image.update import changed
from ds01.cli.main import run

PACKAGES = st.lists(
    st.from_regex(r"[a-z][a-z0-9]{0,8}(\[[a-z]{1,4}\])?((==|<|>=)[0-9](\.[0-9]){0,2})?", fullmatch=True), max_size=5
)
SYSTEM = st.lists(st.from_regex(r"[a-z][a-z0-9.+-]{1,8}", fullmatch=True), min_size=1, max_size=4)


def steps(text: str) -> list[list[str]]:
    """The commands of RUN, as a shell reads them."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line.removeprefix("RUN ")) for line in joined.splitlines() if line.startswith("RUN ")]


def pip(text: str) -> list[str]:
    return [word for step in steps(text) if step[0] == "python3" for word in step[4:]]


def apt(text: str) -> list[str]:
    words = next((step for step in steps(text) if step[0] == "apt-get"), [])
    chosen = words[words.index("install") + 1 :] if words else []
    return [word for word in chosen[: chosen.index("&&") if chosen else None] if not word.startswith("-")]


def key(package: str) -> str:
    match = re.match(r"[a-z0-9]+", package)
    assert match is not None
    return match[0]


def made(packages: list[str], system: list[str]) -> str:
    parts = [("Jupyter", ["jupyterlab"]), (dockerfile.OWN, packages)]
    return dockerfile.made("x", "python:3.12", parts, system, requirements=False)


@given(PACKAGES, SYSTEM)
def test_what_is_written_installs_what_was_asked_for(packages: list[str], system: list[str]):
    text = made(packages, system)
    assert dockerfile.bases_of(text) == ["python:3.12"]
    assert pip(text) == ["jupyterlab", *packages]
    assert apt(text) == system


@given(PACKAGES, PACKAGES.filter(bool))
def test_packages_are_added_and_a_new_version_replaces_the_old(first: list[str], second: list[str]):
    text = changed(made(first, []), second, [])
    found = pip(text)[1:]
    assert found[len(found) - len(dict.fromkeys(second)) :] == list(dict.fromkeys(second))
    fresh = {key(package) for package in second}
    assert found[: -len(dict.fromkeys(second))] == [package for package in first if key(package) not in fresh]
    # Once more changes nothing: the image would be built again for nothing.
    assert changed(text, second, []) == text


@example([], ["g"], ["g++"])
@given(PACKAGES, SYSTEM, SYSTEM)
def test_system_packages_come_before_those_of_pip(packages: list[str], before: list[str], added: list[str]):
    text = changed(made(packages, before), [], added)
    assert set(apt(text)) == {*before, *added}
    assert changed(made(packages, []), [], added).index("apt-get") < changed(made(packages, []), [], added).index(
        "pip install"
    )
    assert pip(text) == ["jupyterlab", *packages]


def test_what_somebody_wrote_by_hand_stays():
    mine = "FROM python:3.12\n# My tool\nRUN curl https://x.example | sh && pip install tool\nENV A=1\n"
    text = changed(mine, ["rich"], ["git"])
    for line in mine.splitlines():
        assert line in text.splitlines()
    assert (pip(text), apt(text)) == (["rich"], ["git"])


@pytest.mark.parametrize("package", ["-e", "--index-url=http://x", "a\x00b", "$(reboot)", ";ls", "", "\u202eevil", "'"])
def test_what_is_no_package_is_refused(package: str):
    if package:
        with pytest.raises(click.UsageError):
            dockerfile.checked([package])
        with pytest.raises(click.UsageError):
            dockerfile.checked([package], system=True)
    else:
        assert dockerfile.checked([package]) == []


@pytest.mark.parametrize("package", ["a;ls", "numpy<2", "x && y", "torch @ https://x.example/y.whl", "a$(b)"])
def test_nothing_in_the_name_of_a_package_becomes_a_command(package: str):
    words = dockerfile.checked([package.split(maxsplit=1)[0]])
    assert pip(made(words, []))[1:] == words


PIECES = st.sampled_from(
    [b"FROM x\n", b"# Your packages\n", b"# System packages\n", b"RUN ", b"python3 -m pip install", b" 'a b", b" \\\n",
     b"\n", b" && rm x", b"\xff", b" install", b" ''", b'"'],
)  # fmt: skip


@given(st.lists(PIECES, max_size=10).map(b"".join))
def test_whatever_somebody_made_of_a_dockerfile_is_taken_or_named(text: bytes):
    with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", home)
        patch.setenv("DOCKER_HOST", f"unix://{home}/none")
        file = Path(home, "dockerfiles/x/Dockerfile")
        file.parent.mkdir(parents=True)
        file.write_bytes(text)
        for command in (["install", "x", "rich"], ["install", "x", "--system", "git"]):
            before = file.read_bytes()
            # Nobody builds it here.
            assert run(["image", *command]) == 1
            assert file.read_bytes() == before or command[-1].encode() in file.read_bytes()


def test_the_base_image_is_read_as_the_engine_reads_it():
    assert dockerfile.bases_of("# x\nfrom --platform=linux/amd64 a:1 AS b\nFROM c\n") == ["a:1", "c"]
    assert dockerfile.bases_of("ARG V\nFROM a:$V\n") == [""]
    assert dockerfile.bases_of("") == []


AIME = """Pytorch, 2.8.0, [CUDA_ADA;CUDA_AMPERE], hub.example/pytorch-2.8.0

# a comment
broken, row
Pytorch, 2.7.1, CUDA_AMPERE, hub.example/pytorch-2.7.1
"""


def test_aimes_list_comes_first_and_its_odd_lines_do_no_harm(tmp_path):
    (tmp_path / "ml_images.repo").write_text(AIME)
    found = catalogue.bases(tmp_path / "ml_images.repo")
    assert catalogue.chosen("pytorch", found).image == "hub.example/pytorch-2.8.0"
    assert catalogue.chosen("PyTorch-2.7.1", found).image == "hub.example/pytorch-2.7.1"
    assert catalogue.chosen("python", found).image.startswith("python:")
    assert found[0].architectures == ("CUDA_ADA", "CUDA_AMPERE")
    with pytest.raises(click.UsageError, match=r"2\.8\.0, 2\.7\.1"):
        catalogue.chosen("pytorch-9", found)


def test_without_aimes_list_there_are_public_images(tmp_path):
    assert catalogue.bases(tmp_path / "none") == list(catalogue.OWN)


@pytest.mark.parametrize("name", ["Vision", "a b", "-a", "a/b", "a:b:c", "", "a..b", "ds01-5/../x"])
def test_names_that_are_not_ones_own_image_are_refused(name: str):
    with pytest.raises(click.UsageError):
        place.checked(name)
