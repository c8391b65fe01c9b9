"""Whose a container is: the number in its name, then names that exist, then folders that really are theirs."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ds01.engine import owners


class People:
    """Accounts for the length of a test; the rest of the name service stays as it is."""

    def __init__(self, home: Path) -> None:
        entry = ("alice", "x", 5001, 5001, "", str(home), "/bin/sh")
        self.alice = pwd.struct_passwd(entry)

    def by_name(self, name: str) -> pwd.struct_passwd:
        if name == "alice":
            return self.alice
        if name == "root":
            return pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "/bin/sh"))
        raise KeyError(name)

    def by_uid(self, uid: int) -> pwd.struct_passwd:
        if uid == 5001:
            return self.alice
        raise KeyError(uid)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "alice"
    (home / "project").mkdir(parents=True)
    os.chown(home / "project", 5001, 5001)
    people = People(home)
    monkeypatch.setattr(owners.pwd, "getpwnam", people.by_name)
    monkeypatch.setattr(owners.pwd, "getpwuid", people.by_uid)
    return home


def container(name: str, labels: dict[str, str] | None = None, source: str = "") -> dict[str, Any]:
    mounts = [{"Type": "bind", "Source": source}] if source else []
    return {"Name": f"/{name}", "Config": {"Labels": labels}, "Mounts": mounts}


@pytest.mark.usefixtures("home")
def test_the_number_in_the_name_wins_over_labels():
    found = owners.owner(container("job._.5001", {"aime.mlc.USER": "root"}))
    assert found == owners.Owner(5001, "alice", "uid")


@pytest.mark.usefixtures("home")
def test_a_number_that_nobody_has_is_still_an_owner():
    assert owners.owner(container("job._.4999")) == owners.Owner(4999, "4999", "uid")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("name", "labels", "how"),
    [
        ("job._.alice", {}, "name-suffix"),
        ("job", {"aime.mlc": "alice"}, "label"),
        ("job", {"ds01.user": "alice"}, "label"),
    ],
)
def test_names_that_exist(name: str, labels: dict[str, str], how: str):
    assert owners.owner(container(name, labels)) == owners.Owner(5001, "alice", how)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", ["web", "job._.nobody-here", "job._.99999999999", "job._.", "x._.root", "job._.٣"])
def test_nobody(name: str):
    assert owners.owner(container(name, {"ds01.user": "root"})) is None


def test_a_folder_counts_if_it_is_in_the_home_of_its_owner(home: Path, tmp_path: Path):
    project = str(home / "project")
    assert owners.owner(container("c", source=project)) == owners.Owner(5001, "alice", "bind")
    label = {"devcontainer.local_folder": project}
    assert owners.owner(container("c", label)) == owners.Owner(5001, "alice", "dev-container")
    label = {"com.docker.compose.project.working_dir": project}
    assert owners.owner(container("c", label)) == owners.Owner(5001, "alice", "compose")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.chown(elsewhere, 5001, 5001)
    assert owners.owner(container("c", source=str(elsewhere))) is None
    assert owners.owner(container("c", source=str(home / "missing"))) is None
    # Made by root in alice's home: a claim, but not hers.
    (home / "of-root").mkdir()
    assert owners.owner(container("c", source=str(home / "of-root"))) is None


def test_a_link_into_a_home_is_followed_to_the_real_owner(home: Path, tmp_path: Path):
    (home / "link").symlink_to(tmp_path)
    assert owners.owner(container("c", source=str(home / "link"))) is None


@pytest.mark.parametrize("text", ["/home\0/x", "/" + "a" * 5000, "/\ud800", "\0"])
def test_a_label_may_hold_anything(text: str):
    keys = ("ds01.user", "aime.mlc", "devcontainer.local_folder", "com.docker.compose.project.working_dir")
    assert owners.owner(container("x", dict.fromkeys(keys, text), source=text)) is None
