"""GPUs through the gateway: two people, four devices, and what the engine and the ledger have of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ds01.cdi.spec import qualified
from tests.integration.gateway.gateway_host import SOCKET, GatewayHost
from tests.integration.gateway.gpu_host import KILL, LEDGER, POLICY, GpuHost, until, with_gpus

IMAGE = "ds01-lab/base"
# What a later exec finds in its environment is the engine's; the first process has what CDI gave.
GIVEN = "tr '\\0' '\\n' </proc/1/environ | sed -n s/^DS01_GPUS=//p"
SEEN = f'ls /dev/nvidia-caps; ls /dev | grep "^nvidia[0-9]"; {GIVEN}'


pytestmark = pytest.mark.usefixtures("all_free")


@pytest.fixture(scope="module")
def lab(gateway: GatewayHost) -> GpuHost:
    return with_gpus(gateway)


def run(lab: GpuHost, user: str, name: str, *options: str) -> str:
    return lab.sh(user, f"docker run -d --stop-signal KILL --name {name} {' '.join(options)} {IMAGE} sleep 300")


def held(lab: GpuHost, user: str) -> list[str]:
    return [f"{row['gpu_index']}:{row['mig_index']} {row['state']}" for row in lab.leases() if row["user"] == user]


def nodes(lab: GpuHost, uuid: str) -> set[str]:
    """The device nodes of a device, by NVIDIA's own spec."""
    script = "import json, yaml; print(json.dumps(yaml.safe_load(open('/etc/cdi/nvidia.yaml'))['devices']))"
    devices = {row["name"]: row["containerEdits"] for row in json.loads(lab.host.run("python3", "-c", script).stdout)}
    return {node["path"].rpartition("/")[2] for node in devices[uuid]["deviceNodes"]}


