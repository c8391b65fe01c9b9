"""Containers and images by people's commands, typed at a real terminal, behind the gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest

from lab.process import ROOT
from tests.integration.gateway.commands_host import AD, HOME, SHELL, Commands, Terminal
from tests.integration.gateway.gateway_host import CODE, SOCKET

BARE = ["--no-jupyter", "--no-data-science"]


def test_a_first_day_typed_at_a_terminal(do: Commands):
    one = Terminal(do.gateway, "alice", "bash", "--norc")
    one.see(r"\$ ")
    one.type("image-create\n")
    one.see("Name of the image: ")
    one.type("vision\n")
    one.see(r"1/4 Framework \(pytorch.*\[pytorch\]: ")
    one.interrupt()
    assert do.gateway.host.sh(f"ls {HOME}") == ""
    one.type(f"image create vision --image {SHELL}\n")
    one.see(r"2/4 JupyterLab\? \[Y/n\]: ")
    one.type("n\n")
    one.see(r"3/4 Data science \(numpy")
    one.type("n\n")
    one.see(r"4/4 Use case .*\[custom\]: ")
    one.type("\n")
    one.see(r"\[1/\d\] FROM " + SHELL)
    one.see(r"the image vision is built \(\d+ s\): `container deploy NAME vision`")
    one.type("container deploy train vision --cpu-only --open\n")
    one.see("train runs")
    one.see(r"\[train\] alice@train:/workspace\$ ")
    one.type("id -un; echo $HOME\n")
    one.see(r"\r\nalice\r\n/home/alice\r\n")
    one.type("echo kept >/workspace/result\n")
    one.type("exit\n")
    one.see(r"bash-[0-9.]+\$ ")
    one.type("container list\n")
    one.see(r"NAME +STATE +IMAGE +GPU +SINCE\r\ntrain +running +vision +- +Up (Less|About|[0-9])")
    one.type("container retire train\n")
    one.see(r"Retire train\? What is not in /workspace is lost \[y/N\]: ")
    one.interrupt()
    assert do.containers() == [f"train._.{do.uid}"]
    one.type("container-retire train\n")
    one.see(r"\[y/N\]: ")
    one.type("y\n")
    one.see("train is retired")
    one.type("exit\n")
    assert one.close() == 0
    assert do.gateway.host.sh(f"stat -c %U {HOME}/workspace; cat {HOME}/workspace/result") == "alice\nkept\n"
    assert do.tags() == [f"ds01-{do.uid}/vision:latest"]


def test_somebody_from_a_directory_service_is_themselves_in_a_container(do: Commands):
    do.ok("container", "deploy", "train", SHELL, "--cpu-only", user=AD)
    said = do.ok("container", "run", "train", "bash", "-c", "id -un; id -u; echo $HOME; touch /workspace/x", user=AD)
    uid = do.gateway.host.sh(f"id -u {AD}").strip()
    assert said.split() == [AD, uid, f"/home/{AD}"]
    assert do.gateway.host.sh(f"stat -c %u /srv/people/{AD}/workspace/x").strip() == uid
    labels = do.gateway.inspect(f"train._.{uid}")["Config"]["Labels"]
    assert labels["aime.mlc"] == labels["aime.mlc.USER"] == AD
    assert (labels["ds01.type"], labels["ds01.interface"]) == ("managed", "orchestration")
    assert do("container", "stop", "train").returncode == 5


def test_a_build_without_numbers_of_ones_own_names_the_way_to_them(do: Commands):
    """People from a directory service are in no /etc/subuid; what the documentation says then works."""
    host = do.gateway.host
    host.sh(f"install -d -m 700 -o {AD} -g $(id -g {AD}) /home/{AD}")
    script = f"""
    export PYTHONPATH={CODE} DS01_SOCKET={SOCKET}; cd $(mktemp -d)
    printf 'FROM {SHELL}\\nENTRYPOINT []\\nRUN --mount=type=cache,target=/c id >/who\\n' >Dockerfile
    ds01 image build -t deep:1 . && docker run --rm deep:1 cat /who
    """
    refused = do("sh", "-c", script, user=AD)
    assert refused.returncode == 1
    assert "you have no numbers in /etc/subuid" in refused.stderr
    assert "STEP" not in refused.stdout + refused.stderr
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    title = "Give somebody numbers for builds"
    assert title in refused.stderr
    commands = page.partition(f"### {title}")[2].partition("```sh\n")[2].partition("```")[0]
    assert AD in commands
    host.sh(f"cp /etc/subuid /etc/subgid /root; {commands.replace('sudo ', '')}")
    try:
        lines = [line.split(":") for line in host.sh("cat /etc/subuid").splitlines()]
        starts = sorted(int(start) for _, start, _ in lines)
        assert all(later - earlier >= 65536 for earlier, later in pairwise(starts))
        assert "uid=0(root)" in do.ok("sh", "-c", script, user=AD)
        # What programs read is all that there is on standard output, also where a step fails.
        for step, code in (("RUN true", 0), ("RUN false", 1)):
            build = (
                f"cd $(mktemp -d); printf 'FROM {SHELL}\\nENTRYPOINT []\\n{step}' >Dockerfile; ds01 image build --json"
            )
            done = do("sh", "-c", f"export PYTHONPATH={CODE} DS01_SOCKET={SOCKET}; {build} -t deep:2 .", user=AD)
            answer = json.loads(done.stdout)
            assert (done.returncode, answer["names"], answer["built"]) == (code, ["deep:2"], code == 0), done
            assert (answer["error"] is None, answer["dockerfile"].endswith("/Dockerfile")) == (code == 0, True)
    finally:
        host.sh("mv /root/subuid /root/subgid /etc")


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o444, 0o2664])
def test_a_start_file_of_another_group_gets_our_lines_and_nobody_more_rights(do: Commands, mode: int):
    file = f"{HOME}/.bashrc"
    do.gateway.host.sh(f"echo 'WHOSE=mine' >{file}; chown alice:bob {file}; chmod {mode:o} {file}")
    do.ok("shell-setup")
    owner, group, after = do.gateway.host.sh(f"stat -c '%U %G %a' {file}").split()
    assert (owner, group) == ("alice", "alice")
    # The owner and others as before, and the new group what others have.
    assert int(after, 8) & 0o707 == mode & 0o707
    assert int(after, 8) >> 3 & 0o7 == mode & 0o7
    assert "mine" in do.ok("bash", "-c", ". ~/.bashrc; echo $WHOSE")
    do.ok("shell-setup", "--remove")
    assert do.gateway.host.sh(f"cat {file}") == "WHOSE=mine\n"


def test_a_start_file_of_somebody_else_stays_and_the_way_out_is_named(do: Commands):
    file = f"{HOME}/.bashrc"
    do.gateway.host.sh(f"echo 'WHOSE=root' >{file}; chmod 644 {file}")
    done = do("shell-setup")
    assert (done.returncode, f"`chown {do.uid} {file}`" in done.stderr) == (1, True), done
    assert do.gateway.host.sh(f"cat {file}") == "WHOSE=root\n"


def test_without_a_network_the_first_day_says_so_and_goes_on_later(do: Commands):
    do.gateway.host.sh("cp /etc/resolv.conf /root; echo nameserver 127.0.0.1 >/etc/resolv.conf")
    try:
        for command in (
            "user-setup birds --yes --cpu-only --skip ssh",
            "container-deploy train nosuch/image --cpu-only",
        ):
            done = do(*command.split())
            assert done.returncode in {1, 5}, done
            assert "registry-1.docker.io: this server does not reach it (" in done.stderr
            assert "dial tcp" not in done.stdout + done.stderr
        assert (do.containers(), do.tags()) == ([], [])
    finally:
        do.gateway.host.sh("cat /root/resolv.conf >/etc/resolv.conf")


def test_somebody_is_at_home_in_their_container(do: Commands):
    do.deploy()
    entry = f"alice:x:{do.uid}:{do.gateway.host.sh('id -g alice').strip()}:"
    said = do.ok(
        "container", "run", "train", "bash", "-c", "while read -r l; do echo $l; done </etc/passwd; echo $HOME $SHELL"
    )
    *_, line, home = said.splitlines()
    assert (line.startswith(entry), line.endswith(":/home/alice:/bin/bash")) == (True, True), said
    assert home == "/home/alice /bin/bash"
    one = Terminal(do.gateway, "alice", "container", "attach", "train")
    prompt = r"\[train\] alice@train:/workspace\$ "
    one.see(prompt)
    one.type("touch ~/mine; cd; ll; alias gpu\n")
    one.see(r"-rw.* alice +alice .* mine\r\n(.*\r\n)*alias gpu='nvidia-smi'")
    one.see(r"\[train\] alice@train:~\$ ")
    one.type("exit\n")
    assert one.close() == 0


def test_others_in_the_image_with_the_same_number_make_place(do: Commands):
    do.deploy()
    said = do.ok("container", "run", "train", "bash", "-c", "id -un; id -gn")
    assert said.split() == ["alice", "alice"]
    names = do.gateway.host.sh(f"docker exec train._.{do.uid} cat /etc/passwd")
    assert [line.split(":")[0] for line in names.splitlines()] == ["root", "alice"]


def test_programs_have_time_to_end_whoever_stops_them(do: Commands):
    # Longer than the engine's own patience.
    script = 'trap "sleep 11; echo saved >>saved; exit" TERM; touch ready; sleep 300 & wait'
    ways = {"ours": "container", "dockers": "docker"}
    for name in ways:
        do.deploy(name)
        do.ok("docker", "exec", "-d", name, "bash", "-c", script)
        # A shell that somebody left open does not hold it up.
        do.ok("docker", "exec", "-dt", name, "bash")
        do.ready()
    do.ok("bash", "-c", " & ".join(f"timeout 55 {way} stop {name}" for name, way in ways.items()) + " & wait")
    assert do.gateway.host.sh(f"cat {HOME}/workspace/saved") == "saved\nsaved\n"
    for name in ways:
        state = do.gateway.inspect(f"{name}._.{do.uid}")["State"]
        assert (state["Running"], state["ExitCode"]) == (False, 0)


def test_what_does_not_end_is_killed_and_that_is_said(do: Commands):
    do.deploy()
    do.ok("docker", "exec", "-d", "train", "bash", "-c", "trap : TERM; touch ready; while :; do sleep 1; done")
    do.ready()
    assert "did not end within 1 s and was killed" in do.ok("container", "stop", "train", "--time", "1")


def test_a_container_is_paused_goes_on_and_is_removed_when_it_is_stopped(do: Commands):
    do.deploy()
    assert do.ok("container", "pause", "train") == "train is paused\n"
    assert "is paused" in do("container", "attach", "train").stderr
    do.ok("container", "unpause", "train")
    refused = do("container", "remove", "train", "--yes")
    assert (refused.returncode, "runs: stop it first" in refused.stderr) == (1, True)
    do.ok("container", "create", "other", SHELL, "--cpu-only")
    assert do("container", "remove", "other").returncode == 2
    do.ok("container", "remove", "other", "--yes")
    done = do("container", "remove", "train", "gone", "--force", "--json")
    assert done.returncode == 5
    assert [(row["name"], row["done"]) for row in json.loads(done.stdout)] == [("train", True), ("gone", False)]
    assert (do.containers(), do.tags()) == ([], [])


def test_a_removal_that_fails_is_said(do: Commands):
    layer = do.deploy()["GraphDriver"]["Data"]["UpperDir"]
    do.gateway.host.sh(f"touch {layer}/stays; chattr +i {layer}/stays")
    try:
        done = do("container", "retire", "train", "--yes")
    finally:
        do.gateway.host.sh(f"chattr -i {layer}/stays")
    assert done.returncode == 1
    assert "is retired" not in done.stdout
    assert "operation not permitted" in done.stderr


def test_lists_and_numbers_by_filter(do: Commands):
    do.deploy("train")
    do.deploy("test")
    do.ok("container", "stop", "test")
    assert [row["name"] for row in do.json("container", "list")] == ["train"]
    assert [row["name"] for row in do.json("container", "list", "--filter", "status=exited")] == ["test"]
    of_image = do.json("container", "list", "--all", "--filter", f"image={SHELL}")
    assert {row["name"] for row in of_image} == {"train", "test"}
    [used] = do.json("container", "stats", "--filter", "name=tr")
    assert used["name"] == "train"
    assert used["processes"] == 1
    assert 0 < used["memory_bytes"] < used["memory_limit_bytes"] == 128 << 20
    assert do.json("container", "stats", "--filter", "name=test") == []
    assert do("container", "stats", "nobody").returncode == 5


def test_reasons_become_exit_codes(do: Commands):
    for code, command in (
        (5, ["container", "start", "nobody"]),
        (5, ["container", "create", "a", "nosuch/image", "--cpu-only"]),
        (3, ["container", "create", "a", SHELL, "--cpu-only", "--workspace", "/etc"]),
        (1, ["container", "create", "a", "ds01-lab/base", "--cpu-only"]),
        (1, ["container", "deploy", "a", "ds01-lab/base", "--cpu-only"]),
        (2, ["container", "create"]),
        (5, ["image", "delete", "nosuch", "--yes"]),
        (5, ["image", "update", "nosuch"]),
    ):
        done = do(*command)
        assert done.returncode == code, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert ("an image without bash: add it" in done.stderr) == ("ds01-lab/base" in command), done
        assert done.stdout == ""
    assert (do.containers(), do.tags()) == ([], [])
    do.deploy("a")
    again = do("container", "deploy", "a", SHELL, "--cpu-only")
    assert (again.returncode, "you have a container of that name" in again.stderr) == (1, True)
    assert do.containers() == [f"a._.{do.uid}"]


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
def test_an_interruption_leaves_a_whole_container_or_none(do: Commands, number: str):
    command = ["container", "deploy", "train", SHELL, "--cpu-only"]
    ended = set()
    for tenths in (2, 4, 6, 9, 14):
        done = do("timeout", "--preserve-status", "-s", number, str(tenths / 10), *command)
        ended.add(done.returncode)
        # What is stopped while it says that all is done has done all.
        if do.containers():
            assert [row["name"] for row in do.json("container", "list")] == ["train"], "made, and not started"
            assert do.ok("container", "run", "train", "id", "-un") == "alice\n"
            do.ok("container", "remove", "train", "--force")
        assert (do.containers(), do.tags()) == ([], []), (tenths, done.stderr)
    assert ended & {130, 143, 129}


def test_of_two_who_make_the_same_container_one_has_it_whole(do: Commands):
    one = f"container-create train {SHELL} --cpu-only >/dev/null && echo made"
    assert do.ok("bash", "-c", f"for _ in 1 2 3 4 5 6; do {{ {one}; }} & done; wait") == "made\n"
    assert (do.containers(), do.tags()) == ([f"train._.{do.uid}"], [f"ds01-{do.uid}/ds01-lab/shell:train._.{do.uid}"])
    do.ok("container", "start", "train")
    assert do.ok("container", "run", "train", "id", "-un") == "alice\n"


def test_images_are_built_again_when_they_are_updated(do: Commands):
    do.ok("image", "create", "vision", "--image", SHELL, *BARE)
    name = f"ds01-{do.uid}/vision"
    first = do.gateway.inspect(name)["Id"]
    do.ok("image", "update", "vision", "--cached")
    assert do.gateway.inspect(name)["Id"] == first
    do.ok("image", "update", "vision")
    assert do.gateway.inspect(name)["Id"] != first
    do.deploy("train", "vision")
    [row] = do.json("image", "list")
    assert (row["name"], row["containers"]) == ("vision", ["train"])
    assert f"{HOME}/dockerfiles/vision/Dockerfile stays" in do.ok("image", "delete", "vision", "--yes")
    assert do.json("image", "list") == []
    # What was made from it goes on.
    do.ok("container", "stop", "train")
    do.ok("container", "start", "train")


def test_a_failed_build_shows_the_step_its_output_and_a_hint(do: Commands):
    done = do("image", "create", "vision", "--image", SHELL, *BARE, "-p", "torch")
    assert done.returncode == 1
    assert "the step `RUN python3 -m pip install torch` failed" in done.stderr
    assert re.search("python3: (command )?not found", done.stderr)
    assert "hint: the step runs a program that the image does not have" in done.stderr
    assert "\x1b" not in done.stderr
    assert do.json("image", "list") == []
    # Mended, it is built from where it is.
    do.gateway.host.sh(f"sed -i '/^# Your packages/,$d' {HOME}/dockerfiles/vision/Dockerfile")
    do.ok("image", "update", "vision", "--cached")


def test_packages_go_into_the_image_for_good(do: Commands):
    # A stand-in for pip, which the small image has not.
    do.gateway.host.sh(
        f"mkdir -p {HOME}/dockerfiles/base; "
        f'printf \'#!/bin/bash\\necho "$@" >>/installed; [ "$3" = list ] && echo rich==1.0 || :\\n\' '
        f">{HOME}/dockerfiles/base/python3; chmod 755 {HOME}/dockerfiles/base/python3; "
        f"printf 'FROM {SHELL}\\nRUN touch /installed && chmod 666 /installed\\nCOPY python3 /usr/bin/python3\\n' "
        f">{HOME}/dockerfiles/base/Dockerfile; chown -R alice: {HOME}"
    )
    do.ok("image", "update", "base")
    do.ok("image", "install", "base", "torch<3", "numpy")
    do.deploy("train", "base")
    assert do.ok("container", "run", "train", "cat", "/installed").splitlines() == ["-m pip install torch<3 numpy"]
    one = Terminal(do.gateway, "alice", "container-retire", "train")
    one.see(r"Retire train\? .* \[y/N\]: ")
    one.type("y\n")
    one.see(r"Add 1 package of pip to the image base first\? \[y/N\]: ")
    one.type("y\n")
    one.see("train is retired")
    assert one.close() == 0
    written = do.gateway.host.sh(f"cat {HOME}/dockerfiles/base/Dockerfile")
    assert "    'torch<3' \\\n    numpy \\\n    rich==1.0\n" in written
    do.deploy("train", "base")
    assert "rich==1.0" in do.ok("container", "run", "train", "cat", "/installed").splitlines()[-1]


def test_the_stock_tools_work_on_our_containers(do: Commands):
    """What AIME MLC's list, open, start, stop and remove ask of the engine."""
    found = do.deploy("train", SHELL)
    labels = found["Config"]["Labels"]
    assert not [value for value in labels.values() if "," in value]
    listed = do.ok("docker", "container", "ls", "-a", "--filter=label=aime.mlc=alice", "--format", "{{json .}}")
    row = json.loads(listed)
    pairs = dict(pair.split("=") for pair in row["Labels"].split(","))
    assert (row["Names"].removesuffix(f"._.{do.uid}"), pairs["aime.mlc.NAME"]) == ("train", "train")
    assert pairs["aime.mlc.USER"] == "alice"
    tag = f"train._.{do.uid}"
    said = do.ok("docker", "exec", "--user", f"{do.uid}:{do.uid}", tag, "bash", "-c", "id -un")
    assert said == "alice\n"
    # One process is left, so `open` stops it after the last shell.
    assert [used["processes"] for used in do.json("container", "stats")] == [1]
    do.ok("docker", "container", "stop", tag)
    do.ok("docker", "container", "start", tag)
    do.ok("docker", "container", "stop", tag)
    image = do.ok("docker", "container", "inspect", "--format", "{{.Config.Image}}", tag).strip()
    do.ok("docker", "container", "rm", tag)
    do.ok("docker", "image", "rm", image)
    assert do.tags() == []
    do.gateway.inspect(SHELL)


