"""The engine's set-up on a real one: containers run on, whatever happens meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.testhost import LabHost

CODE = "/root/ds01-engine-test"
# The host's own Python runs the package as Ansible ships it; at the step `kill_at` that changes something it is killed.
DRIVER = f"""
import json, os, sys
sys.path.insert(0, "{CODE}")
from ds01.engine import adopt
from ds01.engine.apply import EngineSetup, Wish
from ds01.engine.errors import EngineError
from ds01.engine.restore import EngineReturn
from ds01.slices.spec import SliceSpec
request = json.load(sys.stdin)
kill_at, steps = request.get("kill_at", 0), 0
CHANGING = {{"reload", "stop", "start", "daemon-reload", "enable", "--members"}}
def hook(event, args):
    global steps
    if event in {{"os.rename", "os.remove"}} or event == "subprocess.Popen" and CHANGING & set(args[1]):
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
SPEC = {{"groups": {{"student": {{}}}}, "unmanaged": {{}}, "default_group": "student"}}
result = {{}}
try:
    if request["do"] == "return":
        giver = EngineReturn()
        plan = giver.plan()
        result["survived"] = giver.apply(plan) if plan else []
        result["changed"] = plan is not None
    else:
        setup = EngineSetup(Wish(extra=request.get("settings", {{}})))
        plan = setup.plan()
        result = {{"changed": plan.changed, "keys": plan.keys, "restart": plan.restart, "members": plan.members}}
        if request["do"] == "apply" and plan.changed:
            outcome = setup.apply(plan, adopt.placement(SliceSpec.from_dict(SPEC)))
            result |= {{"survived": outcome.survived, "adopted": outcome.adopted}}
except EngineError as error:
    result["error"] = str(error)
