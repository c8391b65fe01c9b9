"""What commands answer behind the gateway: to programs, to the Tab key, before they ask, about others' containers."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from lab.process import ROOT
from tests.integration.gateway.commands_host import HOME, SHELL, Commands, Terminal
from tests.integration.gateway.gateway_host import SOCKET

BARE = ("--no-jupyter", "--no-data-science", "--yes")
PAGE = (ROOT / "docs/knowing.md").read_text(encoding="utf-8")
API = ("env", f"DS01_SOCKET={SOCKET}")
DAY_S = 86_400


def documented(cell: str) -> set[str]:
    """The keys that the page says a command answers with, by how its cell begins."""
    [row] = [row for row in PAGE.splitlines() if row.startswith(f"| `{cell}")]
    keys = re.split(r"(?<!\\) \| ", row)[1]
    while "(" in keys:
        # What is in brackets is said of the key before.
        keys = re.sub(r"\([^()]*\)", "", keys)
    return set(re.findall(r"`(\w+)`", keys))


def test_programs_get_the_keys_that_are_documented(do: Commands):
    do.ok("dir-create", "birds", "--type", "blank")
    do.ok("devcontainer-init", "birds", "--image", SHELL)
    answers: dict[str, Any] = {
        "image create\\|update\\|install`": do.json("image", "create", "vision", "--image", SHELL, *BARE),
        "image create --catalogue": do.json("image", "create", "--catalogue"),
        "container create\\|deploy` and": json.loads(do.ok("ds01-run", "--cpu-only", "--dry-run", "--json", SHELL)),
        "container create\\|deploy`, with": do.json("container-deploy", "train", "vision", "--cpu-only"),
        "container list": do.json("container", "list"),
        "container stats": do.json("container", "stats"),
        "image list": do.json("image", "list"),
        "devcontainer-check": do.json("devcontainer-check", "birds"),
        "container start": do.json("container", "stop", "train", "--time", "0"),
        **{f"ds01 {verb}": do.json(*API, "ds01", verb) for verb in ("status", "who", "dashboard", "commands")},
    }
    # Nobody uses a GPU here.
    assert answers.pop("ds01 who")["people"] == []
    found = {cell: {key for row in rows(answer) for key in row} for cell, answer in answers.items()}
    assert found == {cell: documented(cell) for cell in answers}
    for cell in ("container list", "image list"):
        assert 0 <= time.time() - answers[cell][0]["created"] / 1000 < DAY_S


def rows(answer: Any) -> list[dict[str, Any]]:
    return answer if isinstance(answer, list) else [answer]


def test_the_tab_key_offers_containers_images_and_projects(do: Commands):
    do.ok("dir-create", "birds")
    do.ok("image", "create", "vision", "--image", SHELL, *BARE)
    do.deploy("train", "vision")

    def offered(*typed: str) -> list[str]:
        asks = ("env", "_DS01_COMPLETE=bash_complete", f"COMP_WORDS={' '.join(typed)}", f"COMP_CWORD={len(typed) - 1}")
        said = do.ok(*asks, typed[0])
        return [line.removeprefix("plain,") for line in said.split()]

    for command in ("attach", "keep", "remove", "retire", "run", "start", "stats", "stop"):
        assert offered("container", command, "t") == ["train"], command
    assert offered("container-stop", "x") == []
    for command in ("image-delete", "image-install", "image-update", "container-deploy x"):
        assert offered(*command.split(), "v") == ["vision"], command
    for command in ("project-launch", "git-init", "vscode-setup", "user-setup"):
        assert offered(command, "b") == ["birds"], command


def test_nobody_is_asked_about_what_cannot_be(do: Commands):
    do.deploy()
    for command, code, said in (
        ("container-remove nobody", 5, "you have no such container"),
        ("container-remove train", 1, "runs: stop it first"),
        ("image-delete nobody", 5, "you have no such image"),
        ("container-retire nobody", 5, "you have no such container"),
    ):
        done = do(*command.split())
        assert (done.returncode, said in done.stderr, "--yes" in done.stderr) == (code, True, False), done
    do.ok("container", "stop", "train", "--time", "0")
    # What can be is asked about, and it alone; what cannot be is said all the same.
    one = Terminal(do.gateway, "alice", "container-remove", "nobody", "train")
    one.see(r"error: nobody: you have no such container[^\n]*\n")
    one.see(r"Remove train\? What is not in /workspace is lost \[y/N\]: ")
    one.type("y\n")
    one.see("train is removed")
    assert one.close() == 5
    assert do.containers() == []


def test_a_state_that_no_container_has_is_wrong_usage(do: Commands):
    do.deploy()
    do.ok("container", "stop", "train", "--time", "0")
    for command in ("list", "stats"):
        done = do("container", command, "--filter", "status=bad")
        assert (done.returncode, done.stdout) == (2, "")
        assert "Error: --filter: status=bad: " in done.stderr
    # Of what does not run there are no numbers.
    assert do.json("container", "stats", "--filter", "status=exited") == []


def test_data_of_others_is_read_and_ones_own_is_written(do: Commands):
    do.gateway.host.sh("install -d -m 755 /srv/people/sets; echo 1,2 >/srv/people/sets/train.csv")
    do.gateway.host.sh(f"install -d -o {do.uid} {HOME}/nets")
    wish = ("--data", "/srv/people/sets", "--models", f"{HOME}/nets")
    planned = do.ok("container", "create", "train", SHELL, "--cpu-only", *wish, "--dry-run")
    assert re.search(r"/data +/srv/people/sets \(read only\)\n", planned)
    assert re.search(rf"/models +{HOME}/nets\n", planned)
    found = do.deploy("train", SHELL, *wish)
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/data": False, "/models": True, "/workspace": True,
    }  # fmt: skip
    said = do("container", "run", "train", "bash", "-c", "cat /data/train.csv; touch /models/x; touch /data/x")
    assert (said.returncode, said.stdout) == (1, "1,2\n")
    assert "Read-only file system" in said.stderr
    assert do.gateway.host.sh(f"stat -c %U {HOME}/nets/x; ls /srv/people/sets") == "alice\ntrain.csv\n"
    do.gateway.host.sh("rm -r /srv/people/sets")


STOCK = """
tag=ds01-lab/stock:{name}._.{uid}; printf 'FROM {image}\\nENTRYPOINT []\\n' | docker build -q -t $tag - >/dev/null
docker create -it -v {home}/workspace:/workspace -w /workspace --name {name}._.{uid} --label=aime.mlc=alice \
  --label=aime.mlc.NAME={name} --label=aime.mlc.USER=alice --label=aime.mlc.MLC_VERSION=4 \
  --label=aime.mlc.WORK_MOUNT={home}/workspace --label=aime.mlc.DATA_MOUNT=- --label=aime.mlc.MODELS_MOUNT=- \
  --label=aime.mlc.FRAMEWORK=Pytorch-2.8.0 --label=aime.mlc.GPUS=all --user {uid}:{uid} --tty --privileged \
  --interactive --network host --ipc host $tag bash -c bash