@pytest.fixture
def stock_list(do: Commands) -> Iterator[None]:
    """AIME MLC's list of images, with one that is here."""
    rows = f"Pytorch, 2.8.0, [CUDA_ADA], hub/newer\nPytorch, 2.7.1, [CUDA_AMPERE;CUDA], {SHELL}\n"
    do.gateway.host.sh("mkdir /opt/aime-ml-containers")
    do.gateway.host.write("/opt/aime-ml-containers/ml_images.repo", rows)
    yield
    do.gateway.host.sh("rm -r /opt/aime-ml-containers")


@pytest.mark.usefixtures("stock_list")
def test_mlc_create_takes_the_stock_arguments_and_makes_one_of_ours(do: Commands):
    do.gateway.host.sh(f"install -d -o {do.uid} {HOME}/lectures {HOME}/sets {HOME}/nets; touch {HOME}/sets/train.csv")
    mounts = ("-w", f"{HOME}/lectures", "-d", f"{HOME}/sets", "-m", f"{HOME}/nets")
    do.ok("mlc-create", "net", "Pytorch", "2.7.1", *mounts, "-g", "0", "-s")
    found = do.gateway.inspect(f"net._.{do.uid}")
    assert (found["State"]["Status"], found["HostConfig"]["Privileged"]) == ("created", False)
    labels = found["Config"]["Labels"]
    assert (labels["ds01.type"], labels["ds01.interface"]) == ("managed", "mlc")
    assert do.ok("container", "start", "net")
    said = do.ok("container", "run", "net", "bash", "-c", "id -un; ls /data; touch /workspace/mine; ls -d /models")
    assert said == "alice\ntrain.csv\n/models\n"
    assert do.gateway.host.sh(f"ls {HOME}/lectures") == "mine\n"
    assert SHELL in do.ok("mlc-create", "other", "-arch", "CUDA", "pytorch", "2.7.1", "--dry-run")
    assert "hub/newer" in do.ok("mlc-create", "other", "Pytorch", "2.8.0", "--dry-run")
    assert "hub/anything:1" in do.ok("mlc-create", "other", "--image", "hub/anything:1", "--dry-run")
    listed = do.ok("mlc-create", "--info", "--architecture=CUDA_ADA")
    assert ("hub/newer" in listed, SHELL in listed) == (True, False)
    for wrong, said in (
        (("other", "Pytorch", "9"), "pytorch in 2.8.0, 2.7.1"),
        (("other", "Pytorch", "2.8.0", "-arch", "ROCM"), "here are CUDA, CUDA_ADA, CUDA_AMPERE"),
        (("other", "Pytorch", "-s"), "VERSION is missing"),
        (("other", "Pytorch", "--image", SHELL), "--image: give this, or FRAMEWORK and VERSION"),
        (("other", "jax", "latest"), "image create NAME --framework jax"),
    ):
        refused = do("mlc-create", *wrong)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused
    one = Terminal(do.gateway, "alice", "mlc-create", "-g", "0")
    for asked, answer in (
        ("Name of the container: ", "typed"),
        ("Framework .*: ", "pytorch"),
        ("Version .*: ", "2.7.1"),
    ):
        one.see(asked)
        one.type(f"{answer}\n")
    one.see("typed is made")
    assert one.close() == 0


