"""People's container commands on a host with GPUs: what they give, hold, free and refuse, by ledger and container."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.integration.gateway.commands_host import AD, HOME, SHELL, Commands, Done, Terminal, as_person
from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.gpu_host import POLICY, GpuHost, until, with_gpus

# Beside the students, who may use no whole GPU, somebody of a directory service who may.
RESEARCHER = f"researcher: {{members: ['{AD}'], allow_full_gpu: true}}, "
GIVEN = "while read -rd '' l; do [[ $l = DS01_GPUS=* ]] && echo ${l#*=}; done </proc/1/environ; :"
NODES = "cd /dev; ls -d nvidia[0-9]* 2>&-; :"


pytestmark = pytest.mark.usefixtures("all_free")


@pytest.fixture(scope="module")
def lab(equipped: GatewayHost) -> GpuHost:
    host = with_gpus(equipped)
    host.tables(POLICY.replace("groups: {", f"groups: {{{RESEARCHER}"))
    host.look()
    return host


def held(lab: GpuHost, user: str = "alice") -> list[tuple[str, str]]:
    """The devices that somebody's containers have, as people write them, and the state of each."""
    return [
        (str(row["gpu_index"]) + ("" if row["mig_index"] is None else f":{row['mig_index']}"), row["state"])
        for row in lab.leases()
        if row["user"] == user
    ]


def uuids(lab: GpuHost, user: str = "alice") -> set[str]:
    return {row["device"] for row in lab.leases() if row["user"] == user}


def inside(do: Commands, name: str = "train", user: str = "alice") -> set[str]:
    """The devices that a container's first process was given."""
    return set(do.ok("container", "run", name, "bash", "-c", GIVEN, user=user).strip().split(","))


def taken(lab: GpuHost, user: str, *devices: str) -> None:
    """Let somebody else have these devices."""
    for device in devices:
        name = device.replace(":", "-")
        lab.run(user, "docker", "run", "-d", "--stop-signal", "KILL", "--name", name, "--gpus", f"device={device}",
                "ds01-lab/base", "sleep", "600")  # fmt: skip


def refused(done: Done, code: int, *texts: str) -> None:
    assert done.returncode == code, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    # What the engine calls a container is nothing that its owner typed.
    assert "._." not in done.stderr
    for text in texts:
        assert text in done.stderr


def test_one_gpu_from_the_first_start_to_the_end(lab: GpuHost, do: Commands):
    said = do.json("container", "deploy", "train", SHELL, "--gpu", "1")
    assert (said["state"], said["warnings"]) == ("running", [])
    [(device, state)] = held(lab)
    assert state == "running"
    assert inside(do) == uuids(lab)
    assert do.ok("container", "run", "train", "bash", "-c", NODES) == f"nvidia{device[0]}\n"
    [row] = do.json("container", "list")
    assert (row["name"], row["state"], row["gpu"]) == ("train", "running", "1 GPU")
    [used] = do.json("container", "stats")
    assert used["name"] == "train"
    # A stop holds it: somebody who may have two of four gets none of it.
    do.ok("container", "stop", "train")
    assert until(lambda: held(lab) == [(device, "held")])
    taken(lab, "bob", *sorted({"0:0", "0:1", "1:0", "1:1"} - {device})[:2])
    lab.run("carol", "docker", "create", "--name", "all", "--gpus", "all", "ds01-lab/base")
    assert held(lab) == [(device, "held")]
    # It starts again on the same one, by either command.
    do.ok("container", "start", "train")
    assert held(lab) == [(device, "running")]
    do.ok("container", "stop", "train")
    assert until(lambda: held(lab) == [(device, "held")])
    assert inside(do) == uuids(lab)
    assert held(lab) == [(device, "running")]
    # Its end frees it at once: the next command has it.
    again = ("container-retire train --yes", f"container-deploy next {SHELL} --gpu 1 --json")
    answer = do.ok("bash", "-c", " && ".join(again))
    assert "train is retired; its GPU is free" in answer
    assert inside(do, "next") == uuids(lab)
    assert until(lambda: held(lab) == [(device, "running")])


def test_a_created_container_has_its_gpu_before_it_starts(lab: GpuHost, do: Commands):
    do.ok("container", "create", "train", SHELL, "--gpu", "2")
    before = held(lab)
    assert [state for _, state in before] == ["bound", "bound"]
    [row] = do.json("container", "list", "--all")
    assert (row["state"], row["gpu"]) == ("created", "2 GPU")
    # By `container run`, which starts it.
    assert inside(do) == uuids(lab)
    assert held(lab) == [(device, "running") for device, _ in before]
    do.ok("container", "remove", "train", "--force")
    assert until(lambda: held(lab) == [])