"""
"""What AIME's `mlc-create` asks of the engine for a container, without devices and limits that this host has not."""


@pytest.mark.parametrize("way", ["before the gateway", "through the gateway"])
def test_our_commands_work_on_stock_containers(do: Commands, way: str):
    stock = STOCK.format(name="theirs", uid=do.uid, image=SHELL, home=HOME)
    do.gateway.host.sh(f"install -d -o {do.uid} {HOME}/workspace")
    if way == "before the gateway":
        # What is there when it starts, it looks through; a bind from then is not started anew, but runs on. This host
        # itself may not what is privileged.
        stock = stock.replace("--privileged", "")
        do.gateway.host.sh(f"{stock}docker start theirs._.{do.uid}; systemctl restart gw.service")
    else:
        do.ok("bash", "-c", stock)
        do.ok("container", "start", "theirs")
    [row] = do.json("container", "list", "--all")
    assert (row["name"], row["state"]) == ("theirs", "running")
    assert do.ok("container", "run", "theirs", "bash", "-c", "id -u; touch x; pwd") == f"{do.uid}\n/workspace\n"
    assert do.gateway.host.sh(f"stat -c %u {HOME}/workspace/x") == f"{do.uid}\n"
    one = Terminal(do.gateway, "alice", "container-attach", "theirs")
    one.see(r"\$ ")
    one.type("exit 3\n")
    assert one.close() == 3
    assert [used["name"] for used in do.json("container", "stats")] == ["theirs"]
    do.ok("container", "pause", "theirs")
    do.ok("container", "unpause", "theirs")
    do.ok("container", "stop", "theirs", "--time", "0")
    do.ok("container", "retire", "theirs", "--yes")
    assert do.containers() == []
    # The name of its image goes with it, as with AIME's `mlc-remove`.
    assert do.gateway.host.sh(f"docker image ls -q '*/*:theirs._.{do.uid}'; docker image ls -q '*/*/*/stock'") == ""