def test_a_full_home_is_said_and_leaves_nothing_half_written(do: Commands):
    full = f"{HOME}/full"
    do.gateway.host.sh(f"mkdir {full}; mount -t tmpfs -o nosuid,nodev,size=64k,uid={do.uid} none {full}")
    try:
        do.gateway.host.sh(f"dd if=/dev/zero of={full}/all bs=4k || :")
        done = do("env", f"HOME={full}", "image", "create", "vision", "--image", SHELL, *BARE)
        left = do.gateway.host.sh(f"find {full} -type f")
    finally:
        do.gateway.host.sh(f"umount {full}")
    assert done.returncode == 1
    assert "No space left on device: make room" in done.stderr
    assert left == f"{full}/all\n"


def test_a_port_is_reached_on_this_server_only(do: Commands):
    found = do.deploy("train", SHELL, "--publish", "18888:8888")
    assert found["HostConfig"]["PortBindings"] == {"8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18888"}]}


def test_owners_keep_and_extend_what_is_theirs_within_its_budget(do: Commands):
    do.deploy()
    asked = ("env", f"DS01_SOCKET={SOCKET}", "ds01", "container")
    assert "4 h of its budget is left" in do.ok(*asked, "keep", "train", "20h")
    # Within what is kept already it costs nothing; what is more than the budget is refused, with what there is.
    assert "4 h of its budget is left" in do.ok(*asked, "keep", "train", "2h")
    assert "nothing of its budget is left" in do.ok(*asked, "extend", "train", "24h")
    for verb, time, left in (("keep", "30h", "4 h"), ("extend", "1h", "nothing")):
        done = do(*asked, verb, "train", time)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"policies.{'keepalive' if verb == 'keep' else 'extend'}_max_duration), {left} is left" in done.stderr
        assert "ask an administrator" in done.stderr
        assert "error: container train: " in done.stderr
        # Another one's is not there, by whatever name, and costs its owner nothing.
        for name in ("train", f"train._.{do.uid}", do.gateway.inspect(f"train._.{do.uid}")["Id"]):
            done = do(*asked, verb, name, "1m", user=AD)
            assert (done.returncode, done.stdout) == (5, ""), done.stderr
        assert do(*asked, verb, "train", "soon").returncode == 2
    why = json.loads(do.ok("env", f"DS01_SOCKET={SOCKET}", "ds01", "why", "train", "--json"))["lifecycle"]
    assert why["kept_until"] is not None
    assert (why["type"], why["limits_from"]["idle_timeout"]) == ("managed", "built-in.idle_timeout")
    assert why["name"] == "train"
    kept = [event for event in do.gateway.events("lifecycle.keep") if event["subject"]["name"] == f"train._.{do.uid}"]
    assert [(event["decision"], event["actor"]["user"]) for event in kept] == [("allowed", "alice")] * 3
    assert all(event["reason"].startswith("train ") for event in kept)