print(json.dumps(result | {{"steps": steps}}))
"""
SETTINGS = '{"mtu": 1450}'
ALIVE = "docker inspect --format '{{.Name}} {{.State.Pid}} {{.State.Status}}' one._.4999 two"


class EngineHost:
    """A host with an ordinary engine, two containers that run, one that does not, and somebody in the group docker."""

    def __init__(self, host: LabHost) -> None:
        self.host = host
        self.before = host.sh(ALIVE)

    def do(self, what: str, **request: Any) -> dict[str, Any]:
        """Run the code on the host; a killed run answers nothing."""
        stdin = json.dumps({"do": what, **request}).encode()
        answer = self.host.run("python3", f"{CODE}/driver.py", stdin=stdin, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else {"status": answer.returncode}

    def unharmed(self) -> bool:
        """Whether both containers are the processes that they were."""
        return self.host.sh(ALIVE) == self.before

    def info(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return json.loads(self.host.sh("docker info --format '{{json .}}'"))


@pytest.fixture
def engine(lab_host: LabHost) -> Iterator[EngineHost]:
    lab_host.sh(
        "useradd -M veteran; usermod -aG docker veteran; mkdir -p /etc/docker;"
        f"printf '{SETTINGS}' >/etc/docker/daemon.json; chmod 640 /etc/docker/daemon.json;"
        "systemctl reset-failed docker; systemctl restart docker;"
        "docker run -d --name one._.4999 ds01-lab/base sleep 86400; docker run -d --name two ds01-lab/base sleep 86400;"
        f"docker create --name made._.4999 ds01-lab/base sleep 86400; mkdir -p {CODE}"
    )
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    found = EngineHost(lab_host)
    yield found
    found.do("return")
    lab_host.sh(
        "docker rm -f one._.4999 two made._.4999; rm -f /etc/docker/daemon.json; userdel veteran;"
        f"systemctl reset-failed docker; systemctl restart docker; rm -rf {CODE} /var/lib/ds01/engine"
    )


def test_it_is_set_up_once_and_containers_run_on(engine: EngineHost):
    result = engine.do("apply")
    assert result["survived"] == ["one._.4999", "two"]
    assert engine.unharmed()
    info = engine.info()
    assert (info["CgroupDriver"], info["LiveRestoreEnabled"], info["DefaultRuntime"]) == ("systemd", True, "runc")
    assert engine.host.sh("stat -c '%a %U %G' /run/docker.sock").split() == ["600", "root", "root"]
    assert engine.host.sh("getent group docker").strip().endswith(":")
    assert engine.host.sh("stat -c %a /etc/docker/daemon.json").strip() == "640"
    assert json.loads(engine.host.sh("cat /etc/docker/daemon.json"))["mtu"] == 1450
    again = engine.do("apply")
    assert not again["changed"]
    assert again["steps"] == 0


def test_a_look_changes_nothing(engine: EngineHost):
    before = engine.host.sh("cat /etc/docker/daemon.json; getent group docker; ls /etc/systemd/system /var/lib")
    result = engine.do("look")
    assert result["changed"]
    assert result["members"] == ["veteran"]
    assert result["steps"] == 0
    assert engine.host.sh("cat /etc/docker/daemon.json; getent group docker; ls /etc/systemd/system /var/lib") == before


def test_an_adopted_container_starts_in_its_owners_slice(engine: EngineHost):
    adopted = {entry["name"]: entry for entry in engine.do("apply")["adopted"]}
    assert adopted["made._.4999"]["slice"] == "ds01-student-4999.slice"
    assert adopted["two"]["owner"] is None
    engine.host.sh("docker start made._.4999")
    pid = engine.host.sh("docker inspect --format '{{.State.Pid}}' made._.4999").strip()
    assert "/ds01-student-4999.slice/" in engine.host.sh(f"cat /proc/{pid}/cgroup")


def test_killed_at_any_step_the_next_run_completes_it(engine: EngineHost):
    killed = 0
    for step in range(1, 60):
        if engine.do("apply", kill_at=step).get("status") != 137:
            break
        killed += 1
        # Whoever uses the machine meanwhile may need the engine; systemd has its own idea of when to start it.
        result = engine.do("apply")
        assert "error" not in result, (step, result)
        assert engine.unharmed(), step
        assert not engine.do("look")["changed"], step
        assert "error" not in engine.do("return")
        assert engine.unharmed(), step
    assert killed > 8


def test_a_broken_file_is_named_and_left_alone(engine: EngineHost):
    engine.host.write("/etc/docker/daemon.json", "{broken")
    result = engine.do("apply")
    assert result["error"].startswith("/etc/docker/daemon.json: not JSON")
    assert engine.host.sh("cat /etc/docker/daemon.json") == "{broken"
    assert engine.unharmed()
    assert engine.host.sh("getent group docker").strip().endswith(":veteran")
    engine.host.sh("rm /etc/docker/daemon.json")


def test_an_engine_that_hangs_is_not_restarted(engine: EngineHost):
    dockerd = "$(systemctl show --property=MainPID --value docker)"
    engine.host.sh(f"kill -STOP {dockerd}")
    try:
        result = engine.do("apply")
    finally:
        engine.host.sh(f"kill -CONT {dockerd}")
    assert "no answer from the engine" in result["error"]
    assert engine.unharmed()
    assert engine.host.sh("cat /etc/docker/daemon.json") == SETTINGS


def test_settings_that_the_engine_does_not_know_are_refused_before_anything_happens(engine: EngineHost):
    before = engine.host.sh("cat /etc/docker/daemon.json; systemctl show --property=MainPID docker")
    assert "no-such-setting" in engine.do("apply", settings={"no-such-setting": 1})["error"]
    assert engine.host.sh("cat /etc/docker/daemon.json; systemctl show --property=MainPID docker") == before


def test_settings_with_which_it_does_not_start_are_taken_back(engine: EngineHost):
    result = engine.do("apply", settings={"data-root": "/proc/nowhere"})
    assert "/proc/nowhere" in result["error"]
    assert engine.unharmed()
    assert "data-root" not in json.loads(engine.host.sh("cat /etc/docker/daemon.json"))
    assert "error" not in engine.do("apply")
    assert engine.unharmed()


def test_it_is_given_back_as_it_was(engine: EngineHost):
    engine.do("apply")
    engine.do("return")
    assert engine.unharmed()
    assert engine.host.sh("cat /etc/docker/daemon.json") == SETTINGS
    assert engine.host.sh("getent group docker").strip().endswith(":veteran")
    assert engine.host.sh("stat -c %a /run/docker.sock").strip() == "660"
    assert not engine.info()["LiveRestoreEnabled"]
    assert engine.host.sh("docker inspect --format '{{.HostConfig.CgroupParent}}' made._.4999").strip() == ""
    assert (
        engine.host.sh("ls /var/lib/ds01/engine /etc/systemd/system/docker.socket.d 2>&1 || true").count("No such") == 2
    )
    assert not engine.do("return")["changed"]


def test_an_engine_that_reads_its_file_late_is_given_back_all_the_same(engine: EngineHost):
    late = "/run/systemd/system/docker.service.d/late.conf"
    reload = (
        "kill -STOP $MAINPID; kill -HUP $MAINPID;"
        " systemd-run --collect --on-active=3 --timer-property=AccuracySec=100ms kill -CONT $MAINPID"
    )
    engine.do("apply")
    engine.host.sh("mkdir -p /run/systemd/system/docker.service.d")
    engine.host.write(late, f"[Service]\nExecReload=\nExecReload=/bin/sh -euc '{reload}'\n")
    engine.host.sh("systemctl daemon-reload")
    try:
        engine.do("return")
        assert not engine.info()["LiveRestoreEnabled"]
    finally:
        engine.host.sh(f"rm {late}; systemctl daemon-reload")
    assert engine.host.sh("cat /etc/docker/daemon.json") == SETTINGS
    assert engine.unharmed()


def test_without_an_engine_it_predicts(engine: EngineHost):
    hide = "for f in /usr/sbin/dockerd /usr/lib/systemd/system/docker.service /usr/lib/systemd/system/docker.socket; do"
    engine.host.sh(f"systemctl stop docker docker.socket; {hide} mv $f $f.hidden; done; systemctl daemon-reload")
    try:
        result = engine.do("look")
    finally:
        engine.host.sh(
            f"{hide} mv $f.hidden $f; done; systemctl daemon-reload; systemctl reset-failed; systemctl start docker"
        )
    assert result["changed"]
    assert "cgroup-parent" in result["keys"]