def test_a_least_memory_is_met_or_nothing_is_given(lab: GpuHost, do: Commands):
    # The smallest that is enough; 1g.10gb is not.
    do.ok("container", "deploy", "train", SHELL, "--gpu", "1", "--min-memory", "20g")
    [(device, _)] = held(lab)
    assert device in {"1:0", "1:1"}
    [row] = do.json("container", "list")
    assert row["gpu"] == "1 GPU"
    do.ok("container", "retire", "train", "--yes")
    taken(lab, "bob", "0:0")
    taken(lab, "carol", "1:0", "1:1")
    before = do.containers()
    refused(do("container", "deploy", "train", SHELL, "--min-memory", "20g"), 4, "free")
    refused(
        do("container", "deploy", "train", SHELL, "--min-memory", "200g"), 3, "200", "ask for one of these: 1g.10gb"
    )
    assert (held(lab), do.containers(), do.tags()) == ([], before, [])
    do.ok("container", "deploy", "train", SHELL, "--min-memory", "10g")
    assert held(lab) == [("0:1", "running")]


def test_a_full_gpu_if_one_may_be_had_else_a_part(lab: GpuHost, do: Commands):
    done = do("container", "deploy", "train", SHELL, "--prefer-full")
    assert done.returncode == 0, done
    assert "no full GPU now, so any will do" in done.stderr
    [(device, state)] = held(lab)
    assert (":" in device, state) == (True, "running")
    done = do("container", "deploy", "train", SHELL, "--prefer-full", user=AD)
    assert done.returncode == 0, done
    assert "any will do" not in done.stderr
    [(device, state)] = held(lab, AD)
    assert (device in {"2", "3"}, state) == (True, "running")
    assert inside(do, user=AD) == uuids(lab, AD)


def test_without_a_gpu_there_is_none(lab: GpuHost, do: Commands):
    do.ok("container", "deploy", "train", SHELL, "--cpu-only")
    assert (lab.leases(), inside(do)) == ([], {""})
    assert do.ok("container", "run", "train", "bash", "-c", NODES) == ""
    assert do.json("container", "list")[0]["gpu"] == ""
    assert do.ok("container", "retire", "train", "--yes") == "train is retired\n"


def test_a_dry_run_takes_nothing_and_its_docker_run_gives_the_same(lab: GpuHost, do: Commands):
    wish = ("train", SHELL, "--gpu", "1", "--min-memory", "20g", "--wait", "2h")
    assert "at least 20g each" in do.ok("container", "deploy", *wish, "--dry-run")
    command = do.json("container", "deploy", *wish, "--dry-run")["docker_run"]
    assert (lab.leases(), do.containers(), do.tags()) == ([], [], [])
    asked = []
    for make in (command, ["container-deploy", *wish]):
        do.ok(*make)
        found = lab.inspect(f"train._.{do.uid}")
        labels = found["Config"]["Labels"]
        asked.append((labels["ds01.gpu.request"], labels["ds01.wait"], found["Config"]["User"], len(uuids(lab))))
        do.ok("docker", "rm", "-f", "train")
        assert until(lambda: held(lab) == [])
    assert asked[0] == asked[1]


def test_refusals_say_why_and_leave_nothing(lab: GpuHost, do: Commands):
    taken(lab, "bob", "0:0")
    for code, wish, text in (
        (3, ["--gpu", "3"], "one container may have 2 GPU devices, 3 asked for: ask for at most 2"),
        (3, ["--gpu", "7g.80gb"], "this server has no 7g.80gb: ask for one of these: 1g.10gb, 2g.20gb, 3g.40gb"),
        (4, ["--profile", "3g.40gb"], "free"),
        (2, ["--gpu", "some"], "--gpu: some"),
        (2, ["--wait", "soon"], "--wait"),
    ):
        refused(do("container", "deploy", "train", SHELL, *wish), code, text)
        refused(do("ds01-run", *wish, SHELL, "true"), code, text)
        assert (held(lab), do.containers(), do.tags()) == ([], [f"0-0._.{lab.uid['bob']}"], [])
    do.ok("container", "create", "first", SHELL, "--gpu", "2")
    refused(
        do("container", "create", "second", SHELL, "--gpu", "1"),
        3,
        "holds 2 of 2 GPU devices",
        "give one back first: you hold ",
        "(first), ",
    )


def test_a_start_that_finds_nothing_free_says_so_and_works_later(lab: GpuHost, do: Commands):
    do.ok("container", "deploy", "train", SHELL, "--profile", "3g.40gb")
    do.ok("container", "stop", "train")
    assert until(lambda: held(lab) == [("0:0", "held")])
    lab.give_away("alice")
    taken(lab, "bob", "0:0")
    for command in (("container", "start", "train"), ("container", "run", "train", "true")):
        refused(do(*command), 4, "free")
    [row] = do.json("container", "list", "--all")
    assert row["state"] == "exited"
    lab.sh("bob", "docker rm -f 0-0")
    do.ok("container", "start", "train")
    assert held(lab) == [("0:0", "running")]