def test_administrators_grant_bare_metal_without_being_root_and_nobody_else_does(do: Commands):
    asked = ("env", f"DS01_SOCKET={SOCKET}", "ds01", "grant")
    wish = ("bare-metal", "bob", "1h", "--reason", "profiling")
    refused = do(*asked, *wish)
    assert refused.returncode == 3
    assert "administrators" in refused.stderr
    assert "bob may use the GPUs of the host until" in do.ok(*asked, *wish, user="carol")
    assert do.ok(*asked, "list") == "nobody has a grant\n"
    [found] = json.loads(do.ok(*asked, "list", "--json", user="carol"))
    assert (found["user"], found["approved_by"], found["reason"]) == ("bob", "carol", "profiling")
    assert json.loads(do.ok(*asked, "list", "--json", user="bob")) == [found]
    assert do(*asked, "revoke", "bob").returncode == 5
    assert do(*asked, "revoke", "bob", user="bob").returncode == 3
    do.ok(*asked, "revoke", "bob", user="carol")
    assert json.loads(do.ok(*asked, "list", "--json", user="bob")) == []
    events = [*do.gateway.events("grant.add"), *do.gateway.events("grant.expire")]
    assert [(event["actor"]["user"], event["subject"]["name"]) for event in events] == [("carol", "bob")] * 2
