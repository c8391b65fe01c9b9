"""What a container gets is decided by its claim's spec at each start, by the engine itself."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from ds01.reconcile.containers import seen_container
from lab.testhost import LabHost

ONE, TWO = "1" * 32, "2" * 32
CODE = "/root/ds01-cdi-test"
DAEMON = "/etc/docker/daemon.json"
# Devices that every kernel has stand for GPUs: the engine neither knows nor cares.
NODES = {"GPU-a": [60], "MIG-b": [61, 63, 64], "MIG-c": [61, 63, 65]}
BASE = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "deviceNodes": [{"path": "/dev/ds01-test-ctl"}]},
    "devices": [
        {"name": uuid, "containerEdits": {"deviceNodes": [{"path": f"/dev/ds01-test{number}"} for number in numbers]}}
        for uuid, numbers in NODES.items()
    ],
}
DRIVER = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from ds01.cdi.files import SpecFiles
token, devices = sys.argv[1], sys.argv[2:]
specs = SpecFiles()
specs.write(token, devices) if devices else specs.remove(token)
"""


STARTER = f"""
import sys
sys.path.insert(0, "{CODE}")
from ds01.engine.api import Engine
Engine().start(sys.argv[1])
"""


class Engine:
    """A real engine with CDI switched on, and a base spec."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def give(self, token: str, *uuids: str) -> None:
        self.host.run("python3", "-c", DRIVER, token, *uuids)

    def create(self, name: str, token: str) -> None:
        self.host.sh(
            f"docker create --name {name} --network none --device ds01.io/gpu={token} ds01-lab/base"
            " sh -c 'ls /dev | grep ds01 | xargs; echo $DS01_GPUS'"
        )

    def left_behind(self, name: str) -> bool:
        (found,) = json.loads(self.host.sh(f"docker inspect {name}"))
        return seen_container(found, "runc").left_behind

    def start(self, name: str) -> subprocess.CompletedProcess[str]:
        return self.host.run("docker", "start", "--attach", name, check=False)

    def sees(self, name: str) -> tuple[str, str]:
        # It notices a change by itself; until then there is no start.
        end = time.monotonic() + 60
        while (done := self.start(name)).returncode != 0 and time.monotonic() < end:
            time.sleep(0.1)
        assert done.returncode == 0, done.stderr
        nodes, uuids = done.stdout.splitlines()[-2:]
        return nodes, uuids


@pytest.fixture(scope="module")
def engine(lab_host: LabHost) -> Iterator[Engine]:
    before = lab_host.sh(f"cat {DAEMON} 2>/dev/null || true")
    lab_host.sh(f"mkdir -p {CODE} /etc/cdi /run/cdi")
    lab_host.copy("src/ds01", f"{CODE}/ds01")
    lab_host.sh("for n in 60 61 63 64 65 -ctl; do mknod /dev/ds01-test$n c 1 3; done")
    lab_host.write("/etc/cdi/nvidia.yaml", json.dumps(BASE))
    settings = json.loads(before or "{}")
    settings["features"] = settings.get("features", {}) | {"cdi": True}
    lab_host.write(DAEMON, json.dumps(settings))
    lab_host.sh("systemctl reset-failed docker; systemctl restart docker")
    yield Engine(lab_host)
    if before:
        lab_host.write(DAEMON, before)
    else:
        lab_host.sh(f"rm {DAEMON}")
    lab_host.sh(f"rm -rf {CODE} /etc/cdi /run/cdi /var/lib/ds01/cdi /dev/ds01-test*")
    lab_host.sh("systemctl reset-failed docker; systemctl restart docker")


@pytest.fixture(autouse=True)
def no_containers(engine: Engine) -> Iterator[None]:
    yield
    engine.host.sh("docker rm -f one two >/dev/null 2>&1 || true; rm -f /run/cdi/ds01* /var/lib/ds01/cdi/*")


def test_a_container_sees_what_its_claim_holds_at_each_start(engine: Engine) -> None:
    engine.give(ONE, "MIG-b")
    engine.create("one", ONE)
    assert engine.sees("one") == ("ds01-test-ctl ds01-test61 ds01-test63 ds01-test64", "MIG-b")
    for held, nodes in (("GPU-a", "60"), ("MIG-c", "61 63 65"), ("GPU-a", "60")):
        engine.give(ONE, held)
        assert engine.sees("one") == (
            " ".join(["ds01-test-ctl", *(f"ds01-test{number}" for number in nodes.split())]),
            held,
        )


def test_two_devices_that_share_nodes_start(engine: Engine) -> None:
    engine.give(ONE, "MIG-b", "MIG-c", "GPU-a")
    engine.create("one", ONE)
    nodes = "ds01-test-ctl ds01-test60 ds01-test61 ds01-test63 ds01-test64 ds01-test65"
    assert engine.sees("one") == (nodes, "MIG-b,MIG-c,GPU-a")


def test_no_spec_no_start(engine: Engine) -> None:
    engine.give(ONE, "GPU-a")
    engine.create("one", ONE)
    engine.sees("one")
    engine.give(ONE)
    done = engine.start("one")
    assert done.returncode != 0
    assert ONE in done.stderr
    assert engine.host.sh("docker inspect --format '{{.State.Running}}' one").strip() == "false"
    engine.give(ONE, "GPU-a")
    assert engine.sees("one")[1] == "GPU-a"


def test_a_spec_that_changed_a_moment_ago_is_never_the_old_one(engine: Engine) -> None:
    """The engine notices changes by itself: an immediate start gets the new devices, or does not happen."""
    again = DRIVER.replace("specs.write", "specs.remove(token); specs.write")
    engine.give(ONE, "GPU-a")
    engine.create("one", ONE)
    for held in ("MIG-b", "GPU-a", "MIG-c", "GPU-a") * 2:
        script = f"python3 - {ONE} {held} <<'END'\n{again}\nEND\ndocker start --attach one"
        done = engine.host.run("sh", "-ec", script, check=False)
        assert done.returncode != 0 or done.stdout.splitlines()[-1] == held


@pytest.mark.parametrize("odd", [{"cdiVersion": "9.9.9"}, {"cdiVersion": "0.3.0", "tomorrow": "unknown"}])
def test_a_base_that_the_engine_cannot_read_starts_nothing(engine: Engine, odd: dict[str, str]) -> None:
    engine.host.write("/etc/cdi/nvidia.yaml", json.dumps(BASE | odd))
    engine.give(ONE, "GPU-a")
    engine.create("one", ONE)
    assert engine.start("one").returncode != 0
    engine.host.write("/etc/cdi/nvidia.yaml", json.dumps(BASE))
    engine.give(ONE, "GPU-a")
    assert engine.sees("one")[1] == "GPU-a"


def test_what_an_engine_leaves_behind_at_its_start_is_known_and_can_be_started(engine: Engine) -> None:
    engine.give(ONE, "GPU-a")
    options = f"--network none --device ds01.io/gpu={ONE} ds01-lab/base sleep 1000"
    engine.host.sh(f"docker run --detach --name one --restart always {options}")
    engine.host.sh(f"docker create --name two --restart no {options}")
    assert not engine.left_behind("one"), "it runs"
    engine.host.sh("systemctl reset-failed docker; systemctl restart docker")
    # Where an engine learns to wait for its devices, there is nothing to do.
    running = engine.host.sh("docker inspect --format '{{.State.Running}}' one").strip() == "true"
    assert engine.left_behind("one") != running
    assert not engine.left_behind("two")
    engine.host.run("python3", "-c", STARTER, engine.host.sh("docker inspect --format '{{.Id}}' one").strip())
    assert "ds01-test60" in engine.host.sh("docker exec one ls /dev")
    assert not engine.left_behind("one")
    done = engine.host.run("python3", "-c", STARTER, "nobody", check=False)
    assert "NoSuchObjectError" in done.stderr


def test_the_tests_base_is_what_the_engine_takes_too(engine: Engine) -> None:
    assert "ds01-test60" in engine.host.sh(
        "docker run --rm --network none --device nvidia.com/gpu=GPU-a ds01-lab/base ls /dev"
    )
