"""What a container will be: the engine's request, and what AIME's tools find on it."""

from __future__ import annotations

import csv
import io
import shlex
import tarfile
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.allocator.request import Request
from ds01.cli.container import naming, person
from ds01.cli.container.make import made
from ds01.cli.container.options import volume
from ds01.cli.container.person import Person
from ds01.cli.container.plan import Gpus, Mount, Plan, mounted
from ds01.cli.engine import Engine, EngineError

ALICE = Person(5001, 5001, "alice", (6000,))
AD = Person(1722830498, 1722800513, "h.baker@example.org")
WORK = Mount("/home/alice/workspace", "/workspace")
NAMES = st.from_regex(naming.NAME, fullmatch=True)


def plan(**changes: Any) -> Plan:
    return Plan(**{"name": "train", "image": "vision", "person": ALICE, "workspace": WORK} | changes)


def labels(one: Plan, **inherited: str) -> dict[str, str]:
    return one.labels(inherited, "0123")


@pytest.mark.parametrize("who", [ALICE, AD], ids=["alice", "ad"])
def test_labels_are_those_that_the_stock_tools_look_for(who: Person):
    found = labels(plan(person=who, data=Mount("/srv/data", "/data", writable=False)))
    assert found["aime.mlc"] == found["aime.mlc.USER"] == who.name
    assert found["aime.mlc.NAME"] == "train"
    assert (found["aime.mlc.DATA_MOUNT"], found["aime.mlc.MODELS_MOUNT"]) == ("/srv/data", "-")


@given(st.dictionaries(st.text("abc.", min_size=1), st.text("a,;=b")), st.text("/ab,", min_size=1))
def test_no_label_holds_a_comma(inherited: dict[str, str], directory: str):
    one = plan(workspace=Mount(directory, "/workspace"))
    found = {**inherited, **one.labels(inherited, "0")}
    assert not [value for value in found.values() if "," in value]


def test_labels_of_the_image_without_a_comma_are_left_to_it():
    assert "odd" not in labels(plan(), odd="a")
    assert labels(plan(), odd="a,b")["odd"] == "a;b"


@given(NAMES, st.sampled_from(["vision", "vision:v2", "ds01-5001/vision", "python:3.12", "nvcr.io/nvidia/pytorch:24.01",
                               "localhost:5000/x", "x@sha256:" + "0" * 64, "localhost:5000/Team/x:1"]))  # fmt: skip
def test_the_tag_is_the_containers_own_and_one_that_the_engine_takes(name: str, image: str):
    tag = naming.private_tag(image, name, 5001)
    repository, _, last = tag.partition(":")
    assert naming.is_private(tag, 5001)
    assert last == f"{name}._.5001"
    assert len(last) <= 128
    assert all(part and part == part.lower() for part in repository.split("/"))
    assert not repository.startswith("ds01-")


def test_two_containers_never_share_a_tag():
    assert len({naming.private_tag("vision", name, uid) for name in "ab" for uid in (1, 2)}) == 4


@pytest.mark.parametrize("name", ["", "_a", "-a", "a.b", "a b", "a#1", "a" * 61, "ä", "a\n"])
def test_names_that_the_stock_tools_cannot_take_are_refused(name: str):
    assert naming.NAME.fullmatch(name) is None


def test_one_process_waits_as_the_owner_and_programs_have_a_minute_to_end():
    body = plan().body({})
    assert (body["User"], body["StopSignal"], body["StopTimeout"]) == ("5001:5001", "SIGTERM", 60)
    assert body["Entrypoint"][:2] == ["bash", "-c"]
    assert body["HostConfig"]["GroupAdd"] == ["6000"]
    assert body["HostConfig"]["Binds"] == ["/home/alice/workspace:/workspace"]


def test_what_cannot_be_written_is_mounted_for_reading_only(tmp_path: Path):
    assert str(mounted(str(tmp_path), "/data")) == f"{tmp_path}:/data"
    assert str(Mount("/srv/data", "/data", writable=False)) == "/srv/data:/data:ro"


def test_without_gpu_nothing_is_asked_for():
    assert "DeviceRequests" not in plan(gpus=Gpus(0)).body({})["HostConfig"]
    assert "--gpus" not in plan(gpus=Gpus(0)).docker_run()


def test_gpus_are_asked_for_in_the_words_that_the_gateway_reads():
    [request] = plan(gpus=Gpus(None, "2g.20gb", "20g")).body({})["HostConfig"]["DeviceRequests"]
    assert request["Count"] == -1
    assert request["Options"] == {"profile": "2g.20gb", "memory": "20g"}
    Request(count=None, profile=request["Options"]["profile"])


