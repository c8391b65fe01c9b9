"""Which way a container came, by what asks for it; and what our own commands call themselves."""

from __future__ import annotations

import sys

import pytest

from ds01.cli import engine
from ds01.engine.origin import of_request
from ds01.host.names import PROJECT_LABEL, REQUEST_LABEL


@pytest.mark.parametrize(
    ("typed", "interface"),
    [
        (["/usr/local/bin/container-create", "a", "image"], "atomic"),
        (["/usr/local/bin/ds01", "container", "create", "a"], "atomic"),
        (["container", "deploy", "a"], "orchestration"),
        (["container-deploy"], "orchestration"),
        (["container", "create", "deploy"], "atomic"),
        (["ds01", "project", "launch"], "wizard"),
        (["project-launch", "birds", "--yes"], "wizard"),
        (["mlc-create", "net", "Pytorch"], "mlc"),
        (["/usr/local/bin/ds01-run"], "atomic"),
        ([""], "atomic"),
    ],
)
def test_our_commands_say_which_they_are(monkeypatch: pytest.MonkeyPatch, typed: list[str], interface: str):
    monkeypatch.setattr(sys, "argv", typed)
    assert of_request(engine.agent(), {"com.docker.compose.project": "x"}) == {
        "ds01.type": "managed",
        "ds01.interface": interface,
    }


@pytest.mark.parametrize("agent", ["ds01-cli/docker", "ds01-cli/", "ds01-cli", "ds01-cli/../x,y"])
def test_no_client_writes_a_word_of_its_own(agent: str):
    assert of_request(agent, {}) == {"ds01.type": "managed", "ds01.interface": "atomic"}


@pytest.mark.parametrize(
    ("agent", "interface"),
    [("Docker-Client/26.1.5 (linux)", "docker"), ("docker-sdk-python/7.1.0", "api"), ("", "api"), ("curl/8", "api")],
)
def test_others_are_docker_or_the_api(agent: str, interface: str):
    assert of_request(agent, {"mine": "1", REQUEST_LABEL: "x"}) == {"ds01.type": "docker", "ds01.interface": interface}


@pytest.mark.parametrize(
    ("agent", "given", "project"),
    [
        ("Docker-Client/26", {"com.docker.compose.project": "lab1"}, "lab1"),
        ("ds01-cli/wizard", {PROJECT_LABEL: "birds"}, "birds"),
        ("Docker-Client/26", {"devcontainer.local_folder": "/home/alice/work/birds/"}, "birds"),
        ("Docker-Client/26", {"devcontainer.local_folder": "C:\\Users\\a b\\vö,gel"}, "vö_gel"),
        ("Docker-Client/26", {"com.docker.compose.project": "a,b\n" + "c" * 999}, "a_b_" + "c" * 124),
        # What another way of making containers would mean by it says nothing here.
        ("ds01-cli/wizard", {"com.docker.compose.project": "lab1"}, None),
        ("Docker-Client/26", {PROJECT_LABEL: "birds"}, None),
        ("Docker-Client/26", {"devcontainer.local_folder": "/"}, None),
        ("curl/8", {}, None),
    ],
)
def test_a_container_says_what_it_belongs_to(agent: str, given: dict[str, str], project: str | None):
    assert of_request(agent, given).get("ds01.project") == project