def refused(lab: GpuHost, user: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of a create that must not be."""
    code = f"curl -s -o - -w '\\n%{{http_code}}' --unix-socket {SOCKET} -H 'Content-Type: application/json'"
    said = lab.sh(user, f"{code} -d '{json.dumps({'Image': IMAGE, **body})}' 'http://x/containers/create?name=no'")
    answer, _, status = said.rpartition("\n")
    assert int(status) >= 400, said
    return int(status), json.loads(answer)


def test_each_has_exactly_the_devices_of_their_lease(lab: GpuHost):
    assert "WARNING" not in run(lab, "alice", "one", "--gpus", "1")
    said = run(lab, "bob", "all", "--gpus", "all")
    assert "--gpus all is what you may have: 2" in said
    uuids: dict[str, list[str]] = {"alice": [], "bob": []}
    for row in lab.leases():
        assert row["state"] == "running"
        uuids[row["user"]].append(row["device"])
    assert (len(uuids["alice"]), len(uuids["bob"])) == (1, 2)
    assert not set(uuids["alice"]) & set(uuids["bob"])
    for user, name in (("alice", "one"), ("bob", "all")):
        *seen, given = lab.run(user, "docker", "exec", name, "sh", "-c", SEEN).stdout.splitlines()
        assert set(given.split(",")) == set(uuids[user])
        assert set(seen) == set().union(*(nodes(lab, uuid) for uuid in uuids[user])), "nodes in the container"
        engine = lab.inspect(f"{name}._.{lab.uid[user]}")
        token = engine["Config"]["Labels"]["ds01.gpu.token"]
        (stored,) = engine["HostConfig"]["DeviceRequests"]
        assert (stored["Driver"], stored["DeviceIDs"]) == ("cdi", [qualified(token)])
        assert token in {row["token"] for row in lab.leases() if row["user"] == user}
        # Its owner sees what was asked, which a tool can send again.
        (shown,) = json.loads(lab.sh(user, f"docker inspect {name}"))[0]["HostConfig"]["DeviceRequests"]
        assert (shown["Count"], shown["Capabilities"]) == (1 if user == "alice" else -1, [["gpu"]])
    # Others see neither the container nor its devices, and there is a fourth for nobody but alice.
    assert "you may" not in lab.sh("alice", "docker exec all true")
    status, answer = refused(lab, "bob", {"HostConfig": {"DeviceRequests": [{"Count": 1, "Capabilities": [["gpu"]]}]}})
    assert (status, answer["rule"], answer["current"], answer["limit"]) == (403, "max_mig_instances", 2, 2)
    assert "give one back first" in answer["fix"]
    assert "update" not in lab.sh("alice", "docker update --memory 64m one")
    assert lab.sh("alice", "docker rm -f one").strip() == "one"
    assert until(lambda: held(lab, "alice") == [])


HOOK = """
import pathlib, yaml
spec = pathlib.Path("/etc/cdi/nvidia.yaml")
read = yaml.safe_load(spec.read_text())
hook = {"hookName": "createContainer", "path": "/root/hook", "args": ["hook"]}
read["containerEdits"] = read.get("containerEdits", {}) | {"hooks": [hook]}
spec.write_text(yaml.safe_dump(read))
"""


def test_what_prepares_gpus_as_root_loads_nothing_of_a_persons(lab: GpuHost):
    lab.host.write("/root/hook", "#!/bin/sh\nenv >/root/hook-environment\n", 0o755)
    lab.host.sh("cp /etc/cdi/nvidia.yaml /root/nvidia.yaml")
    lab.sh("alice", f"docker create --name m {IMAGE}; docker commit -c 'ENV LD_AUDIT=/evil.so' m evil; docker rm m")
    wishes = "-e MARK=1 -e LD_PRELOAD=/proc/self/cwd/evil.so -e LD_LIBRARY_PATH=/usr/lib:/tmp/evil"
    try:
        lab.host.run("python3", "-c", HOOK)
        said = lab.sh("alice", f"docker run --name gpu --gpus 1 {wishes} evil true")
        hook = lab.host.sh("cat /root/hook-environment").splitlines()
    finally:
        lab.host.sh("mv /root/nvidia.yaml /etc/cdi/nvidia.yaml")
    unwarned = lab.sh("alice", f"docker create --name plain {wishes} evil")
    stored = {name: set(lab.inspect(f"{name}._.{lab.uid['alice']}")["Config"]["Env"]) for name in ("gpu", "plain")}
    lab.sh("alice", "docker rm -f gpu plain; docker rmi evil")
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin" in hook
    assert not [entry for entry in hook if entry.startswith(("LD_", "MARK="))], "runc gave it the container's"
    for name in ("LD_PRELOAD: /proc/self/cwd/evil.so", "LD_AUDIT: /evil.so", "LD_LIBRARY_PATH: /tmp/evil"):
        assert f"WARNING: {name} was left out" in said
    loaded = {
        name: {entry for entry in entries if entry.startswith(("LD_", "MARK="))} for name, entries in stored.items()
    }
    assert loaded["gpu"] == {"MARK=1", "LD_PRELOAD=", "LD_AUDIT=", "LD_LIBRARY_PATH=/usr/lib"}
    assert loaded["plain"] == {"LD_AUDIT=/evil.so", *wishes.replace("-e ", "").split()}, "nothing of root's runs there"
    assert "left out" not in unwarned


NAMED = [
    {"DeviceRequests": [{"DeviceIDs": ["1:0"], "Capabilities": [["gpu"]]}]},
    {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=1:0"]}]},
    {"Devices": [{"PathOnHost": "nvidia.com/gpu=1:0"}]},
    {"DeviceRequests": [{"Driver": "nvidia", "DeviceIDs": ["1:0"], "Options": {"x": "y"}}], "Runtime": "nvidia"},
]


def test_a_device_by_name_is_that_one_in_every_spelling(lab: GpuHost):
    code = """
def main(bodies):
    import json
    found = []
    for body in bodies:
        raw = json.dumps(body).encode()
        head = f"HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: {len(raw)}\\r\\n\\r\\n".encode()
        found.append(talk(b"POST /containers/create?name=named " + head + raw, wait=120))
        end = b" HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"
        found.append(talk(b"GET /containers/named/json" + end, wait=120))
        talk(b"DELETE /containers/named" + end, wait=120)
    return found
"""
    bodies: list[dict[str, Any]] = [{"Image": IMAGE, "HostConfig": host} for host in NAMED]
    bodies.append({"Image": IMAGE, "Env": ["NVIDIA_VISIBLE_DEVICES=1:0", "A=b"], "HostConfig": {"Runtime": "nvidia"}})
    answers = lab.python("alice", code, bodies=bodies)
    for body, created, stored in zip(bodies, answers[::2], answers[1::2], strict=True):
        assert "201 Created" in created[:20], (body, created)
        found = json.loads(stored.partition("\r\n\r\n")[2])
        assert found["HostConfig"]["Devices"] in (None, [])
        assert found["HostConfig"]["Runtime"] == "runc"
        assert "NVIDIA_VISIBLE_DEVICES=void" in found["Config"]["Env"]
        assert found["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["1:0"]
    # Removed again, one after the other, and each time the device was free for the next.
    assert until(lambda: lab.leases() == [])
    # A whole GPU, one that is not there, and one that another has: refused, and nothing else in their place.
    run(lab, "bob", "has", "--gpus", "device=1:0")
    for name in ("1:0", "0", "2", "7:7", "GPU-00000000-0000-0000-0000-000000000000"):
        status, answer = refused(lab, "alice", {"HostConfig": {"DeviceRequests": [{"DeviceIDs": [name]}]}})
        assert status in {403, 409}, (name, answer)
        assert answer["rule"], name
    assert held(lab, "alice") == []
    assert "has no container" not in lab.sh("alice", "docker ps -a")


def test_compose_gets_a_gpu_once_and_gives_it_back(lab: GpuHost):
    asked = {"reservations": {"devices": [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]}}
    train = {"image": IMAGE, "command": "sleep 300", "stop_signal": "KILL", "deploy": {"resources": asked}}
    project = json.dumps({"services": {"train": train}})
    lab.run("alice", "sh", "-c", "mkdir -p ~/gpu; cat >~/gpu/compose.yaml", stdin=project.encode())
    compose = ("docker", "compose", "-f", "/home/alice/gpu/compose.yaml")
    lab.run("alice", *compose, "up", "-d")
    *seen, given = lab.run("alice", *compose, "exec", "-T", "train", "sh", "-c", SEEN).stdout.splitlines()
    assert (len(held(lab, "alice")), set(seen)) == (1, nodes(lab, given))
    # It is what was asked for, so nothing is made again.
    before = lab.leases()
    assert "Recreate" not in lab.run("alice", *compose, "up", "-d").stderr
    assert lab.leases() == before
    lab.run("alice", *compose, "down")
    assert until(lambda: held(lab, "alice") == [])


def test_a_claim_follows_the_name_of_its_container(lab: GpuHost):
    run(lab, "alice", "a1", "--gpus", "1")
    name = "SELECT container_name FROM claims WHERE state = 'open' AND user = 'alice'"
    suffix = f"._.{lab.uid['alice']}"
    lab.sh("alice", "docker rename a1 a2")
    assert lab.root(f"answer = rows({name!r})") == [{"container_name": f"a2{suffix}"}], "at once"
    # Of a new one with the old name nothing is given back.
    lab.sh("alice", f"docker create --name a1 {IMAGE}")
    release = f"curl -s --unix-socket {SOCKET} -X DELETE http://x/ds01/v1/leases/"
    assert "no container with GPUs has that name" in lab.sh("alice", f"{release}a1")
    assert "a2 runs on it" in lab.sh("alice", f"{release}a2")
    # At the engine, past the gateway.
    lab.host.sh(f"docker rename a2{suffix} a3{suffix}")
    assert until(lambda: lab.root(f"answer = rows({name!r})") == [{"container_name": f"a3{suffix}"}])
    lab.sh("alice", "docker rm -f a1")
    lab.host.sh(f"docker rm -f a3{suffix}")
    assert until(lambda: held(lab, "alice") == [])


def test_environment_alone_gives_nothing_and_says_so(lab: GpuHost):
    said = lab.sh("alice", f"docker run --rm -e NVIDIA_VISIBLE_DEVICES=all -e CUDA_VISIBLE_DEVICES=3 {IMAGE} env")
    assert "NVIDIA_VISIBLE_DEVICES gives no GPU here" in said
    assert "NVIDIA_VISIBLE_DEVICES=void" in said
    # Images of AIME, and many of NVIDIA's, say it by themselves.
    env = "-c 'ENV NVIDIA_VISIBLE_DEVICES=all'"
    lab.sh("alice", f"docker create --name m {IMAGE}; docker commit {env} m everything; docker rm m")
    shown = "run --rm everything sh -c 'ls /dev | grep -c nvidia[0-9] || true'"
    assert lab.sh("alice", f"docker {shown}").split()[-1] == "0"
    assert lab.sh("alice", f"docker {shown.replace('--rm', '--rm --gpus 1')}").split()[-1] == "1"
    said = lab.sh("alice", f"docker run --rm --device /dev/nvidiactl {IMAGE} ls /dev")
    assert "WARNING" in said
    assert "nvidiactl" not in said.replace("--device /dev/nvidiactl", "")
    said = lab.sh("alice", f"docker run --rm --gpus 1 -e CUDA_VISIBLE_DEVICES=3 {IMAGE} env")
    assert "CUDA_VISIBLE_DEVICES=3 was left out" in said
    # What the engine removes by itself is free once the reconciler has seen it.
    assert until(lambda: held(lab, "alice") == [])


def test_dev_containers_see_whether_there_is_a_gpu_to_ask_for(lab: GpuHost):
    """They look for NVIDIA's runtime by its name, which the engine here does not have, and ask with --gpus then."""
    look = "docker info --format '{{.Runtimes.nvidia}}'"
    assert "nvidia-container-runtime" not in lab.host.sh(look)
    try:
        assert "nvidia-container-runtime" in lab.sh("alice", look)
        assert "DS01_GPUS=" in lab.sh("alice", f"docker run --rm --runtime nvidia --gpus all {IMAGE} env")
        lab.tables(POLICY.replace("max_mig_instances: 2", "max_mig_instances: 0"))
        assert until(lambda: "nvidia-container-runtime" not in lab.sh("alice", look))
    finally:
        lab.tables(POLICY)
        until(lambda: "nvidia-container-runtime" in lab.sh("alice", look))


def test_a_start_asks_again_and_says_why_not(lab: GpuHost):
    run(lab, "alice", "large", "--gpus", "count=1,options=profile=3g.40gb")
    assert held(lab, "alice") == ["0:0 running"]
    lab.sh("alice", "docker rm -f large")
    run(lab, "alice", "job", "--gpus", "2")
    mine = set(held(lab, "alice"))
    lab.sh("alice", "docker stop -t 1 job")
    assert until(lambda: [row["state"] for row in lab.leases()] == ["held", "held"])
    lab.sh("alice", "docker start job")
    assert {one.replace("held", "running") for one in held(lab, "alice")} == mine, "the same devices"
    lab.sh("alice", "docker restart -t 1 job")
    lab.look()
    assert until(lambda: set(held(lab, "alice")) == mine)
    lab.sh("alice", "docker kill job")
    assert until(lambda: all(row["state"] == "held" for row in lab.leases()))
    lab.give_away("alice")
    run(lab, "bob", "other", "--gpus", "2")
    # Two are free, whichever: an equal number is as good.
    lab.sh("alice", "docker start job")
    assert len(held(lab, "alice")) == 2
    assert not set(held(lab, "alice")) & set(held(lab, "bob"))
    lab.sh("alice", "docker kill job")
    assert until(lambda: {row["state"] for row in lab.leases() if row["user"] == "alice"} == {"held"})
    lab.give_away("alice")
    run(lab, "carol", "third", "--gpus", "1")
    said = lab.sh("alice", "docker start job")
    assert "1 of 2 GPU devices free" in said
    assert "wait for one" in said
    # Neither the engine nor root starts it past the ledger.
    job = f"job._.{lab.uid['alice']}"
    assert "unresolvable CDI devices" in lab.host.sh(f"docker start {job} 2>&1 || true")
    assert lab.inspect(job)["State"]["Running"] is False
    # Without a hold, what stops is free for the next command.
    said = lab.sh("carol", f"docker stop -t 1 third; docker run -d --name fourth --gpus 2 {IMAGE} sleep 99")
    assert len(held(lab, "carol")) == 2, said


def test_a_container_waits_for_a_gpu(lab: GpuHost):
    run(lab, "bob", "first", "--gpus", "device=0:0")
    wanted = f"docker run --rm --label ds01.wait=10m --gpus device=0:0 {IMAGE} sh -c 'echo $DS01_GPUS'"
    waits = lab.start("alice", wanted)
    queue = "answer = rows('SELECT state, user FROM queue ORDER BY id DESC LIMIT 1')"
    assert until(lambda: lab.root(queue) == [{"state": "waiting", "user": "alice"}])
    assert lab.sh("alice", "docker ps -aq") == ""
    gone = lab.start("bob", wanted)
    assert until(lambda: lab.root(queue) == [{"state": "waiting", "user": "bob"}])
    # Whoever goes away is out of the queue.
    lab.host.sh("pkill -f 'ds01.wait=10m.*device=0:0' -u bob")
    gone.communicate(timeout=120)
    assert until(lambda: lab.root(queue) == [{"state": "cancelled", "user": "bob"}])
    (lease,) = lab.leases()
    lab.sh("bob", "docker rm -f first")
    said, _ = waits.communicate(timeout=120)
    assert said.strip().endswith(lease["device"])
    # Its time is over, once the reconciler has seen that its container is gone.
    assert until(lambda: lab.leases() == [])
    run(lab, "bob", "again", "--gpus", "device=0:0")
    said = lab.sh("alice", wanted.replace("10m", "1s"))
    assert "nothing was free within 1 s" in said
    assert "expected more than 0s" in lab.sh("alice", wanted.replace("10m", "25h"))
    assert "a duration with a unit" in lab.sh("alice", wanted.replace("10m", "40"))
    assert "a duration with a unit" in lab.sh("alice", wanted.replace("10m", "''"))
    # A start waits as well, for its own container.
    lab.sh("alice", f"docker create --name mine --label ds01.wait=10m --gpus device=0:1 {IMAGE} sleep 99")
    lab.give_away("alice")
    run(lab, "carol", "takes", "--gpus", "device=0:1")
    start = lab.start("alice", "docker start mine")
    assert until(lambda: lab.root(queue) == [{"state": "waiting", "user": "alice"}])
    lab.sh("carol", "docker rm -f takes")
    assert start.communicate(timeout=120)[0].strip() == "mine"
    assert held(lab, "alice") == ["0:1 running"]


def test_a_grant_of_an_administrators_is_taken_by_its_token(lab: GpuHost):
    token = lab.root(
        "import pwd\nlab = allocator()\n"
        "answer = lab.allocate(lab.people.person(pwd.getpwnam('alice').pw_uid, 'alice', jobs._now()), Request()).token"
    )
    option = f"--device {qualified(token)}"
    assert "is not one of yours" in run(lab, "bob", "theft", option)
    assert "is not one of yours" in run(lab, "alice", "none", f"--device {qualified('f' * 32)}")
    run(lab, "alice", "given", option)
    (lease,) = lab.leases()
    assert (lease["token"], lease["state"]) == (token, "running")
    assert lab.run("alice", "docker", "exec", "given", "sh", "-c", GIVEN).stdout.strip() == lease["device"]
    assert "is not one of yours" in run(lab, "alice", "second", option)


def test_a_container_from_before_starts_as_it_was(lab: GpuHost):
    """Made past DS01, with a device and no claim: its owner may restart it, and nobody else is given what it uses."""
    name = f"old._.{lab.uid['alice']}"
    (uuid,) = lab.root(
        "answer = [row['uuid'] for row in rows('SELECT * FROM devices WHERE gpu_index = 1 AND mig_index = 1')]"
    )
    lab.host.sh(f"docker create --name {name} --stop-signal KILL --device nvidia.com/gpu={uuid} {IMAGE} sleep 300")
    lab.look()
    for command in ("start", "restart -t 1"):
        assert lab.sh("alice", f"docker {command} old").strip() == "old"
        seen = lab.run(
            "alice", "docker", "exec", "old", "sh", "-c", "ls /dev/nvidia-caps; ls /dev | grep '^nvidia[0-9]'"
        )
        assert set(seen.stdout.split()) == nodes(lab, uuid)
    lab.look()
    assert lab.leases() == []
    status, answer = refused(lab, "bob", {"HostConfig": {"DeviceRequests": [{"DeviceIDs": ["1:1"]}]}})
    assert (status, answer["rule"]) == (409, "gpu.foreign")


@pytest.mark.parametrize("step", ["allocate", "bind", "start"])
def test_a_gateway_that_is_killed_between_two_steps_leaves_no_lease(lab: GpuHost, step: str):
    lab.host.write(KILL, step)
    run(lab, "alice", "job", "--gpus", "1")
    assert until(lambda: "ok" in lab.sh("alice", "docker ps >/dev/null && echo ok"))
    (lease,) = lab.leases()
    assert lease["state"] == {"allocate": "pending", "bind": "bound", "start": "running"}[step]
    made = lab.sh("alice", "docker ps -a --format '{{.Names}}'").split()
    assert made == ([] if step == "allocate" else ["job"])
    # What a while later is seen: nobody came, nobody started it, and nothing runs.
    lab.root("rows('UPDATE leases SET expires = expires - 3600000, started = started - 3600000')")
    lab.look()
    assert [row["state"] for row in lab.leases()] == ([] if step != "start" else ["held"])
    if made:
        lab.sh("alice", "docker start job")
        assert held(lab, "alice") != []
        lab.sh("alice", "docker rm -f job")
    assert until(lambda: lab.leases() == [])


HOLDS = (
    f"import sqlite3, time; c = sqlite3.connect('{LEDGER}', isolation_level=None, timeout=60);"
    " c.execute('BEGIN EXCLUSIVE'); open('/run/gw/locked', 'w').close(); time.sleep(600)"
)
BROKEN = {
    "locked": (
        f'systemd-run -q --unit=gw-lock python3 -c "{HOLDS}"; until [ -e /run/gw/locked ]; do sleep 0.1; done',
        "systemctl stop gw-lock",
    ),
    "missing": (f"mv {LEDGER} {LEDGER}.away", f"mv {LEDGER}.away {LEDGER}"),
    "read-only": (
        f"mount --bind {LEDGER} {LEDGER}; mount -o remount,bind,ro {LEDGER}; systemctl restart gw",
        f"umount {LEDGER}",
    ),
    "corrupt": (
        f"mv {LEDGER} {LEDGER}.away; head -c 20000 /dev/urandom >{LEDGER}",
        f"mv {LEDGER}.away {LEDGER}",
    ),
}


def test_without_a_ledger_only_gpus_are_refused(lab: GpuHost):
    run(lab, "bob", "works", "--gpus", "1")
    run(lab, "alice", "plain")
    # The reconciler would make a new ledger at once.
    lab.host.sh("systemctl stop gw-reconcile; systemctl reset-failed")
    for trouble, (begin, end) in BROKEN.items():
        lab.host.sh(begin)
        try:
            assert lab.sh("alice", f"docker run --rm {IMAGE} echo fine").strip() == "fine", trouble
            said = lab.sh("alice", f"docker run --rm --gpus 1 {IMAGE} echo wrong")
            assert LEDGER in said, trouble
            assert "wrong" not in said, trouble
            assert lab.sh("alice", "docker exec plain echo here").strip() == "here", trouble
            given = lab.run("bob", "docker", "exec", "works", "sh", "-c", GIVEN).stdout
            assert given.startswith("MIG-"), trouble
        finally:
            lab.host.sh(end)
    lab.host.sh("systemd-run -q --unit=gw-reconcile python3 /root/ds01-gateway-test/jobs.py follow")
    lab.look()
    assert held(lab, "bob") != []
    assert lab.sh("alice", f"docker run --rm --gpus 1 {IMAGE} echo fine").strip() == "fine"


# What took people's work on the system before this one: clean-ups of others and of jobs, a time zone, a driver that was
# away, and systemd, whose reload closed the devices of running containers.
CLEANUP = "docker rm -f job rests; docker container prune -f; docker network prune -f; docker volume prune -af"
ENFORCE = """
import os, time
from ds01.lifecycle import passes
os.environ["TZ"] = "Europe/Berlin"
time.tzset()
where = passes.Place(ledger=place.ledger, policy=place.policy, history=pathlib.Path("/nowhere"),
                     tables=jobs.load_tables)
answer = [passes.runtime(where).lines + passes.cleanup(where).lines, jobs.compare(place).problems]
"""


def test_nobodys_cleanup_touches_a_live_job(lab: GpuHost):
    run(lab, "alice", "job", "--gpus", "1")
    run(lab, "alice", "rests")
    lab.sh("alice", "docker kill rests; docker volume create data")
    lab.look()

    def facts() -> tuple[Any, ...]:
        state = lab.inspect(f"job._.{lab.uid['alice']}")["State"]
        opened = lab.sh("alice", "docker exec job sh -c 'for d in /dev/nvidia[0-9]; do : <$d; done 2>&1'")
        return state["Pid"], state["StartedAt"], held(lab, "alice"), opened, lab.sh("alice", "docker ps -aq | sort")

    before = facts()
    assert before[2][0].endswith("running")
    assert "not permitted" not in before[3]
    for user in ("bob", "carol"):
        lab.sh(user, CLEANUP)
        assert facts() == before, user
    assert "data" in lab.sh("alice", "docker volume ls -q")
    assert lab.root(ENFORCE) == [[], []]
    for trouble, end in (("nvmlsim driver unload", "nvmlsim driver load"), ("systemctl daemon-reload", "true"),
                         ("systemctl restart gw.service", "true")):  # fmt: skip
        lab.host.sh(trouble)
        try:
            assert lab.root(ENFORCE)[0] == [], trouble
        finally:
            lab.host.sh(end)
        lab.look()
        assert facts() == before, trouble