def read_as_docker_does(option: str) -> tuple[str, dict[str, str]]:
    """`--gpus` is a line of CSV whose field `options` is one, too."""
    count, options = option, {}
    if "=" in option:
        [fields] = csv.reader([option])
        values = dict(field.split("=", 1) for field in fields)
        [pairs] = csv.reader([values["options"]])
        count, options = values["count"], dict(pair.split("=", 1) for pair in pairs)
    return count, options


@pytest.mark.parametrize(
    "gpus", [Gpus(1), Gpus(None), Gpus(2, "1g.10gb"), Gpus(None, "", "20g", full=True), Gpus(1, memory="8g")]
)
def test_docker_run_asks_for_the_same(gpus: Gpus):
    words = plan(gpus=gpus, wait="2h").docker_run()
    assert shlex.split(shlex.join(words)) == words
    count, options = read_as_docker_does(words[words.index("--gpus") + 1])
    assert options == gpus.options()
    assert count == ("all" if gpus.count is None else str(gpus.count))
    assert "ds01.wait=2h" in words


def test_what_is_for_one_program_is_gone_with_it_and_docker_run_says_so():
    one = plan(command=("python", "a b.py"), terminal=False, gpus=Gpus(0))
    body = one.body({})
    assert (body["Entrypoint"], body["Cmd"], body["Tty"], body["StdinOnce"]) == (["python", "a b.py"], [], False, True)
    assert (body["HostConfig"]["AutoRemove"], body["HostConfig"]["Init"]) == (True, True)
    words = one.docker_run()
    assert {"--rm", "--init", "--interactive"} < set(words)
    assert not {"--tty", "--detach"} & set(words)
    assert words[-4:] == ["", "vision", "python", "a b.py"]
    stays = plan().body({})
    assert not {"AutoRemove", "Init"} & set(stays["HostConfig"])
    assert stays["StdinOnce"] is False


@pytest.mark.parametrize("entry", ["", "/tmp", "/tmp:", "/tmp:x", "/tmp:/x:rx", "/nosuch/place:/x", "name:/x"])
def test_a_volume_that_docker_could_not_mount_is_refused(entry: str):
    with pytest.raises(click.UsageError, match="--volume"):
        volume(entry)


def test_a_volume_is_for_reading_where_that_is_said(tmp_path: Path):
    assert str(volume(f"{tmp_path}:/x")) == f"{tmp_path}:/x"
    assert str(volume(f"{tmp_path}:/x:ro")) == f"{tmp_path}:/x:ro"


def entries(text: str) -> list[list[str]]:
    return [line.split(":") for line in text.splitlines()]


TABLES = st.lists(
    st.tuples(st.sampled_from(["root", "ubuntu", "alice", "sync"]), st.integers(0, 3).map(lambda n: n + 4999))
)


@given(TABLES)
def test_the_owner_is_in_the_list_of_users_once_and_others_stay(rows: list[tuple[str, int]]):
    text = "".join(f"{name}:x:{uid}:{uid}::/:/bin/sh\n" for name, uid in rows)
    found = entries(person.passwd(text, Person(0, 0, "alice")))
    assert [row for row in found if row[0] == "alice"] == [found[-1]]
    kept = [(row[0], int(row[2])) for row in found[:-1]]
    assert kept == [row for row in rows if row[0] != "alice" and row[1] != 0]


def test_somebody_with_the_owners_number_in_the_image_makes_place():
    text = "root:x:0:\nubuntu:x:5001:\nusers:x:100:\n"
    assert person.group(text, ALICE).splitlines() == [
        "root:x:0:",
        "users:x:100:",
        "group5001:x:5001:",
        "group6000:x:6000:",
    ]


def test_a_home_belongs_to_its_owner_and_has_a_prompt():
    archive = person.home("train", AD, {"/etc/passwd": "x"})
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar}
        home = members["home/h.baker@example.org"]
        assert (home.uid, home.gid, home.mode) == (AD.uid, AD.gid, 0o700)
        assert members["etc/passwd"].uid == 0
        stream = tar.extractfile("home/h.baker@example.org/.bashrc")
        assert stream is not None
        assert b"PS1='[train] " in stream.read()


@pytest.mark.parametrize(("running", "way"), [(True, "attach train"), (False, "start train")])
def test_a_name_that_is_taken_says_what_can_be_done_with_it_now(monkeypatch, *, running: bool, way: str):
    monkeypatch.setattr(Engine, "ask", lambda *_, **__: {"State": {"Running": running}})
    with (
        pytest.raises(EngineError, match=rf"you have a container of that name: `container {way}`"),
        made(Engine(), plan(), str),
    ):
        pytest.fail("it is made again")