def test_somebody_waits_for_a_gpu_and_gets_it(lab: GpuHost, do: Commands):
    taken(lab, "bob", "0:0")
    wish = ("container", "deploy", "train", SHELL, "--profile", "3g.40gb", "--wait")
    refused(do(*wish, "1s"), 4, "waiting up to 1s", "nothing was free within 1 s")
    assert (do.containers(), do.tags()) == ([f"0-0._.{lab.uid['bob']}"], [])
    argv = ["docker", "exec", "-i", lab.host.name, *as_person(lab, "alice", *wish, "5m")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waits:
        queue = "answer = rows('SELECT state, user FROM queue ORDER BY id DESC LIMIT 1')"
        assert until(lambda: lab.root(queue) == [{"state": "waiting", "user": "alice"}])
        lab.sh("bob", "docker rm -f 0-0")
        said, errors = waits.communicate(timeout=120)
    assert (waits.returncode, said) == (0, "train runs: `container attach train`\n"), errors
    assert held(lab) == [("0:0", "running")]
    assert inside(do) == uuids(lab)


def test_a_program_runs_once_and_its_container_is_gone(lab: GpuHost, do: Commands):
    do.gateway.host.sh(f"install -d -o {do.uid} {HOME}/sets; echo 1 >{HOME}/sets/train.csv")
    script = f"id -un; pwd; cat /sets/train.csv; echo kept >result; {GIVEN}; touch /sets/x || exit 7"

    done = do("ds01-run", "-v", f"{HOME}/sets:/sets:ro", SHELL, "bash", "-c", script)
    assert done.returncode == 7, done
    *said, given = done.stdout.splitlines()
    assert said == ["alice", "/workspace", "1"]
    assert given.startswith("MIG-")
    assert do.gateway.host.sh(f"cat {HOME}/workspace/result") == "kept\n"
    assert until(lambda: lab.leases() == [])
    # Also in an image without bash, with what comes from another program.
    argv = as_person(lab, "alice", "ds01-run", "--cpu-only", "ds01-lab/base", "sh", "-c", "cat; exit 3")
    done = lab.host.run(*argv, stdin=b"piped\n", check=False)
    assert (done.returncode, done.stdout) == (3, "piped\n")
    assert do("ds01-run", "--cpu-only", SHELL, "nosuch").returncode == 127
    refused(do("ds01-run", "--cpu-only", "ds01-lab/base"), 1, "an image without bash")
    refused(do("ds01-run", "nosuch/image"), 5, "no such image")
    refused(do("ds01-run", "-v", "here:there", SHELL), 2, "DIR:DIR")
    refused(do("ds01-run", "--json", SHELL), 2, "--dry-run")
    assert (do.containers(), do.tags()) == ([], [])
    # What it prints as docker's is the same.
    plan = do.ok("ds01-run", "--dry-run", "--json", "--cpu-only", "-n", "one", SHELL, "id", "-u")
    assert do.ok(*json.loads(plan)["docker_run"]) == f"{do.uid}\n"


def test_a_shell_for_once_at_a_terminal(lab: GpuHost, do: Commands):
    # Those that are usual mean something on the way to the host already.
    lab.host.sh(f"install -d {HOME}/.docker")
    lab.host.write(f"{HOME}/.docker/config.json", '{"detachKeys": "ctrl-e,e"}')
    one = Terminal(do.gateway, "alice", "ds01-run", "-n", "once", SHELL)
    one.see(r"\[once\] alice@once:/workspace\$ ")
    assert [state for _, state in held(lab)] == ["running"]
    # Ctrl-C is the program's.
    one.type("sh -c 'echo beg${x}un; exec sleep 600'; echo not\n")
    # Before it runs, bash may take Ctrl-C for itself and wait for the program all the same.
    one.see("begun\r\n")
    one.type("\x03")
    one.see(r"\[once\] alice@once:/workspace\$ ")
    # What is left with docker's keys runs on.
    one.type("\x05e")
    one.see("once runs on: `docker attach once` comes back to it")
    assert one.close() == 0
    two = Terminal(do.gateway, "alice", "docker", "attach", "once")
    two.type("\n")
    two.see(r"alice@once:/workspace\$ ")
    two.type("exit 5\n")
    assert two.close() == 5
    assert until(lambda: (do.containers(), lab.leases()) == ([], []))
    busy = Terminal(do.gateway, "alice", "ds01-run", "--cpu-only", SHELL, "bash", "-c", "echo begun; exec sleep 600")
    busy.see("begun")
    busy.type("\x03")
    assert busy.close() == 130
    # The name of its image that the first one had stays where nobody waited for its end.
    assert (do.containers(), do.tags()) == ([], [f"ds01-{do.uid}/ds01-lab/shell:once._.{do.uid}"])
